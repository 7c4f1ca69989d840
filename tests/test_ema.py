import jax.numpy as jnp
import numpy as np

from abx import ema


def test_a_constant_stays():
    w = {"w": jnp.ones(3)}
    np.testing.assert_array_equal(ema.update(w, w, 0.1)["w"], 1)


def test_zero_is_the_identity_and_one_copies():
    a, b = {"w": jnp.zeros(2), "n": jnp.int32(1)}, {"w": jnp.ones(2), "n": jnp.int32(7)}
    np.testing.assert_array_equal(ema.update(a, b, 0.0)["w"], 0)
    np.testing.assert_array_equal(ema.update(a, b, 1.0)["w"], 1)


def test_half_life():
    """With tau = 0.004 half the way is gone after 173 steps."""
    t, o = {"w": jnp.zeros(())}, {"w": jnp.ones(())}
    for _ in range(173):
        t = ema.update(t, o, 0.004)
    np.testing.assert_allclose(t["w"], 0.5, atol=2e-3)
