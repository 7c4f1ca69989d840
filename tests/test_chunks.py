"""A large batch on a small machine: encoded in chunks it gives the same loss and gradients, and takes less memory."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from small import METHODS, VARIANTS

from abx import train
from abx.analysis.cost import step_memory
from abx.data.layouts import PairData
from abx.data.views import RandomCrops
from abx.methods import SimCLR
from abx.methods.batches import over
from abx.nn import ViTConfig
from abx.optim import EMA, AdamW

CASES = ("clip", "ab_simclr")
MORE = ("simclr", "siglip", "mae", "clip_aug", "dino", "slip", "ijepa", "ab_clip", "ab_dino")


def in_chunks(method, chunk=3):
    """The same method, with every tower that has `chunk` going so many examples at a time."""
    changes = {}
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if field.name == "chunk" and not hasattr(method, "gamma"):  # AB's own is of annotations
            changes["chunk"] = chunk
        elif dataclasses.is_dataclass(value):
            changes[field.name] = in_chunks(value, chunk)
    return dataclasses.replace(method, **changes)


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_loss_and_gradients_are_those_of_the_whole_batch(name):
    case = (METHODS | VARIANTS)[name]
    chunked = in_chunks(case.method)
    assert chunked != case.method
    batch, key = case.batch(np.random.default_rng(0)), jax.random.key(1)
    found = []
    for method in (case.method, chunked):
        model, carry = method.init(jax.random.key(0), batch)
        loss = lambda model, method=method, carry=carry: method.loss(model, model, carry, batch, key)[0]
        found.append(jax.jit(jax.value_and_grad(loss))(model))
    (one, whole), (other, parts) = found
    np.testing.assert_allclose(other, one, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(np.abs(b).max()))


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7])
def test_any_number_of_examples(count):
    x = np.random.default_rng(0).normal(size=(count, 2, 3)).astype(np.float32)
    f = lambda row: (row**2, row.sum())
    for one, other in zip(over(f, 2, 3)(x), over(f, 2)(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_memory_is_that_of_a_chunk(monkeypatch):
    """Of a batch eight times as large as a chunk, the step needs less than half of what it needs at once."""
    vit = ViTConfig(width=32, depth=4, heads=2, mlp=128, patch=4, size=32, remat="none")
    data = PairData(batch=64, views=RandomCrops(n=2, size=32, scale=(0.2, 1.0)))
    one = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    need = {}
    for chunk in (0, 16):
        method = SimCLR(dataclasses.replace(vit, chunk=chunk), hidden=32, embed=16)
        tx, batch = AdamW().build(10), data.blank()
        state = jax.eval_shape(partial(train.init, method, tx, 0), batch)
        need[chunk] = step_memory(train.make_step(method, tx, EMA().schedule(10), 0, one), state, batch, one).temporary
    assert need[16] < need[0] / 2
