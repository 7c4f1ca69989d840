"""One step of training: what is remembered, and how it changes."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from abx import ema, parallel
from abx.methods.base import Method

Metrics = dict[str, Float[Array, ""]]


class TrainState(NamedTuple):
    """All that training remembers; what a checkpoint holds."""

    step: Int[Array, ""]
    """Updates made so far; the batch of this number is the next one."""
    model: Any
    target: Any
    """The model's exponential moving average."""
    carry: Any
    opt: Any


Step = Callable[..., tuple[TrainState, Metrics]]
"""(state, batch, limit = inf) -> (state, metrics)."""


def init(method: Method, tx: optax.GradientTransformation, seed: int, batch: Any = None) -> TrainState:
    """The state before the first step. `batch`, the first one, is for methods that look at sizes."""
    model, carry = method.init(init_key(seed), batch)
    # A copy, not an alias: donating the state would give the same buffer away twice.
    return TrainState(jnp.zeros((), jnp.int32), model, jax.tree.map(jnp.copy, model), carry, tx.init(model))


def init_key(seed: int) -> Array:
    """The randomness of what there is before the first step."""
    # A number that no step has, so that no step draws the same.
    return jax.random.fold_in(jax.random.key(seed), 2**32 - 1)


def shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """How a state lies on a mesh: networks and what the optimiser remembers of them shared out, the rest everywhere."""
    whole, shared = parallel.replicated(mesh), lambda tree: parallel.shards(tree, mesh)
    return TrainState(
        step=whole,  # type: ignore[arg-type]  # a state of shardings
        model=shared(state.model),
        target=shared(state.target),
        carry=jax.tree.map(lambda _: whole, state.carry),
        opt=shared(state.opt),
    )


def step_key(seed: int, step: Int[Array, ""]) -> Array:
    """The randomness of a step. Made anew from the number, so that there is no key to save or to lose."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_step(
    method: Method,
    tx: optax.GradientTransformation,
    tau: optax.Schedule,
    seed: int,
    mesh: Mesh | None = None,
    *,
    refuse: bool = True,
) -> Step:
    """A jitted (state, batch, limit=inf) -> (state, metrics); the state is donated.

    A step whose loss or gradient is not finite, or whose loss is above `limit`, is refused: the state comes back as it
    was, its number, too. Not without `refuse`: of several things that are trained at once one may fail.

    With a mesh the batch is split over it, and the state lies on it as `shardings` says; the loss, metrics and gradient
    are those of the whole batch.
    """
    axis = None if mesh is None else parallel.axis(mesh)

    def local_loss(model: Any, target: Any, carry: Any, batch: Any, key: Array) -> Any:
        loss, aux = method.loss(model, target, carry, batch, key, axis=axis)
        return parallel.mean(loss, axis), aux._replace(metrics=parallel.mean(aux.metrics, axis))

    loss_fn = local_loss if mesh is None else parallel.shard_loss(local_loss, mesh)

    def step(state: TrainState, batch: Any, limit: float | Float[Array, ""] = math.inf) -> tuple[TrainState, Metrics]:
        key = step_key(seed, state.step)
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, aux), grads = value_and_grad(state.model, state.target, state.carry, batch, key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, opt = tx.update(grads, state.opt, state.model)
        model = optax.apply_updates(state.model, updates)
        target = ema.update(state.target, model, tau(state.step))
        norm = optax.tree.norm(grads)
        metrics = aux.metrics | {"loss": loss, "grad_norm": norm}
        new = TrainState(state.step + 1, model, target, aux.carry, opt)
        if refuse:
            good = jnp.isfinite(loss) & jnp.isfinite(norm) & (loss <= limit)
            new = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, state)
        # Said once more, or the compiler would be free to hold whole what only the optimiser touches.
        return new if mesh is None else jax.lax.with_sharding_constraint(new, shardings(new, mesh)), metrics

    return jax.jit(step, donate_argnums=0)
