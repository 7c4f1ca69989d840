import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_AB

from abx.nn.layers import Linear
from abx.optim import EMA, AdamW, half_cosine, is_kernel


def test_every_parameter_is_in_one_group_and_only_kernels_decay(ab_batch):
    model, _ = TINY_AB.init(jax.random.key(0), ab_batch)
    mask = is_kernel(model)
    assert jax.tree.structure(mask) == jax.tree.structure(model)
    names = {
        jax.tree_util.keystr(path): decayed
        for (path, _), decayed in zip(jax.tree_util.tree_leaves_with_path(model), jax.tree.leaves(mask), strict=True)
    }
    assert {name.rpartition(".")[2] for name, decayed in names.items() if decayed} == {"weight"}
    for kept in ("table", "slots", "log_scale", "bias", "scale"):
        assert not any(decayed for name, decayed in names.items() if name.endswith("." + kept)), kept
    linears = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, Linear))
    assert sum(isinstance(x, Linear) for x in linears) == sum(names.values())


def test_decay_moves_kernels_by_lr_times_decay():
    """torch's convention: a zero gradient shrinks a kernel by lr * weight_decay of itself."""
    layer = Linear(2, 2, key=jax.random.key(0))
    layer = jax.tree.map(jnp.ones_like, layer)
    tx = AdamW(lr=0.1, warmup=0.0, weight_decay=0.5, weight_decay_end=0.5).build(1000)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, layer), tx.init(layer), layer)
    np.testing.assert_allclose(updates.weight, -0.05, rtol=1e-5)
    np.testing.assert_array_equal(updates.bias, 0)


def test_schedules():
    lr = AdamW(lr=1.0, warmup=0.1).learning_rate(100)
    assert [float(lr(s)) for s in (0, 5, 10, 55, 100)] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
    decay = half_cosine(0.04, 0.4, 100)
    assert [float(decay(s)) for s in (0, 50, 100, 200)] == pytest.approx([0.04, 0.22, 0.4, 0.4], abs=1e-6)
    assert float(EMA().schedule(100)(0)) == pytest.approx(0.004)
    assert float(EMA().schedule(100)(100)) == pytest.approx(0, abs=1e-9)
    assert float(EMA(shape="constant").schedule(100)(100)) == pytest.approx(0.004)


def test_mistakes_are_named():
    assert len(AdamW(lr=-1.0, warmup=2.0, clip=-1.0).problems()) == 3
    assert EMA(tau=1.5).problems() == ["ema.tau must be in [0, 1], not 1.5"]
