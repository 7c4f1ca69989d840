"""A decision process small enough to be solved by hand: the value target's fixed point, and a value head that finds it.

With n views, from each of which each can be reached, equation 5 has one solution (METHODS §2.3):
Q*(i, j, l) = (1 - gamma) p_j(l) + gamma max_k p_k(l), whichever view i one comes from.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import views

from abx import boxes, ema, losses
from abx.methods.value_head import ValueHead
from abx.nn import ActionDecoder, DecoderConfig, Prototypes
from abx.nn.layers import Linear

GAMMA = 0.5
B, N, L, D = 3, 3, 6, 32
"""Images, views of each, annotations, width of a token."""


def logit(p):
    return jnp.log(p) - jnp.log1p(-p)


@pytest.fixture
def rewards():
    """p(l | x_j): known, and sharp enough for views to differ."""
    return jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (B, N, L)))


def solution(p, gamma=GAMMA):
    return (1 - gamma) * p + gamma * p.max(1, keepdims=True)


@pytest.mark.parametrize("start", [0.01, 0.99])
def test_iterating_the_target_reaches_the_fixed_point(rewards, start):
    q = jnp.full((B, N, L), start)
    for _ in range(40):
        q = losses.value_target(rewards, logit(jnp.broadcast_to(q[:, None], (B, N, N, L))), GAMMA)
    np.testing.assert_allclose(q, solution(rewards), atol=1e-6)


@pytest.mark.parametrize("start", [0.01, 0.99])
def test_the_fixed_point_of_moves_alone(rewards, start):
    """Where staying does not count, the best view's value is that of going to the second best and back."""
    q, moves = jnp.full((B, N, L), start), ~np.eye(N, dtype=bool)
    for _ in range(60):
        q = losses.value_target(rewards, logit(jnp.broadcast_to(q[:, None], (B, N, N, L))), GAMMA, moves)
    p = np.asarray(rewards)
    for b, l in np.ndindex(B, L):
        second, first = np.sort(p[b, :, l])[-2:]
        best = (first + GAMMA * second) / (1 + GAMMA)
        for j in range(N):
            wanted = best if p[b, j, l] == first else (1 - GAMMA) * p[b, j, l] + GAMMA * best
            np.testing.assert_allclose(q[b, j, l], wanted, atol=1e-6)


@pytest.mark.parametrize("gamma", [GAMMA, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_value_head_learns_the_optimum(rewards, gamma):
    """The package's own decoder, head, target, loss and moving average, on views that their tokens tell apart. Without
    a discount values are the rewards of the views that are reached."""
    kt, kd, kh, ka = jax.random.split(jax.random.key(1), 4)
    config = DecoderConfig(width=32, depth=1, heads=2, mlp=64, bins=64)
    head = ValueHead(
        decoder=ActionDecoder(config, D, key=kd),
        head=Linear(config.width, 16, bias=False, key=kh),
        annotation_head=Prototypes(16, L, key=ka),
        log_scale=jnp.log(jnp.float32(10)),
        bias=jnp.float32(-2),
    )
    tokens = jax.random.normal(kt, (B, N, 2, D))
    actions = jnp.asarray(boxes.relative_boxes(views(np.random.default_rng(0), B, N).boxes))
    logits = lambda m: m.logits(m.phi(tokens, actions), m.annotation_head.vectors())  # b i j l
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, 1500))

    def step(state, _):
        online, target, opt = state
        y = losses.value_target(rewards, logits(target), gamma)
        loss, grads = jax.value_and_grad(lambda m: losses.value_loss(logits(m), y))(online)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, opt = tx.update(grads, opt)
        online = eqx.apply_updates(online, updates)
        return (online, ema.update(target, online, 0.05), opt), loss

    start = (head, jax.tree.map(jnp.copy, head), tx.init(head))
    (online, _, _), _ = jax.jit(lambda state: jax.lax.scan(step, state, length=1500))(start)
    found = jax.nn.sigmoid(logits(online))
    wanted = jnp.broadcast_to(solution(rewards, gamma)[:, None], found.shape)
    assert float(jnp.abs(jax.nn.sigmoid(logits(head)) - wanted).max()) > 0.2
    np.testing.assert_allclose(found, wanted, atol=0.02)
