"""`results.jsonl` of runs, read back: what probes said, and of which system of the paper."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abx.analysis import paper
from abx.analysis.cells import Result, Run
from abx.analysis.tables import DATASETS, UNTRAINED
from abx.data.mixture import split
from abx.data.sources import SpecError, printable
from abx.data.specs import scheme_names
from abx.data.streams import views_per_step
from abx.experiment.config import Recipe
from abx.experiment.folder import recipe_of
from abx.experiment.saved import HARMLESS, flat, to_json
from abx.methods import AB, CLIP, DINO, IJEPA, MAE, SLIP, CLIPAug, SigLIP, SiLC, SimCLR

FILE = "results.jsonl"
SYSTEMS = {
    MAE: "MAE",
    IJEPA: "I-JEPA",
    SimCLR: "SimCLR",
    DINO: "DINO",
    CLIP: "CLIP",
    CLIPAug: "CLIP+Aug",
    SigLIP: "SigLIP",
    SLIP: "SLIP",
    SiLC: "SiLC",
}
"""What the paper calls our methods."""
NUMBERS = ("n_train", "n_test", "step")
SHARES = re.compile(r"top\d+|mean_per_class|ap(50)?|iou|f1|(verb|noun|action)_top\d+|(i2t|t2i)_r\d+")
"""Names of figures that are shares, from 0 to 1."""
FOLDERS = {
    "imagenet": "imagenet",
    "imagenet1k": "imagenet",
    "in1k": "imagenet",
    "ilsvrc2012": "imagenet",
    "cc12m": "cc12m",
    "coco": "coco",
    "coco2017": "coco",
    "mscoco": "coco",
    "epickitchens": "epic_kitchens",
    "epickitchens100": "epic_kitchens",
    "ek100": "epic_kitchens",
}
"""What folders of the paper's data are called, without - and _; a side in pixels may follow."""


def read_runs(folders: Sequence[Path], called: Mapping[str, str] = {}) -> list[Run]:
    """All runs whose results lie in some folders.

    Args:
        called: data strings, and which of the paper's data sets each is.

    Raises: SpecError.
    """
    found, seen = [], set()
    for folder in folders:
        if not folder.is_dir():
            raise SpecError(f"{folder} is {'a file, not a folder' if folder.exists() else 'not there'}")
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        rows = read_results(folder / FILE)
        sources = dict.fromkeys(_run_of(folder, row) for row in rows)
        for source in sources:
            results = tuple(result_of(row) for row in rows if _run_of(folder, row) == source)
            found.append(_run(folder, source, len(sources) > 1, results, called))
    return found


def read_results(path: Path) -> list[dict[str, Any]]:
    """Lines of a `results.jsonl`. A last one that a kill cut off is left out.

    Raises: SpecError for a file that is not there or is not what it should be, naming the line.
    """
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        raise SpecError(f"{path.parent} has no results yet: abx probe --run {path.parent} writes {FILE}") from None
    except OSError as wrong:
        raise SpecError(f"{path} cannot be read: {wrong.strerror}") from wrong
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            result_of(row)
        except (ValueError, RecursionError) as wrong:
            if number == len(lines) and isinstance(wrong, json.JSONDecodeError):
                continue
            why = "it is no JSON" if isinstance(wrong, json.JSONDecodeError | RecursionError) else wrong
            raise SpecError(f"{path}, line {number} is no result of a probe: {why}") from None
        rows.append(row)
    if not rows:
        raise SpecError(f"{path} holds no results")
    return rows


def result_of(row: Any) -> Result:
    """Raises: ValueError, with what is wrong."""
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    for name in ("probe", "task", "network", "date"):
        if not isinstance(row.get(name), str):
            raise ValueError(f"it has no {name}")
    for name in NUMBERS:
        if type(row.get(name, 0)) is not int or row.get(name, 0) < 0:
            raise ValueError(f"its {name} is {printable(str(row[name]))}, not a number of them")
    metrics = {}
    for name, value in row.items():
        if not SHARES.fullmatch(name) or value is None:
            continue
        if type(value) not in (int, float) or not (math.isnan(value) or 0 <= value <= 1):
            raise ValueError(f"its {name} is {printable(str(value))}, not a share from 0 to 1")
        if not math.isnan(value):
            metrics[name] = float(value)
    try:
        date = datetime.fromisoformat(row["date"])
    except ValueError:
        raise ValueError(f"its date is {printable(row['date'])!r}, not one as 2026-01-31T12:00:00") from None
    return Result(
        probe=row["probe"],
        task=row["task"].partition(":")[0],
        network=row["network"],
        step=row.get("step", 0),
        train=str(row.get("train") or ""),
        test=str(row.get("test") or ""),
        n_train=row.get("n_train", 0),
        n_test=row.get("n_test", 0),
        date=date if date.tzinfo else date.replace(tzinfo=UTC),
        metrics=metrics,
    )


def _run_of(folder: Path, row: Mapping[str, Any]) -> str:
    """The run that a result is of: "" for that of the folder itself."""
    named = row.get("run")
    if named == "none":
        return f"none {row.get('init') or ''}".strip()
    # The folder may have been moved or copied since, and is still called the same.
    own = (folder / "config.json").exists() and os.path.basename(str(named)) == folder.resolve().name
    return "" if own or not named else str(named)


def _run(folder: Path, source: str, several: bool, results: tuple[Result, ...], called: Mapping[str, str]) -> Run:
    name = f"{folder} ({source})" if source and several else str(folder)
    if source.split(" ")[0] == "none":
        init = source.partition(" ")[2]
        return Run(name, UNTRAINED, "", "", "", "", init, init, 0, 0, "online", results)
    of = Path(source) if source else folder
    try:
        recipe = recipe_of(of)
    except FileNotFoundError:
        raise SpecError(f"{of} is not the folder of a run: it has no config.json") from None
    except (OSError, ValueError, KeyError, AssertionError, RecursionError) as wrong:
        why = printable(str(wrong)) or "it is of no run"
        raise SpecError(f"{of / 'config.json'} is not a configuration that this version of abx reads: {why}") from wrong
    return described(name, recipe, results, called)


def described(name: str, recipe: Recipe, results: tuple[Result, ...] = (), called: Mapping[str, str] = {}) -> Run:
    """Which system of the paper a recipe is, and on what data."""
    method: Any = recipe.method
    ab = isinstance(method, AB)
    base = method.base if ab else method
    system = SYSTEMS.get(type(base), type(base).__name__)
    lacks = ablations(recipe)
    streams = recipe.data.streams()
    specs = [dataset_of(stream.spec, called) for stream in streams.values()]
    backbone = recipe.backbone
    size = f"ViT {backbone.width} x {backbone.depth}, patches of {backbone.patch}" if backbone else "no ViT"
    return Run(
        folder=name,
        system=paper.ablated(f"AB_{system}", *lacks) if ab else system,
        base=(f"AB_{system}" if lacks else system) if ab else "",
        reward=specs[0],
        value=specs[-1],
        texts=next((stream.texts.kind for stream in streams.values() if stream.texts), ""),
        backbone=f"{size}, {backbone.size} px" if backbone else size,
        setting=_setting(recipe),
        seed=recipe.seed,
        views=views_per_step(recipe.data),
        network="target" if isinstance(base, DINO) else "online",
        results=results,
    )


def ablations(recipe: Recipe) -> tuple[str, ...]:
    """Which of Table 5 a run of AB is, by its names."""
    method = recipe.method
    if not isinstance(method, AB):
        return ()
    lacks = {
        paper.AUGMENTED: method.augment_value,
        paper.BLIND: not method.actions,
        paper.UNPROPAGATED: not method.value_weight,
        paper.UNLAGGED: recipe.ema.tau == 1,
        paper.UNREWARDED: not method.reward_weight,
    }
    return tuple(name for name, so in lacks.items() if so)


def dataset_of(spec: str, called: Mapping[str, str] = {}) -> str:
    """Which of the paper's data sets a data string names, by the name of a folder in it; else the string itself.

    Of a part of a data set, such as coco_sample or tiny-imagenet, no folder has just its name.
    """
    if spec in called:
        return called[spec]
    try:
        parts = split(spec, scheme_names())
    except SpecError:
        parts = []
    if len(parts) == 1:
        for folder in reversed(re.split(r"[/:]", parts[0][1].lower())):
            plain = re.sub(r"[-_](224|256|384|512)(px)?$", "", folder)
            if known := FOLDERS.get(re.sub(r"[-_]", "", plain)):
                return known
    return printable(spec)


def _setting(recipe: Recipe) -> str:
    """What a run does, but for its seed, where its data lies, and what changes no training."""
    data = tuple(f"data.{name}" for name in recipe.data.streams())
    free = (*HARMLESS, *data, "seed", "eval")
    settings = flat(to_json(replace(recipe, size="")))
    kept = {k: v for k, v in settings.items() if not any(k == name or k.startswith(name + ".") for name in free)}
    return json.dumps(kept, sort_keys=True)


assert set(FOLDERS.values()) == set(DATASETS)
