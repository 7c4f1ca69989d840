"""What a step of any method costs: FLOPs, counted in its jaxpr, and memory, as XLA lays it out.

Neither runs anything: arguments may be `jax.ShapeDtypeStruct`s, and nothing of the step's size is ever held.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import Mesh

from abx import parallel
from abx.methods.base import Method
from abx.train import Step, shardings

Function = Callable[..., Any]


def step_flops(method: Method, batch: Any) -> int:
    """FLOPs of the loss, its metrics and its gradient on a (global) batch, over all devices together.

    By the convention of METHODS §6, which is MFU's: what is computed again to save memory is not counted, whatever the
    method says about that. The optimiser and the moving average have no matrix products.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    model, carry = jax.eval_shape(method.init, key, batch)
    args = (model, model, carry, batch, key)
    return flops(jax.value_and_grad(without_remat(method.loss, *args), has_aux=True), *args)


def flops(f: Function, *args: Any) -> int:
    """FLOPs of f(*args): 2 per multiply-add of matrix products and convolutions, nothing else.

    The body of a scan counts as often as it runs, that of a while loop once, since nobody knows how often that is; of
    the branches of a condition the dearest counts; a kernel written by hand (Pallas, cuDNN) not at all. What the result
    does not depend on is left out, as XLA does.
    """
    jaxpr = jax.make_jaxpr(f)(*args).jaxpr
    alive, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(alive)


def without_remat(f: Function, *args: Any) -> Function:
    """f for arguments like these, except that its gradient keeps all it needs, in spite of every `jax.checkpoint`."""
    closed, out = jax.make_jaxpr(f, return_shape=True)(*args)
    jaxpr = _keeping_all(closed.jaxpr)

    def kept(*args: Any) -> Any:
        flat = jax.core.eval_jaxpr(jaxpr, closed.consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(out), flat)

    return kept


class Memory(NamedTuple):
    """Bytes on one device while a step runs."""

    state: int
    """The train state and this device's rows of the batch; the new state takes the old one's place."""
    temporary: int
    """Everything between: activations kept for the backward pass, gradients, what is gathered from other devices."""

    @property
    def total(self) -> int:
        return self.state + self.temporary


def step_memory(step: Step, state: Any, batch: Any, mesh: Mesh) -> Memory:
    """Memory of a step of `train.make_step(..., mesh)`, from a real compilation for the mesh's devices.

    A CPU's compiler keeps float32 where the step says bfloat16. A mesh of CPU devices thus gives an accelerator's need
    from above: about right with remat "full", up to 1.6 times too much with "none" (against float16, which it does
    keep, for a ViT-S/16).
    """
    lowered = step.lower(*placed(state, batch, mesh))  # type: ignore[attr-defined]  # jitted, which Step does not say
    # Memory is laid out before LLVM optimises the code, so that the quickest way through LLVM gives the same figure.
    cpu = mesh.devices.flat[0].platform == "cpu"
    compiled = lowered.compile({"xla_backend_optimization_level": 0} if cpu else None)
    found = compiled.memory_analysis()
    fresh = found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(found.argument_size_in_bytes + fresh, found.temp_size_in_bytes)


def placed(state: Any, batch: Any, mesh: Mesh) -> tuple[Any, Any]:
    """The abstract arguments of a step, as they lie on a mesh."""
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    rows = parallel.batched(mesh)
    return jax.tree.map(place, state, shardings(state, mesh)), jax.tree.map(lambda x: place(x, rows), batch)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_cost(equation) for equation in jaxpr.eqns)


def _cost(equation: core.JaxprEqn) -> int:
    kind, params = equation.primitive.name, equation.params
    shapes = lambda: [variable.aval.shape for variable in (*equation.invars, *equation.outvars)]  # type: ignore[attr-defined]
    if kind == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left, _, out = shapes()
        return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)
    if kind == "conv_general_dilated":
        _, kernel, out = shapes()
        return 2 * math.prod(out) * math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]]
    costs = [_count(jaxpr) for value in params.values() for jaxpr in _inside(value)]
    if kind == "scan":
        return int(params["length"]) * sum(costs)
    if kind == "shard_map":  # inside is what each device does
        return int(params["mesh"].size) * sum(costs)
    return max(costs) if kind == "cond" else sum(costs)


def _inside(value: Any) -> list[core.Jaxpr]:
    """The jaxprs that a parameter of an equation holds, if any."""
    values = value if isinstance(value, tuple | list) else (value,)
    found = [v.jaxpr if isinstance(v, core.ClosedJaxpr) else v for v in values]
    return [v for v in found if isinstance(v, core.Jaxpr)]


def _keeping_all(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """The same jaxpr in which every checkpoint, at any depth, saves everything."""

    def rewrite(value: Any) -> Any:
        if isinstance(value, core.ClosedJaxpr):
            return value.replace(jaxpr=_keeping_all(value.jaxpr))
        if isinstance(value, core.Jaxpr):
            return _keeping_all(value)
        return type(value)(map(rewrite, value)) if type(value) in (tuple, list) else value

    equations = []
    for equation in jaxpr.eqns:
        params = {name: rewrite(value) for name, value in equation.params.items()}
        if "prevent_cse" in params:  # it is a checkpoint, under whatever name
            params["policy"] = jax.checkpoint_policies.everything_saveable
        equations.append(equation.replace(params=params))
    return jaxpr.replace(eqns=equations)
