import colorsys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from abx.augment import DINO_GLOBAL, DINO_GLOBAL2, DINO_LOCAL, Photometric, gaussian_blur, shift_hue

KEY = jax.random.key(0)


def test_hue_equals_the_standard_library(rng):
    x = rng.uniform(size=(4, 5, 3))
    x[0, 0] = 0.5  # grey has no hue
    x[0, 1] = (0.7, 0.7, 0.2)  # two channels lead
    for shift in (0.0, 0.1, -0.3, 0.5):
        turned = np.empty_like(x)
        for i in np.ndindex(4, 5):
            h, s, v = colorsys.rgb_to_hsv(*x[i])
            turned[i] = colorsys.hsv_to_rgb((h + shift) % 1, s, v)
        np.testing.assert_allclose(shift_hue(jnp.asarray(x, jnp.float32), jnp.float32(shift)), turned, atol=1e-5)


def test_blur_is_a_gaussian(rng):
    x = rng.integers(0, 256, (64, 64, 3), np.uint8)
    ours = gaussian_blur(jnp.asarray(x, jnp.float32), jnp.float32(2.0))
    pillow = np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(2)), np.float32)
    # Pillow approximates the Gaussian by boxes and treats the border its own way.
    assert np.abs(ours - pillow)[8:-8, 8:-8].mean() < 1.5
    np.testing.assert_allclose(gaussian_blur(jnp.ones((9, 7, 3)), jnp.float32(3.0)), 1, atol=1e-5)
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(x, jnp.float32), jnp.float32(0.1)), x, atol=1e-3)


def off(**on):
    return Photometric(**{"jitter": 0.0, "grey": 0.0, "blur": 0.0, "flip": 0.0} | on)


def test_off_is_the_image(rng):
    x = jnp.asarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    out, flipped = off()(x, KEY)
    np.testing.assert_allclose(out, x.astype(jnp.float32) / 127.5 - 1, atol=1e-6)
    assert not flipped


def test_flip_and_grey(rng):
    x = jnp.asarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    out, flipped = off(flip=1.0)(x, KEY)
    assert flipped
    np.testing.assert_allclose(out[:, ::-1], x.astype(jnp.float32) / 127.5 - 1, atol=1e-6)
    grey, _ = off(grey=1.0)(x, KEY)
    luma = np.asarray(x, np.float64) @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(grey, np.repeat(luma[..., None], 3, -1) / 127.5 - 1, atol=1e-5)


def test_solarize_is_pillows(rng):
    x = np.arange(192, dtype=np.uint8).reshape(8, 8, 3) + 40
    out, _ = off(solarize=1.0)(jnp.asarray(x), KEY)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(x)), np.float64)
    np.testing.assert_allclose((out + 1) * 127.5, expected, atol=1e-4)


def test_solarize_comes_after_the_blur(rng):
    x = jnp.asarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    both = replace(off(blur=1.0, solarize=1.0), sigma=(40.0, 40.0))
    blurred = replace(both, solarize=0.0).colour(x.astype(jnp.float32) / 255, KEY)
    np.testing.assert_allclose(
        both.colour(x.astype(jnp.float32) / 255, KEY), jnp.minimum(blurred, 1 - blurred), atol=1e-6
    )


@pytest.mark.parametrize("name", ["jitter", "grey", "blur", "solarize", "flip"])
def test_probability_zero_leaves_the_operation_out(rng, name):
    """Less is computed; and the rest draws what it would have drawn."""
    everything = Photometric(jitter=1.0, grey=0.5, blur=1.0, solarize=0.5)
    without, never = replace(everything, **{name: 0.0}), replace(everything, **{name: 1e-12})
    x = jnp.asarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    for key in jax.random.split(KEY, 3):
        for a, b in zip(without(x, key), never(x, key), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    flops = [jax.jit(p.__call__).lower(x, KEY).cost_analysis()["flops"] for p in (without, never)]
    assert flops[0] < flops[1]
    out, flipped = without.batch(x[None, None], KEY)
    assert (out.shape, flipped.shape) == ((1, 1, 8, 8, 3), (1, 1))


def test_dinos_three(rng):
    """METHODS §1.4: blur always, seldom, half the time; only the second solarized; locals in their own pixels."""
    three = (DINO_GLOBAL, DINO_GLOBAL2, DINO_LOCAL)
    assert [p.blur for p in three] == [1.0, 0.1, 0.5]
    assert [p.solarize for p in three] == [0.0, 0.2, 0.0]
    assert {(p.jitter, p.brightness, p.contrast, p.saturation, p.hue, p.grey, p.flip) for p in three} == {
        (0.8, 0.4, 0.4, 0.2, 0.1, 0.2, 0.5)
    }
    assert [s * 96 / 224 for s in DINO_LOCAL.sigma] == pytest.approx([0.1, 2.0])


def test_mistakes_are_named_after_what_holds_them():
    assert Photometric(solarize=2.0).problems() == ["photometric.solarize must be a probability, in [0, 1], not 2.0"]
    assert Photometric(hue=0.7).problems("local") == ["local.hue must be in [0, 0.5], not 0.7"]


def test_every_view_is_drawn_apart_and_stays_in_range(rng):
    x = jnp.tile(jnp.asarray(rng.integers(0, 256, (1, 1, 8, 8, 3), np.uint8)), (16, 2, 1, 1, 1))
    out, _ = Photometric(jitter=1.0).batch(x, KEY)
    assert out.min() >= -1
    assert out.max() <= 1
    flat = np.asarray(out).reshape(32, -1)
    assert len(np.unique(flat.round(4), axis=0)) == 32


def test_frequencies(rng):
    x = jnp.tile(jnp.asarray(rng.integers(0, 256, (1, 1, 4, 4, 3), np.uint8)), (2000, 1, 1, 1, 1))
    _, flipped = Photometric(flip=0.3).batch(x, KEY)
    assert abs(flipped.mean() - 0.3) < 0.04  # 4 standard deviations
    out, _ = off(grey=0.2).batch(x, KEY)
    assert abs((np.ptp(np.asarray(out), axis=-1).max((1, 2, 3)) < 1e-5).mean() - 0.2) < 0.04
