import colorsys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageFilter

from abx.augment import Photometric, gaussian_blur, shift_hue

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
