"""What is thrown away after training: MAE's decoder of pixels and I-JEPA's predictor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from abx.nn import PixelDecoder, PixelDecoderConfig, Predictor, PredictorConfig
from abx.nn.vit import sincos

KEY = jax.random.key(0)
DECODER = PixelDecoderConfig(width=16, depth=2, heads=2, mlp=32)
PREDICTOR = PredictorConfig(width=16, depth=2, heads=2, mlp=32)


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree)) / 1e6


def test_parameters_of_the_published_decoders():
    """METHODS §4.6, beside a ViT-S/16 at 224 pixels."""
    assert count(jax.eval_shape(lambda: PixelDecoder(PixelDecoderConfig(), 384, 14, 16, key=KEY))) == pytest.approx(
        25.8, abs=0.05
    )
    assert count(jax.eval_shape(lambda: Predictor(PredictorConfig(), 384, 14, key=KEY))) == pytest.approx(
        10.9, abs=0.05
    )


def test_pixel_decoder_puts_every_token_in_its_place(rng):
    decoder = PixelDecoder(DECODER, 24, 3, 4, key=KEY)
    tokens, places = normal(rng, 4, 24), [7, 0, 3, 8]
    x = np.tile(np.asarray(decoder.mask_token), (9, 1))
    for token, place in zip(decoder.fc_in(tokens), places, strict=True):
        x[place] = token
    x = jnp.asarray(x + sincos((3, 3), 3, 16))
    pixels = decoder(tokens, jnp.asarray(places))
    assert pixels.shape == (9, 48)
    np.testing.assert_allclose(pixels, decoder.fc_out(decoder.norm(decoder.blocks(x))), atol=1e-5)


def test_pixel_decoder_does_not_mind_the_order_of_tokens(rng):
    decoder = PixelDecoder(DECODER, 24, 3, 4, key=KEY)
    tokens, places = normal(rng, 4, 24), jnp.asarray([7, 0, 3, 8])
    np.testing.assert_allclose(decoder(tokens, places), decoder(tokens[::-1], places[::-1]), atol=1e-5)
    assert not np.allclose(decoder(tokens, places), decoder(tokens, places[::-1]), atol=1e-2)


def one_block(predictor, context, places, targets):
    """The predictor on one target block without padding, layer by layer."""
    positions = jnp.asarray(sincos((4, 4), 4, 16))
    x = jnp.concatenate([predictor.fc_in(context) + positions[places], predictor.mask_token + positions[targets]])
    for i in range(predictor.blocks.depth):
        x = jax.tree.map(lambda leaf, i=i: leaf[i], predictor.blocks.layers)(x)
    return predictor.fc_out(predictor.norm(x))[len(places) :]


def test_padding_and_other_blocks_do_not_change_a_prediction(rng):
    predictor = Predictor(PREDICTOR, 24, 4, key=KEY)
    context, places = normal(rng, 5, 24), jnp.asarray([0, 1, 4, 5, 9])
    targets = [jnp.asarray(t) for t in ([10, 11, 14, 15], [2, 3], [12, 13, 8])]
    target_places = jnp.stack([jnp.pad(t, (0, 4 - len(t)), constant_values=7) for t in targets])
    target_valid = jnp.arange(4) < jnp.asarray([len(t) for t in targets])[:, None]
    padded = jnp.concatenate([context, 100 * normal(rng, 3, 24)])
    valid = jnp.arange(8) < 5
    got = predictor(padded, jnp.pad(places, (0, 3), constant_values=2), valid, target_places, target_valid)
    assert got.shape == (3, 4, 24)
    for row, t in zip(got, targets, strict=True):
        np.testing.assert_allclose(row[: len(t)], one_block(predictor, context, places, t), atol=1e-5)


def test_a_prediction_is_about_its_place(rng):
    predictor = Predictor(PREDICTOR, 24, 4, key=KEY)
    context, places, one = normal(rng, 2, 24), jnp.asarray([0, 1]), jnp.ones((2, 1), bool)
    here, there = predictor(context, places, jnp.ones(2, bool), jnp.asarray([[5], [6]]), one)
    assert not np.allclose(here, there, atol=1e-2)


def test_gradients_with_padding_are_finite(rng):
    predictor, nothing = Predictor(PREDICTOR, 24, 4, key=KEY), jnp.zeros((1, 3), bool)

    def f(predictor, context):
        places = jnp.zeros(2, jnp.int32)
        return jnp.square(predictor(context, places, jnp.zeros(2, bool), jnp.zeros((1, 3), jnp.int32), nothing)).sum()

    for gradient in jax.tree.leaves(jax.grad(f, (0, 1))(predictor, normal(rng, 2, 24))):
        assert np.isfinite(gradient).all()


def test_bf16_goes_through(rng):
    tokens, places = normal(rng, 4, 24).astype(jnp.bfloat16), jnp.asarray([7, 0, 3, 8])
    decoder, predictor = PixelDecoder(DECODER, 24, 3, 4, key=KEY), Predictor(PREDICTOR, 24, 4, key=KEY)
    pixels = decoder(tokens, places)
    predicted = predictor(tokens, places, jnp.ones(4, bool), places[None], jnp.ones((1, 4), bool))
    assert pixels.dtype == predicted.dtype == jnp.bfloat16
    exact = decoder(tokens.astype(jnp.float32), places)
    np.testing.assert_allclose(pixels.astype(jnp.float32), exact, atol=0.15)


def test_configs_name_their_mistakes():
    assert PixelDecoderConfig(width=18, heads=4).problems() == [
        "decoder.heads must divide the width, 18, which 4 does not",
        "decoder.width must be a multiple of 4 for sine-cosine positions, not 18",
    ]
    assert PredictorConfig(mlp=0).problems() == ["predictor.mlp must be at least 1, not 0"]
