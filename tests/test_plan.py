"""The dry run's plan: what it says of each recipe, and what it refuses."""

import re
import shutil
from collections import namedtuple
from dataclasses import dataclass, field, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from conftest import TINY_AB, TINY_SIMCLR
from jax import Array

from abx import train
from abx.data.layouts import ABData, MultiCropData, PairData
from abx.data.views import MultiCrops, RandomCrops
from abx.experiment import Recipe
from abx.experiment.plan import Plan, duration, plan
from abx.experiment.planning import Machine, Planning, flags_of, settled, this_machine, with_every
from abx.methods import AB, SimCLR
from abx.nn import ViTConfig
from abx.types import Aux
from recipes import load

SMALL = Recipe(PairData(batch=16, views=RandomCrops(n=2, size=16)), TINY_SIMCLR, steps=100)
QUICK = Planning(compile=False)


def value(found: Plan, name: str) -> str:
    """A line of the plan, without its name."""
    (line,) = (line for line in found.text.splitlines() if line.startswith(f"{name} "))
    return line.removeprefix(name).strip()


def gib(text: str) -> float:
    number, unit = re.match(r"([\d.]+) ([GM])iB", text).groups()
    return float(number) / (1 if unit == "G" else 1024)


@pytest.mark.parametrize(
    ("name", "views", "flops", "hours"),
    [
        ("simclr", "4,096 x 2 = 8,192", "27.6 GFLOP", "15 hours"),
        ("ab_simclr", "2,048 x 2 + 1,024 x 4 = 8,192", "35.9 GFLOP", "20 hours"),
    ],
)
def test_the_papers_rows(name, views, flops, hours, tmp_path):
    recipe = replace(load(name).PRESETS["paper"], plan=QUICK, out=tmp_path / "run")
    found = plan(recipe)
    assert found.problems == []
    assert value(found, "batch") == f"{views} views a step (images x views of each)"
    assert "backbone 21.59 M" in value(found, "method")
    assert value(found, "steps").endswith("= 799,997,952 views (each crop counts once)")
    assert value(found, "FLOPs").startswith(f"{flops} per view, ")
    assert value(found, "time").startswith(f"{hours} on 1 accelerator at 40 % of 989 TFLOP/s, ")
    steps = [int(step.replace(",", "")) for step in re.findall(r"at step ([\d,]+)", value(found, "lr"))]
    assert steps == [0, 3128, 34637, 66147, 97656]
    assert "weight decay 0.04 to 0.4, tau 0.004 to 0" in found.text
    assert not re.search(r"nan|inf\b|-\d+ epochs", found.text)
    assert list(tmp_path.iterdir()) == []


def test_smoke_is_compiled(tmp_path):
    """On this machine's devices, eight in tests; what it needs is there."""
    found = plan(replace(load("simclr").PRESETS["smoke"], out=tmp_path / "run"))
    assert found.problems == []
    assert " per device, for 8 CPU devices: state and batch " in value(found, "memory")
    assert 0.01 < gib(value(found, "memory")) < 1


def test_several_kinds_of_crops_and_streams():
    crops = MultiCrops()
    kinds = list(crops.kinds().values())
    recipe = replace(SMALL, data=MultiCropData(batch=8, views=crops), method=Multi(), plan=QUICK)
    each = " + ".join(str(kind.n) for kind in kinds)
    assert value(plan(recipe), "batch").startswith(f"8 x ({each}) = {8 * sum(kind.n for kind in kinds)} views a step")
    assert all(f"{kind.n} views of {kind.size} px" in value(plan(recipe), "data.train") for kind in kinds)


@dataclass(frozen=True)
class Multi:
    """SimCLR on the first kind of crops."""

    base: SimCLR = field(default_factory=lambda: replace(TINY_SIMCLR, backbone=replace(TINY_SIMCLR.backbone, size=16)))

    def init(self, key, batch=None):
        return self.base.init(key)

    def loss(self, model, target, carry, batch, key, *, axis=None):
        return self.base.loss(model, target, carry, batch[0], key, axis=axis)

    def problems(self):
        return []


# What is refused


class Layers(eqx.Module):
    """As a tower: what it keeps for the backward pass is written in it."""

    backbone: Array
    remat: str = eqx.field(static=True)


@dataclass(frozen=True)
class Toy:
    """A method with activations to keep and little to compile."""

    remat: str = "none"

    def init(self, key, batch=None):
        return Layers(jax.random.normal(key, (12, 48, 48)), self.remat), ()

    def loss(self, model, target, carry, batch, key, *, axis=None):
        layer = lambda x, w: (jnp.sin(jnp.sin(jnp.sin(x @ w))), None)
        layer = jax.checkpoint(layer) if model.remat == "full" else layer
        pixels = jnp.asarray(batch.images).astype(jnp.float32).reshape(-1, 48)
        return jax.lax.scan(layer, pixels, model.backbone)[0].mean(), Aux({})

    def problems(self):
        return []


def test_what_does_not_fit_is_refused_with_what_would():
    """With less memory than a step needs, a plan says by how much and names settings; with them it fits."""
    recipe = replace(SMALL, data=replace(SMALL.data, batch=1024), method=Toy(), plan=Planning(devices=1, memory=0.2))
    (sentence,) = plan(recipe).problems
    assert sentence.startswith("--plan.memory: a step needs ")
    needs, there, less, shared = re.findall(r"[\d.]+ [GM]iB", sentence)
    assert gib(needs) > gib(there) == pytest.approx(0.2, rel=0.01)
    assert (
        f"try --method.remat full ({less}), or 2 devices (about {shared} each), or a smaller --data.batch" in sentence
    )
    more = plan(replace(recipe, plan=replace(recipe.plan, devices=2)))
    assert more.problems == []
    assert gib(value(more, "memory")) == pytest.approx(gib(shared), rel=0.1)
    assert plan(replace(recipe, method=Toy(remat="full"))).problems == []
    enough = replace(recipe.plan, memory=1.01 * gib(needs))
    assert plan(replace(recipe, plan=enough)).problems == []


def test_devices_that_are_elsewhere_have_no_limit_of_their_own():
    found = plan(replace(SMALL, method=Toy(), plan=Planning(devices=2)))
    assert found.problems == []
    assert "for 2 accelerators: " in value(found, "memory")
    assert value(found, "memory").endswith("--plan.memory GIB checks it against a limit")


def test_a_batch_that_the_devices_cannot_share_is_refused():
    data = ABData(
        reward_batch=16, value_batch=12, reward_views=RandomCrops(n=2, size=16), value_views=RandomCrops(size=16)
    )
    found = plan(replace(SMALL, data=data, method=TINY_AB, plan=Planning(devices=8)))
    assert found.problems == ["--data.value-batch 12 must be a multiple of the 8 devices"]


def test_a_full_disk_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    recipe = replace(SMALL, plan=QUICK, out=tmp_path / "deep" / "run")
    state = jax.eval_shape(lambda: train.init(TINY_SIMCLR, recipe.optim.build(100), 0))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(int(3.5 * size)))
    (sentence,) = plan(recipe).problems
    assert sentence.startswith(f"--out {recipe.out}: checkpoints need up to ")
    assert sentence.endswith("try another --out, or --ckpt.keep 1 (not 2), or --ckpt.no-keep-best")
    # The newest one, the best, the one that is being written.
    assert plan(replace(recipe, ckpt=replace(recipe.ckpt, keep=1))).problems == []
    # And two in between.
    more = plan(replace(recipe, ckpt=replace(recipe.ckpt, every=10, keep=1, keep_every=40)))
    assert "the newest 1, the best and those of every 40 steps are kept" in value(more, "checkpoint")
    assert more.problems[0].endswith("try another --out, or --ckpt.no-keep-best, or --ckpt.keep-every 0")
    # What the run's own checkpoints take already will be theirs again.
    (recipe.out / "checkpoints" / "50").mkdir(parents=True)
    (recipe.out / "checkpoints" / "50" / "state").write_bytes(bytes(int(size)))
    assert plan(recipe).problems == []


# The machine


def test_problems_name_the_flag():
    bad = Planning(devices=-1, memory=-2.0, peak=0.0, mfu=1.5)
    assert [sentence.split()[0] for sentence in bad.problems()] == [
        "plan.devices",
        "plan.memory",
        "plan.peak",
        "plan.mfu",
    ]
    assert Planning().problems() == []


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """A driver that lists two cards, the second a little smaller."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '81920\\n81559\\n'\n")
    smi.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(smi))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)


def test_gpus_are_found_without_touching_them(two_gpus, monkeypatch):
    assert this_machine() == Machine(2, True, pytest.approx(0.75 * 81559 / 1024))
    assert Planning(devices=16).machine() == Machine(16, True, this_machine().memory)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert this_machine() == Machine(1, True, pytest.approx(0.9 * 80, rel=0.01))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not this_machine().accelerator


def test_without_gpus_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    here = this_machine()
    assert here.devices == 8
    assert not here.accelerator
    assert 0.1 < here.memory < 1e5
    assert Planning(memory=5.0).machine() == here._replace(memory=5.0)
    assert Planning(devices=4).machine() == Machine(4, True, 0.0)


def test_what_auto_means_is_settled():
    method = AB(SimCLR(ViTConfig(remat="dots")))
    there, here = settled(method, True), settled(method, False)
    assert (there.base.backbone.dtype, here.base.backbone.dtype) == ("bfloat16", "float32")
    assert dict(flags_of(there, "remat", "--method")) == {
        "--method.base.backbone.remat": "dots",
        "--method.decoder.remat": "none",
    }
    assert here.decoder.remat == "full"
    assert set(dict(flags_of(with_every(method, "remat", "full"), "remat", "--method")).values()) == {"full"}
    assert replace(there, base=replace(there.base, backbone=method.base.backbone), decoder=method.decoder) == method


def test_durations_are_to_two_figures():
    said = {0.4: "under a second", 100: "1.7 minutes", 72_000: "20 hours", 4e9: "127 years"}
    assert {seconds: duration(seconds) for seconds in said} == said
