"""The site has every page once, what the pages say of a step is what a step does, and their examples run."""

import pickle
import re
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import yaml
from pages import CODE, DOCS, code, documented, rows, unexplained

from abx import boxes, train
from abx.analysis.paper import BLOCKS
from abx.data import schemes, specs
from abx.data.schemes.scenes import Scenes
from abx.data.sources import Source, SpecError
from abx.data.streams import views_per_step
from abx.experiment.ledger import Ledger
from abx.experiment.resuming import OURS
from abx.fit import Clock
from recipes import load

ROOT = Path(__file__).parents[1]


def leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for part in (nav.values() if isinstance(nav, dict) else nav) for leaf in leaves(part)]


def test_the_site_has_every_page_once():
    listed = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    there += [f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert sorted(listed) == sorted([*there, "benchmarks.md"])


@pytest.fixture(scope="module")
def step():
    """Shapes and numbers of a step of AB-SimCLR's smoke preset. Nothing is trained."""
    recipe = load("ab_simclr").PRESETS["smoke"]
    method, data = recipe.method, recipe.data
    picture = specs.open_source(data.value)[0].image
    views = data.value_views(picture, np.random.default_rng(0))
    tx, key, shape = recipe.optim.build(recipe.steps), jax.random.key(0), jax.eval_shape
    batch = shape(lambda: jax.tree.map(jnp.asarray, data.blank()))
    state = shape(lambda batch: train.init(method, tx, recipe.seed, batch), batch)
    model, target, carry = state.model, state.target, state.carry
    annotated = shape(method.base.prepare, batch.reward, key)
    encoded = shape(method.base.encode, model.base, annotated)
    p = shape(method.predict, model, target, carry, batch, key)
    q = shape(lambda model, p: model.value.logits(p.phi, p.psi), model, p)
    y = shape(method.value_target, target, p, carry.step)
    decoder, backbone = method.decoder, method.base.backbone
    arrays = {
        "picture": picture,
        "boxes of one picture": views.boxes,
        "views of one picture": views.images,
        "batch.reward.images": batch.reward.images,
        "batch.reward.boxes": batch.reward.boxes,
        "batch.value.images": batch.value.images,
        "batch.value.boxes": batch.value.boxes,
        "actions": p.actions,
        "action tokens": shape(partial(boxes.quantize, bins=decoder.bins), p.actions),
        "annotated views": annotated.images,
        "patches of one view": shape(lambda model, x: model.backbone.embed(x[0, 0]), model, batch.value.images),
        "first views": encoded.features,
        "annotations": encoded.annotations,
        "tokens": p.tokens,
        "target tokens": p.tokens,
        "embedded first views": shape(lambda model, x: model.base.head(x), model, encoded.features),
        "base loss": p.reward_loss,
        "reward": p.reward,
        "phi": p.phi,
        "psi": p.psi,
        "q": q,
        "target phi": p.target_phi,
        "target psi": p.target_psi,
        "target": y,
        "value loss": shape(method.value_loss, model, p, y),
        "loss": shape(method.loss, model, target, carry, batch, key)[0],
    }
    size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    chance = 2 * data.reward_batch - 1
    warm = next(s for s in range(recipe.steps) if recipe.optim.learning_rate(recipe.steps)(s) == recipe.optim.lr)
    numbers = {
        "reward images in a step": data.reward_batch,
        "views of each": data.reward_views.n,
        "value images in a step": data.value_batch,
        "views of each, n": data.value_views.n,
        "views that a step trains on": views_per_step(data),
        "moves from view to view, b n²": p.actions.size // 4,
        "parameters of the online network": size(model),
        "of these the backbone, which is kept": size(model.backbone),
        "SimCLR's head": size(model.base.head),
        "the value head: decoder, its own heads, scale and bias": size(model.value),
        "numbers in the gradient": size(model),
        "numbers that Adam remembers: two for each parameter, and three counters": size(state.opt),
    }
    said = {
        f"[{decoder.low:g}, {decoder.high:g}]",
        f"patches of {backbone.patch} x {backbone.patch} pixels; each patch, {3 * backbone.patch**2} numbers",
        {2: "two", 3: "three", 4: "four"}[backbone.depth] + " blocks and a norm",
        f"{chance} candidates, so a guess costs ln {chance} = {np.log(chance):.2f}",
        f"so there are {len(p.psi)}.",
        {1: "once", 2: "twice"}[decoder.depth] + " over, and their mean",
        f"gamma rises from 0 to {method.gamma} over the first {method.gamma_warmup} steps",
        f"loss = {method.reward_weight:g} x base loss + {method.value_weight:g} x value loss",
        f"rises from {recipe.optim.lr_start:g} to {recipe.optim.lr} over the first {warm} steps",
        f"to {recipe.optim.lr_end:g} at step {recipe.steps}",
        f"Weight decay, {recipe.optim.weight_decay}, is",
        f"tau = {recipe.ema.tau} on",
        f"every {recipe.log.every} steps",
        f"{views_per_step(load('ab_simclr').PRESETS['paper'].data)} views a step",
    }
    assert recipe.ema.shape == "constant"
    assert recipe.optim.weight_decay == recipe.optim.weight_decay_end
    assert size(state.opt) == 2 * size(model) + 3
    return arrays, numbers, said


def test_the_shapes_of_the_step_are_those_of_a_step(step):
    found = {name.strip("`"): (shape, kind) for name, _, shape, kind, _ in rows("step.md", "name")}
    assert found == {name: (" ".join(map(str, x.shape)), str(x.dtype)) for name, x in step[0].items()}


def test_its_axes_are_as_many_as_its_shapes_have_numbers():
    for name, axes, shape, *_ in rows("step.md", "name"):
        assert len(axes.split()) == len(shape.split()), name


def test_its_numbers_are_those_of_a_step(step):
    assert dict(rows("step.md", "number")) == {name: f"{x:,}" for name, x in step[1].items()}


def test_no_other_number_stands_in_its_text(step):
    """A number is in a table that is checked, in code that runs, or in a sentence that is made from the preset."""
    text = re.sub(r"\s+", " ", re.sub(CODE, "", re.sub(r"^\|.*$", "", (DOCS / "step.md").read_text(), flags=re.M)))
    for sentence in step[2]:
        assert sentence in text, sentence
        text = text.replace(sentence, "")
    left = re.findall(r"(?<![\w/-])-?\d[\d.,]*\b", text)
    # A view in its own frame, boxes of a picture, a softmax's sum; and a part of formulas and of words.
    assert set(left) <= {"0", "1", "0, 0, 1, 1"} | {"0,", "1,", "1."}, left


def run(blocks: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One after the other, as cells of a notebook."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look for the module they are in
    for block in blocks:
        exec(compile(block, name, "exec"), module.__dict__)
    return module.__dict__


def test_the_examples_of_the_step_hold(monkeypatch):
    assert run(code("step.md"), "step_example", monkeypatch)["y"].shape == (2, 2)


def test_the_new_reward_is_one_and_bears_bootstrapping(monkeypatch):
    found = run(code("extend.md", "A reward"), "reward_example", monkeypatch)
    method, batch, model = found["method"], found["batch"], found["model"]
    assert {"reward/loss", "value/loss"} <= set(found["aux"].metrics)
    p = method.predict(model, model, found["carry"], batch, found["key"])
    assert p.reward.shape == (4, 2, 8)
    assert float(p.reward.min()) > 0
    assert not np.allclose(p.reward.sum(-1), 1, atol=0.01)


def test_the_new_kind_of_data_is_known_by_its_file(monkeypatch, tmp_path):
    [block] = code("extend.md", "A data source")
    (tmp_path / "npz.py").write_text(block)
    monkeypatch.setattr(schemes, "__path__", [*schemes.__path__, str(tmp_path)])
    specs.scheme_names.cache_clear()
    try:
        images = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), np.uint8)
        np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 2, 1]))
        source = specs.open_source(f"npz:{tmp_path / 'a.npz'}")
        assert isinstance(source, Source)
        assert len(pickle.loads(pickle.dumps(source))) == 3
        assert np.array_equal(source[1].image, images[1])
        assert [source[i].label for i in range(3)] == [0, 2, 1]
        assert source.classes == ("0", "1", "2")
        with pytest.raises(IndexError):
            source[3]
        assert len(specs.open_source(f"0.5*npz:{tmp_path / 'a.npz'} + 0.5*scenes")) > 3
        np.savez(tmp_path / "b.npz", images=images.astype(np.float32))
        np.savez(tmp_path / "c.npz", pictures=images)
        for wrong in (f"npz:{tmp_path / 'b.npz'}", f"npz:{tmp_path / 'c.npz'}", f"npz:{tmp_path / 'd.npz'}"):
            with pytest.raises(SpecError):
                specs.open_source(wrong)
        assert "npz:FILE" in specs.accepted()
        assert "did you mean 'npz:" in (specs.check_spec("npx:a.npz") or "")
    finally:
        specs.scheme_names.cache_clear()
        sys.modules.pop("abx.data.schemes.npz", None)


def test_the_new_probe_tells_apart_what_lies_apart(monkeypatch, capsys):
    found = run(code("extend.md", "A probe"), "probe_example", monkeypatch)
    assert "guessing 8%" in capsys.readouterr().out
    assert found["scores"].shape == (48, 12)
    places = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] + 0.1
    scores = found["centroid_scores"](places, np.array([0, 1, 2, 0]), 5 * places[:3], 4)
    assert scores.argmax(1).tolist() == [0, 1, 2]
    assert np.allclose(scores[:, 3], 0)


def test_every_metric_of_a_step_is_explained():
    """Those of evaluations are looked for where whole runs are: tests/test_recipes.py."""
    names = {"step", "loss", "grad_norm", *Clock(1).metrics()}
    for name, case in small.METHODS.items():
        recipe = load(name).PRESETS["smoke"]
        names |= set(Ledger(recipe.data, dict.fromkeys(recipe.data.streams(), Scenes()), Path("none")).metrics())
        batch, key = case.batch(np.random.default_rng(0)), jax.random.key(0)
        model, carry = jax.eval_shape(case.method.init, key)
        names |= set(jax.eval_shape(case.method.loss, model, model, carry, batch, key)[1].metrics)
    assert unexplained(names) == []
    assert {name for name in documented() if name.startswith(("reward/", "ssl/", "mae/", "ijepa/"))} <= names


def test_every_metric_that_is_explained_can_be_written():
    assert len(documented()) == len(set(documented()))
    code = "".join(path.read_text() for path in (ROOT / "abx").rglob("*.py"))
    bins = re.compile("_(disjoint|far|mid|near|K)$")
    for name in documented():
        last = bins.sub("", name.rpartition("/")[2])
        assert re.search(rf'["/]{last}(["_:]|$)', code, re.M), name


def test_every_file_of_a_run_is_explained():
    files = "".join(first for first, *_ in rows("output.md", "file"))
    for name in (*OURS, "config.json", "environment.json", "results.jsonl"):
        assert f"`{name}" in files, name


SYSTEMS = {
    "CLIP": "CLIP",
    "CLIP+Aug": "CLIP+Aug",
    "SimCLR": "SimCLR",
    "SLIP": "SLIP",
    "DINO": "DINO",
    "SiLC": "SiLC",
    "MAE": "MAE",
    "I-JEPA": "I-JEPA",
    "AB": "AB_CLIP AB_SimCLR AB_DINO",
}
"""What the paper calls each method of docs/methods.md."""


def paper_rows(system: str) -> list[str]:
    """As Markdown: each row of the paper's tables that a system has; of AB the gain over its base in brackets."""
    found = []
    for block in BLOCKS:
        for row in block.rows:
            if row.system == system:
                gains = row.differences or (None,) * len(row.figures)
                cells = [
                    f"{column.name} {figure}" + (f" ({gain:+})" if gain is not None else "")
                    for column, figure, gain in zip(block.columns, row.figures, gains, strict=True)
                    if figure is not None
                ]
                name = f" {system}," if system.startswith("AB_") else ""
                found.append(f"| {block.table},{name} {block.title} | {', '.join(cells)} |")
    return found


@pytest.mark.parametrize("method", SYSTEMS)
def test_every_method_has_its_rows_of_the_paper(method):
    heading = {"AB": "Annotation bootstrapping"}.get(method, re.escape(method))
    part = re.split(rf"^## {heading}$", (DOCS / "methods.md").read_text(), flags=re.M)[1].split("\n## ")[0]
    said = [line for line in part.splitlines() if re.match(r"\| \d,", line)]
    assert said == [row for system in SYSTEMS[method].split() for row in paper_rows(system)]
