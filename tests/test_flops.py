"""The analytic count against XLA's on an unrolled build, and what it says about n²."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from test_nn import naive

from abx.nn import ActionDecoder, DecoderConfig, ViT, ViTConfig
from abx.nn.flops import decoder_flops, vit_flops

KEY = jax.random.key(0)
S, D = ViTConfig(), DecoderConfig()


def xla(f, *args) -> float:
    return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]


def test_published_counts():
    assert vit_flops(S) == pytest.approx(9.147e9, rel=1e-3)
    assert decoder_flops(D, 384, 196, 4) == pytest.approx(746e6, rel=2e-3)


def test_vit_matches_xla():
    """Within 4 %: XLA counts norms, softmax and GELU too."""
    config = replace(S, unroll=True, depth=2)
    vit = jax.eval_shape(lambda: ViT(config, key=KEY))
    counted = xla(lambda m, x: m(x), vit, jax.ShapeDtypeStruct((224, 224, 3), jnp.uint8))
    assert counted == pytest.approx(vit_flops(config), rel=0.04)


@pytest.mark.parametrize(("packed", "run"), [(True, lambda d, t, a: d(t, a)), (False, naive)])
def test_decoder_matches_xla(packed, run):
    config = replace(D, unroll=True)
    decoder = jax.eval_shape(lambda: ActionDecoder(config, 384, key=KEY))
    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
    counted = xla(run, decoder, shape(196, 384), shape(8, 4))
    assert counted == pytest.approx(decoder_flops(D, 384, 196, 8, packed=packed), rel=0.04)


def test_the_cost_of_n():
    per_view = lambda n: vit_flops(S) + decoder_flops(D, 384, 196, n)
    assert per_view(8) <= 1.10 * per_view(2)
    assert decoder_flops(D, 384, 196, 8, packed=False) >= 3.5 * decoder_flops(D, 384, 196, 8)
