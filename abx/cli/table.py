"""The verb `abx table`: results of runs as rows of the paper's tables."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from abx.cli.errors import fail


@dataclass(frozen=True)
class Table:
    """Results of runs (results.jsonl, which abx probe writes) as rows of the paper's Tables 1 to 6: ours beside the
    paper's, what each AB gains over its base, there and here, and what is missing. Needs no device."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Folders of runs, e.g. runs/simclr runs/ab_simclr. Those that differ in their seed alone share a row."""
    tables: tuple[int, ...] = ()
    """Only these, from 1 to 6, if need be with no figure of ours. None given: all that have one; but not those whose
    figures of ours all stand in one before."""
    network: Literal["auto", "online", "target"] = "auto"
    """Figures of which network. auto = the moving average of DINO and AB over DINO, of all others the trained one;
    where only the other was measured, that one, with a note."""
    called: tuple[str, ...] = ()
    """SPEC=NAME: pre-training data that is the paper's by another name, e.g. 'tar:/mnt/a/*.tar=cc12m'. NAME is
    imagenet, cc12m, coco or epic_kitchens; data in a folder of that name needs none. All other data stands in."""
    markdown: bool = False
    """Print Markdown."""
    json: bool = False
    """Also print one JSON object, on the last line: {"tables": [{"table": 1, "data": "scenes", "rows": [{"system":
    "SimCLR", "column": "linear", "paper": 66.2, "ours": 31.0, ...}, ...], "missing": [...], ...}, ...]}. Per cent."""

    def __call__(self) -> None:
        table(self)


def table(verb: Table) -> None:
    if not verb.runs:
        fail("RUN is missing: give one folder of a run or more")
    if wrong := [number for number in verb.tables if not 1 <= number <= 6]:
        fail(f"--tables must be from 1 to 6, not {wrong[0]}")

    from abx.analysis import typeset
    from abx.analysis.tables import DATASETS, UNTRAINED, assemble
    from abx.data.sources import SpecError
    from abx.experiment.results import read_runs

    called = {}
    for text in verb.called:
        spec, equals, name = text.rpartition("=")
        if not equals or not spec or name not in DATASETS:
            fail(f"--called must be SPEC=NAME with NAME one of {', '.join(DATASETS)}, not {text}")
        called[spec] = name
    try:
        runs = read_runs(verb.runs, called, lambda sentence: print(f"left out: {sentence}", file=sys.stderr))
    except SpecError as wrong:
        fail(str(wrong))
    found = assemble(runs, verb.tables, "" if verb.network == "auto" else verb.network)
    for each in found:
        print((typeset.markdown if verb.markdown else typeset.text)(each), end="\n\n")
    if found:
        print(typeset.LEGEND)
    shown = {folder for each in found for folder in each.runs}
    unplaced = [run for run in runs if run.folder not in shown]
    where = f"table {', '.join(map(str, verb.tables))}" if verb.tables else "the paper's tables"
    backbones = {run.backbone for run in runs if run.reward}
    for run in unplaced:
        what = f"run of {run.system}"
        if run.system == UNTRAINED and backbones and run.backbone not in backbones:
            what = f"untrained network, {run.backbone}, beside which no run stands,"
        print(f"{run.folder}: no result of this {what} has a place in {where}")
    if unplaced:
        print("All tables have figures of the decoder probe, Table 1 of linear, map and finetune besides.")
    if verb.json:
        tables = [typeset.as_json(each) for each in found]
        print(json.dumps({"tables": tables, "unplaced": [run.folder for run in unplaced]}))
