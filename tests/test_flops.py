"""The counter on functions whose FLOPs are known by hand, and on towers, against formulas and XLA's own count."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from formulas import decoder_flops, vit_flops
from jax.sharding import PartitionSpec
from test_nn import naive

from abx import parallel
from abx.analysis.cost import flops, without_remat
from abx.nn import ActionDecoder, DecoderConfig, ViT, ViTConfig

KEY = jax.random.key(0)
S, D = ViTConfig(), DecoderConfig()
IMAGE = jax.ShapeDtypeStruct((224, 224, 3), jnp.uint8)


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def vit(config):
    return jax.eval_shape(lambda: ViT(config, key=KEY))


def decoder(config):
    return jax.eval_shape(lambda: ActionDecoder(config, 384, key=KEY))


A, B = floats(3, 5), floats(5, 7)
AB = 2 * 3 * 5 * 7


def test_products():
    assert flops(jnp.matmul, A, B) == AB
    assert flops(jax.vmap(jnp.matmul, (0, None)), floats(11, 3, 5), B) == 11 * AB
    assert flops(jax.vmap(jnp.matmul), floats(11, 3, 5), floats(11, 5, 7)) == 11 * AB
    assert flops(lambda a: jnp.einsum("abc,abc->b", a, a), floats(2, 3, 4)) == 2 * 24
    assert flops(lambda a: jnp.tanh(a + a).sum(), A) == 0


def test_convolution():
    """8 x 8 outputs of 6 channels, each a 3 x 3 window of 4 channels; of one channel where each has its own kernel."""
    layout = ("NHWC", "HWIO", "NHWC")
    run = lambda x, k, groups: jax.lax.conv_general_dilated(
        x, k, (2, 2), "SAME", dimension_numbers=layout, feature_group_count=groups
    )
    assert flops(lambda x, k: run(x, k, 1), floats(2, 16, 16, 4), floats(3, 3, 4, 6)) == 2 * 2 * 64 * 6 * 9 * 4
    assert flops(lambda x, k: run(x, k, 4), floats(2, 16, 16, 4), floats(3, 3, 1, 4)) == 2 * 2 * 64 * 4 * 9


def test_a_gradient_costs_twice_the_product():
    """One product for each factor that is wanted."""
    loss = lambda a, b: jnp.square(a @ b).sum()
    assert flops(jax.value_and_grad(loss), A, B) == 2 * AB
    assert flops(jax.value_and_grad(loss, (0, 1)), A, B) == 3 * AB
    assert flops(lambda a, b: loss(jax.lax.stop_gradient(a), b), A, B) == AB


def test_loops_and_branches():
    square, length = floats(4, 4), 6
    one = 2 * 4**3
    power = lambda x, w: jax.lax.scan(lambda x, _: (x @ w, None), x, length=length)[0]
    assert flops(power, square, square) == length * one
    nested = lambda x, w: jax.lax.scan(lambda x, _: (power(x, w), None), x, length=3)[0]
    assert flops(nested, square, square) == 3 * length * one
    assert flops(lambda x: jax.lax.map(lambda row: row @ row, x), floats(9, 5)) == 9 * 2 * 5
    branches = [lambda x: x, lambda x: x @ x, lambda x: x @ x @ x]
    assert flops(lambda i, x: jax.lax.switch(i, branches, x), jax.ShapeDtypeStruct((), jnp.int32), square) == 2 * one
    forever = lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)
    assert flops(forever, square) == one


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, jax.custom_jvp, jax.custom_vjp])
def test_what_is_wrapped_counts(wrap):
    product = wrap(lambda a, b: a @ b)
    if wrap is jax.custom_jvp:
        product.defjvps(None, None)
    elif wrap is jax.custom_vjp:
        product.defvjp(lambda a, b: (a @ b, (a, b)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
        assert flops(jax.value_and_grad(lambda a, b: product(a, b).sum(), (0, 1)), A, B) == 3 * AB
    assert flops(product, A, B) == AB


def test_all_devices_count():
    mesh, rows = parallel.mesh(jax.devices()[:4]), PartitionSpec(parallel.DATA)
    halves = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    assert flops(halves, floats(8, 5), B) == flops(jnp.matmul, floats(8, 5), B)


def test_what_is_not_used_does_not_count():
    def wasteful(a, b):
        unused = a @ b @ b.T

        def body(x, _):
            return x, (x @ b).sum()

        x, sums = jax.lax.scan(body, a, length=3)
        return x, (unused, sums)

    assert flops(wasteful, A, B) == 5 * AB
    assert flops(lambda a, b: wasteful(a, b)[0], A, B) == 0


def test_computing_again_counts_unless_left_out():
    """(a b) c needs a b for its gradient: computed again under a checkpoint, also deep inside a scan."""
    chain = lambda x, w: jax.checkpoint(lambda x: jnp.sin(jnp.sin(x @ w) @ w))(x)
    loss = lambda x, w: jax.lax.scan(lambda x, _: (chain(x, w), None), x, length=5)[0].sum()
    plain = lambda x, w: jax.lax.scan(lambda x, _: (jnp.sin(jnp.sin(x @ w) @ w), None), x, length=5)[0].sum()
    square = floats(4, 4)
    grads = jax.value_and_grad(plain, (0, 1))
    assert flops(jax.value_and_grad(loss, (0, 1)), square, square) > flops(grads, square, square)
    again = jax.value_and_grad(without_remat(loss, square, square), (0, 1))
    assert flops(again, square, square) == flops(grads, square, square) == 5 * 2 * 3 * 2 * 4**3


def test_without_remat_is_the_same_function(rng):
    x, w = (jnp.asarray(rng.normal(size=(4, 4)), jnp.float32) for _ in range(2))
    f = lambda x, parts: {"y": jax.checkpoint(lambda x: jnp.sin(x @ parts[0]))(x).sum(), "n": parts[1]}
    g = without_remat(f, x, (w, jnp.int32(3)))
    assert g(x, (w, jnp.int32(3))) == f(x, (w, jnp.int32(3)))


# Towers


def test_published_counts():
    assert flops(lambda m, x: m(x), vit(S), IMAGE) / 1e9 == pytest.approx(9.147, rel=1e-4)
    run = lambda n: flops(lambda d, t, a: d(t, a), decoder(D), floats(196, 384), floats(n, 4)) / 1e6
    assert [run(n) for n in (1, 2, 4, 8)] == pytest.approx([533, 604, 746, 1030], rel=1e-3)


@pytest.mark.parametrize("change", [{}, {"unroll": True}, {"remat": "none"}])
@pytest.mark.parametrize("pool", ["gap", "map", "token"])
def test_a_vit_is_its_formula(pool, change):
    config = replace(S, pool=pool, depth=3, **change)
    assert flops(lambda m, x: m.pool(m(x)), vit(config), IMAGE) == vit_flops(config)


@pytest.mark.parametrize(("packed", "run"), [(True, lambda d, t, a: d(t, a)), (False, naive)])
@pytest.mark.parametrize("n", [1, 8])
def test_a_decoder_is_its_formula(n, packed, run):
    counted = flops(run, decoder(D), floats(196, 384), floats(n, 4))
    assert counted == decoder_flops(D, 384, 196, n, packed=packed)


@pytest.mark.parametrize(("packed", "run"), [(True, lambda d, t, a: d(t, a)), (False, naive)])
def test_xla_counts_the_same(packed, run):
    """Within 4 %, unrolled (of a scan it counts the body once): XLA counts norms, softmax and GELU too."""
    args = decoder(replace(D, unroll=True)), floats(196, 384), floats(8, 4)
    counted = jax.jit(run).lower(*args).compile().cost_analysis()["flops"]
    assert counted == pytest.approx(flops(run, *args), rel=0.04)


def test_the_cost_of_n():
    per_view = lambda n: vit_flops(S) + decoder_flops(D, 384, 196, n)
    assert per_view(8) <= 1.10 * per_view(2)
    assert decoder_flops(D, 384, 196, 8, packed=False) >= 3.5 * decoder_flops(D, 384, 196, 8)
