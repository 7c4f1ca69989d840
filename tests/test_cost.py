"""A step's FLOPs against METHODS section 6, and its memory."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest
from conftest import TINY, TINY_AB, TINY_SIMCLR
from formulas import ab_flops, augmentation_flops, patch_gradient, simclr_flops

from abx import parallel, train
from abx.analysis.cost import step_flops, step_memory
from abx.methods import AB, SimCLR
from abx.optim import EMA, AdamW
from abx.types import ABBatch, Aux, Views

PAPER = AB(SimCLR())


def views(b, n, size):
    shape = jax.ShapeDtypeStruct
    return Views(shape((b, n, size, size, 3), jnp.uint8), shape((b, n, 4), jnp.float32))


def ab(method, annotations, images, n, reward_size=16, value_size=16):
    return step_flops(method, ABBatch(views(annotations, 2, reward_size), views(images, n, value_size)))


def test_published_costs():
    """GFLOP per view at 224 pixels and the paper's batches: SimCLR 27.6, AB over SimCLR with 2048 annotations 35.9."""
    simclr, ours = step_flops(SimCLR(), views(4096, 2, 224)), ab(PAPER, 2048, 1024, 4, 224, 224)
    assert simclr / 8192 / 1e9 == pytest.approx(27.6, rel=1e-3)
    assert ours / 8192 / 1e9 == pytest.approx(35.9, rel=1e-3)
    assert simclr == pytest.approx(simclr_flops(SimCLR(), 4096, 224), rel=2e-3)
    assert ours == pytest.approx(ab_flops(PAPER, 2048, 1024, 4, 224, 224), rel=2e-3)


def beyond_formula(method, images, size):
    """What a step of SimCLR has beyond the formula: augmentation and the similarities of the accuracy that is logged;
    and what it lacks: the gradient of the pixels, which nobody wants."""
    added = 2 * images * augmentation_flops(method.photometric, size) + 2 * images**2 * method.embed
    return added - 2 * images * patch_gradient(method.backbone, size)


def test_simclr_to_the_last_flop():
    method, b, size = SimCLR(), 64, 224
    counted = step_flops(method, views(b, 2, size))
    assert counted == simclr_flops(method, b, size) + beyond_formula(method, b, size)
    assert 2 * b * augmentation_flops(method.photometric, size) < 0.01 * counted


@pytest.mark.parametrize("sizes", [(8, 4, 3, 16, 16), (16, 2, 5, 24, 16)])
def test_ab_to_the_last_flop(sizes):
    """The formula says how the cost grows with annotations, images, views and pixels."""
    (l, b, n, reward_size, value_size), base = sizes, TINY_AB.base
    expected = ab_flops(TINY_AB, *sizes) + beyond_formula(base, l, reward_size)
    assert ab(TINY_AB, *sizes) == expected - b * n * patch_gradient(base.backbone, value_size)


def test_computing_again_is_not_counted():
    counts = set()
    for remat, chunk in (("none", 0), ("dots", 0), ("full", 4)):
        base = replace(TINY_SIMCLR, backbone=replace(TINY, remat=remat))
        method = replace(TINY_AB, base=base, decoder=replace(TINY_AB.decoder, remat=remat), chunk=chunk)
        counts.add(ab(method, 8, 4, 3))
    assert len(counts) == 1


def test_a_method_that_nobody_has_counted():
    class Other:
        def init(self, key, batch=None):
            return jnp.zeros((7, 5)), ()

        def loss(self, model, target, carry, batch, key, *, axis=None):
            return jnp.square(batch @ model).sum() + (batch @ target).sum(), {"norm": jnp.float32(0)}

        def problems(self):
            return []

    forward = 2 * 3 * 7 * 5
    assert step_flops(Other(), jax.ShapeDtypeStruct((3, 7), jnp.float32)) == 3 * forward


def test_pairs_are_cheap():
    """n² pairs: with twice the views of half the images, at 2048 annotations, a step costs less than a tenth more."""
    assert ab(PAPER, 2048, 512, 8, 224, 224) < 1.1 * ab(PAPER, 2048, 1024, 4, 224, 224)


# Memory


@dataclass(frozen=True)
class Layers:
    """A method with activations to keep and little to compile."""

    remat: bool = False

    def init(self, key, batch=None):
        return jax.random.normal(key, (12, 32, 32)), ()

    def loss(self, model, target, carry, batch, key, *, axis=None):
        layer = lambda x, w: (jnp.sin(jnp.sin(jnp.sin(x @ w))), None)
        return jax.lax.scan(jax.checkpoint(layer) if self.remat else layer, batch, model)[0].mean(), Aux({})

    def problems(self):
        return []


def memory(method, rows, devices=1):
    tx, tau, mesh = AdamW().build(10), EMA().schedule(10), parallel.mesh(jax.devices()[:devices])
    batch = jax.ShapeDtypeStruct((rows, 32), jnp.float32)
    state = jax.eval_shape(lambda: train.init(method, tx, 0))
    return step_memory(train.make_step(method, tx, tau, 0, mesh), state, batch, mesh), state


def test_memory_grows_with_the_batch_and_shrinks_with_devices():
    rows = 2**16
    (small, state), (large, _), (shared, _) = (
        memory(Layers(), *case) for case in ((rows, 1), (2 * rows, 1), (rows, 2))
    )
    assert large.temporary / small.temporary == pytest.approx(2, rel=0.1)
    assert shared.temporary / small.temporary == pytest.approx(0.5, rel=0.1)
    assert small.temporary > 12 * 4 * rows * 32 * 4  # of each layer its input and what three sines saw
    weights = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert small.state == pytest.approx(weights + rows * 32 * 4, rel=0.01)  # the state once: it is donated
    assert small.total == small.state + small.temporary


def test_memory_shrinks_with_remat():
    full, none = (memory(Layers(remat), 2**16)[0].temporary for remat in (True, False))
    assert full < 0.5 * none
