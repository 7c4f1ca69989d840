"""The site has every page once, the examples run, and names of metrics, files and figures are those of the code."""

import pickle
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import small
import yaml
from pages import DOCS, code, documented, rows, unexplained

from abx.analysis.paper import BLOCKS
from abx.data import schemes, specs
from abx.data.schemes.scenes import Scenes
from abx.data.sources import Source, SpecError
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
