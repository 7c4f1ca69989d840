"""Meshes: whoever holds what part of the state, the result is the same; and what is sent is what one expects."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import METHODS, STEPS, VARIANTS, program

from abx import methods, nn, parallel, train
from abx.analysis import communication
from abx.checkpoint import Checkpoints
from abx.optim import EMA, AdamW

MESHES = {
    "data 2": (2, "data", 0),
    "data 4": (4, "data", 0),
    "fsdp 2": (2, "fsdp", 0),
    "fsdp 8": (8, "fsdp", 0),
    "hybrid 2 x 4": (8, "hybrid", 2),
}


@pytest.fixture
def cut(monkeypatch):
    """Arrays of the tests' networks are small, and would all stay whole."""
    monkeypatch.setattr(parallel, "SMALL", 64)


def start(case, mesh):
    tx, batch = AdamW(lr=3e-3, warmup=0.0, eps=1e-3).build(STEPS), case.batch(np.random.default_rng(0))
    init = lambda: train.init(case.method, tx, 0, batch)
    shardings = train.shardings(jax.eval_shape(init), mesh)
    step = train.make_step(case.method, tx, EMA().schedule(STEPS), 0, mesh)
    return step, jax.jit(init, out_shardings=shardings)(), parallel.place(batch, parallel.batched(mesh)), shardings


QUICK = [("ab_simclr", "hybrid 2 x 4")]
WHOLE = [("clip", "data 4"), ("ab_dino", "fsdp 8")]
ALL = [(name, mesh) for name in ("ab_simclr", "clip", "ab_dino") for mesh in MESHES]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *QUICK,
        *(pytest.param(*case, marks=pytest.mark.whole) for case in WHOLE),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in QUICK + WHOLE),
    ],
)
def test_five_steps_are_those_of_one_device(name, kind, cut):
    """Losses to 1e-5, and all that training remembers to 1e-5 of the largest number of its array, or of 1: sums are in
    another order, no more."""
    alone, (devices, how, copies) = program(name), MESHES[kind]
    mesh = parallel.mesh(jax.devices()[:devices], how, copies)
    step, state, batch, shardings = start((METHODS | VARIANTS)[name], mesh)
    one = alone.state()
    for _ in range(5):
        one, expected = alone.step(one, alone.batch)
        state, metrics = jax.block_until_ready(step(state, batch))
        np.testing.assert_allclose(float(metrics["loss"]), float(expected["loss"]), rtol=1e-5)
    assert jax.tree.map(lambda x: x.sharding.spec, state) == jax.tree.map(lambda s: s.spec, shardings)
    assert step._cache_size() == 1
    if how != "data":
        shared = [parallel.SHARDS in x.sharding.spec for x in jax.tree.leaves(state.model)]
        assert sum(shared) > len(shared) / 2
    for (path, a), b in zip(
        jax.tree.leaves_with_path(jax.device_get(state)), jax.tree.leaves(jax.device_get(one)), strict=True
    ):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=1e-5 * max(1.0, float(np.abs(b).max())), err_msg=jax.tree_util.keystr(path)
        )


def test_a_checkpoint_goes_onto_any_mesh(tmp_path, cut):
    """To the bit, and laid out as the new mesh has it."""
    case, meshes = METHODS["simclr"], [parallel.mesh(jax.devices()[:n], kind, k) for n, kind, k in MESHES.values()]
    tx, batch = AdamW().build(STEPS), case.batch(np.random.default_rng(0))
    init = lambda: train.init(case.method, tx, 0, batch)
    like = jax.eval_shape(init)
    saved = jax.jit(init, out_shardings=train.shardings(like, parallel.mesh(None, "fsdp")))()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, saved, {})
        for mesh in meshes:
            found, _ = checkpoints.restore(0, like, train.shardings(like, mesh))
            shardings = jax.tree.leaves(train.shardings(like, mesh))
            for a, b, sharding in zip(jax.tree.leaves(found), jax.tree.leaves(saved), shardings, strict=True):
                assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
                assert a.sharding == sharding


@pytest.mark.parametrize("size", ["B", "L", "H"])
def test_a_device_holds_an_eighth(size):
    """Parameters, optimiser and moving average, of AB over SimCLR; within 15 %."""
    method = methods.AB(methods.SimCLR(backbone=getattr(nn, size)))
    state = jax.eval_shape(lambda: train.init(method, AdamW().build(10), 0))
    mesh = parallel.mesh(jax.devices(), "fsdp")
    whole = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    held = lambda x, s: int(np.prod(s.shard_shape(x.shape))) * x.dtype.itemsize
    part = sum(jax.tree.leaves(jax.tree.map(held, state, train.shardings(state, mesh))))
    assert part / whole == pytest.approx(1 / 8, rel=0.15)


@given(st.lists(st.integers(1, 4096), max_size=4), st.sampled_from([1, 2, 4, 8]))
def test_an_array_is_cut_along_its_longest_axis_that_divides(shape, devices):
    mesh = parallel.mesh(jax.devices()[:devices], "fsdp")
    (sharding,) = parallel.shards((jax.ShapeDtypeStruct(tuple(shape), np.float32),), mesh)
    cut = [k for k, name in enumerate(sharding.spec) if name]
    fitting = [length for length in shape if length % devices == 0]
    if devices == 1 or not fitting or np.prod(shape, dtype=float) < parallel.SMALL:
        assert not cut
    else:
        assert [shape[k] for k in cut] == [max(fitting)]
        assert np.prod(sharding.shard_shape(tuple(shape))) * devices == np.prod(shape)


def test_groups_that_devices_cannot_make():
    with pytest.raises(ValueError, match="8 devices cannot be 3 groups"):
        parallel.mesh(jax.devices(), "hybrid", 3)
    with pytest.raises(ValueError, match="8 groups of one device each share nothing out"):
        parallel.mesh(jax.devices(), "hybrid", 8)


def sent(name, mesh):
    step, state, batch, _ = start(METHODS[name], mesh)
    text = communication.program(step, state, batch, mesh)
    assert communication.waits_for_host(text) == []
    numbers = sum(x.size for x in jax.tree.leaves(state.model))
    return communication.collectives(text, mesh.size), 4 * numbers, batch


def test_data_parallel_sums_gradients_and_gathers_what_is_compared():
    """SimCLR: both views' embeddings of everyone, whose gradients come back, one sum of all gradients and a handful of
    scalars. No layer sends anything, and the figures beside the loss gather nothing of their own."""
    found, parameters, batch = sent("simclr", parallel.mesh(jax.devices()[:4]))
    view = 4 * len(batch.images) * METHODS["simclr"].method.embed
    assert set(found) == {"all-reduce", "all-gather", "reduce-scatter"}
    assert parameters <= found["all-reduce"].size <= parameters + 4 * 16
    assert (found["all-gather"].size, found["reduce-scatter"].size) == (2 * view, 2 * view)


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("simclr", 5),
        *(pytest.param(*case, marks=pytest.mark.whole) for case in (("clip", 5), ("ab_simclr", 9), ("dino", 2))),
    ],
)
def test_how_many_messages(name, messages):
    """Of a step of each kind, data parallel; as many as in docs/scale.md at the paper's size."""
    found, _, _ = sent(name, parallel.mesh(jax.devices()[:4]))
    assert sum(traffic.messages for traffic in found.values()) == messages


def test_fully_sharded_gathers_parameters_and_shares_out_their_gradients(cut):
    """Of both networks what is cut is gathered once, whatever the layers; of small arrays gradients are summed."""
    found, parameters, batch = sent("simclr", parallel.mesh(jax.devices()[:4], "fsdp"))
    view = 4 * len(batch.images) * METHODS["simclr"].method.embed
    assert set(found) == {"all-reduce", "all-gather", "reduce-scatter"}
    assert found["all-reduce"].size < 0.1 * parameters
    assert 0.9 * parameters <= found["all-gather"].size - 2 * view <= parameters
    assert 0.9 * parameters <= found["reduce-scatter"].size - 2 * view <= parameters


def test_groups_sum_between_them_what_they_have_shared_out(cut):
    """Hybrid: gradients are shared out within a group, over fast links, and then a part of them is summed by each."""
    found, parameters, _ = sent("simclr", parallel.mesh(jax.devices(), "hybrid", 2))
    assert 0.9 * parameters <= found["reduce-scatter"].size
    assert found["all-reduce"].size < 0.4 * parameters


def test_what_a_program_says_is_read():
    text = """
      %ar = (f32[4,2]{1,0}, bf16[3]{0}) all-reduce(%a, %b), replica_groups={{0,1}}
      %ag = f32[8,16]{1,0} all-gather(%c), dimensions={0}
      %s = (f32[4,16]{1,0}, f32[8,16]{1,0}) all-gather-start(%c), dimensions={0}
      %d = f32[8,16]{1,0} all-gather-done(%s)
      %rs = f32[2]{0} reduce-scatter(%e), dimensions={0}
      %x = f32[2]{0} add(%e, %all-reduce.1)
    """
    found = communication.collectives(text, 2)
    assert found["all-reduce"] == (1, 4 * 8 + 2 * 3, 38)
    assert found["all-gather"] == (2, 2 * 4 * 128, 512)
    assert found["reduce-scatter"] == (1, 4 * 2 * 2, 8)
    assert communication.sent(found) == 38 + 512 + 8


@pytest.mark.parametrize("groups", ["{{0,1,2,3},{4,5,6,7}}", "[2,4]<=[8]"])
def test_a_message_within_groups_is_a_ring_of_each(groups):
    found = communication.collectives(f"%rs = f32[2]{{0}} reduce-scatter(%e), replica_groups={groups}", 8)
    assert found == {"reduce-scatter": (1, 4 * 2 * 4, 4 * 2 * 3)}


@pytest.mark.parametrize("call", [lambda x: jax.debug.print("{}", x), lambda x: jax.pure_callback(np.sin, x, x)])
def test_a_call_of_the_host_is_seen(call):
    def program(x):
        found = call(x)
        return x + 1 if found is None else found

    text = jax.jit(program).lower(np.float32(1)).compile().as_text()
    assert communication.waits_for_host(text)
