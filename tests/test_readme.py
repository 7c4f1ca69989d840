"""The README's links lead somewhere, its Python runs, and the flags it names exist."""

import dataclasses
import re
from pathlib import Path

import pytest

from abx.cli.analyse import Analyse, Targets
from abx.cli.data.digest import Digest
from abx.cli.data.index import Index
from abx.cli.data.inspect import Inspect
from abx.cli.data.prepare import Prepare
from abx.cli.doctor import Doctor
from abx.cli.embed import Embed
from abx.cli.explore import Explore
from abx.cli.export import Export
from abx.cli.listing import Runs
from abx.cli.neighbours import Neighbours
from abx.cli.pca import PCA
from abx.cli.plot import Plot
from abx.cli.runs import Replay, Report, ValueMap
from abx.cli.table import Table
from abx.cli.tokenizer import Show, Train
from abx.cli.verify import VerifyResume
from abx.data.views import RandomCrops
from abx.experiment.cli import flags
from benchmarks.replicate.__main__ import Replicate, ReportOf
from recipes import NAMES, load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = (
    Runs,
    Plot,
    Report,
    ValueMap,
    Explore,
    Replay,
    Analyse,
    Targets,
    VerifyResume,
    Table,
    Embed,
    PCA,
    Neighbours,
    Export,
    Doctor,
    Inspect,
    Index,
    Digest,
    Prepare,
    Train,
    Show,
    Replicate,
    ReportOf,
    RandomCrops,
)
LAUNCHERS = {
    "--nodes",
    "--ntasks-per-node",
    "--gpus-per-node",
    "--cpus-per-task",
    "--requeue",
    "--signal",
    "--worker",
    "--command",
    "--logdir",
}
"""Flags of SLURM's, Google's and TensorBoard's commands."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = [x for x in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if not x.startswith(("http", "#"))]
    assert not [x for x in links if not (page.parent / x.partition("#")[0]).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_flags_exist(page):
    known = {flag for name in (*NAMES, "probe") for flag in flags(load(name).PRESETS["smoke"])}
    known |= {flag.replace(".no-", ".").replace("--no-", "--") for flag in known} | {
        "--help",
        "--json",
        "--no-resume",
        "--mesh",
    }
    known |= {f"--{f.name.replace('_', '-')}" for verb in VERBS for f in dataclasses.fields(verb)}
    known |= LAUNCHERS | {"--mesh"}  # which is read as --mesh.kind
    text = re.sub(r"`(?:python )?benchmarks/[^`]*`|^\s*(?:python )?benchmarks/.*$", "", page.read_text(), flags=re.M)
    said = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z]", text))
    assert {x for x in said if x not in known and x.replace(".no-", ".") not in known} == set()


def test_python_runs():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(compile(code, "README.md", "exec"), {})
