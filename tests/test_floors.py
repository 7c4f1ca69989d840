"""Who may import whom: each floor sees only the floors below, and on some its neighbours."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"types", "boxes", "nearest", "complaints"},
    {"nn", "losses", "data", "parallel", "ema", "augment"},
    {"methods"},
    {
        "train",
        "fit",
        "checkpoint",
        "checksum",
        "keep",
        "manager",
        "agreed",
        "hosts",
        "signals",
        "tracing",
        "optim",
        "log",
        "boards",
    },
    {"analysis", "probes"},
    {"experiment"},
    {"cli"},
]
LEVEL = {name: i for i, floor in enumerate(FLOORS) for name in floor}
NEIGHBOURS = {0, 3}
"""Floors whose members may see each other."""
EXCEPTIONS = {("losses", "parallel"), ("augment", "parallel")}
"""Contrastive losses gather everyone's rows; augmentation draws by a row's place in everyone's batch."""
DOORS = {
    "array_record": {"data"},
    "fsspec": {"data"},
    "grain": {"data"},
    "PIL": {"data", "analysis", "experiment"},
    "orbax": {"checkpoint", "manager"},
    "sentencepiece": {"data"},
    "tensorboardX": {"boards"},
    "wandb": {"boards"},
    "tyro": {"complaints", "experiment", "cli"},
}
"""Outside libraries, and the parts that may import them."""


def imports(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ([f"abx.{a.name}" for a in node.names] if node.module == "abx" else [node.module])
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


FILES = sorted((ROOT / "abx").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_down(file):
    here = file.relative_to(ROOT / "abx").with_suffix("").parts[0]
    if here in ("__init__", "__main__"):
        return
    for module in imports(file):
        outside, *inside = module.split(".")
        assert here in DOORS.get(outside, {here}), f"{here} imports {outside}"
        if outside != "abx" or not inside or inside[0] in (here, "__init__", "__version__"):
            continue
        there = inside[0]
        below = LEVEL[there] < LEVEL[here] or (LEVEL[there] == LEVEL[here] and LEVEL[here] in NEIGHBOURS)
        assert below or (here, there) in EXCEPTIONS, f"{file} reaches up or across to {there}"


def test_train_knows_no_method():
    for name in ("train.py", "fit.py", "optim.py"):
        assert [
            m for m in imports(ROOT / "abx" / name) if m.startswith("abx.methods") and m != "abx.methods.base"
        ] == []


def test_recipes_and_benchmarks_do_not_import_each_other():
    for file in [*(ROOT / "recipes").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        if file.name == "pages.py":  # which measures nothing, and tells what the others have
            continue
        assert not [m for m in imports(file) if m.split(".")[0] in ("recipes", "benchmarks")]
