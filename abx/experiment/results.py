"""`results.jsonl` of runs, read back: what probes said, and of which system of the paper."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from abx.analysis.cells import Result, Run
from abx.analysis.tables import FEATURES, UNTRAINED
from abx.data.sources import SpecError, printable
from abx.experiment.folder import recipe_of
from abx.experiment.loading import holds_weights, named
from abx.experiment.rows import FILE
from abx.experiment.systems import described, sizes
from abx.nearest import not_there

NUMBERS = ("n_train", "n_test", "step", "size")
SHARES = re.compile(r"top\d+|mean_per_class|ap(50)?|iou|f1|(verb|noun|action)_top\d+|(i2t|t2i)_r\d+")
"""Names of figures that are shares, from 0 to 1."""


class NoResults(SpecError):
    """Nothing was measured there yet."""


class Origin(NamedTuple):
    """What a result is of: one of these, or the run of the folder itself."""

    run: str = ""
    """Folder of a run."""
    init: str = ""
    """What a network of no run is: an untrained one, or a file of weights."""
    size: int = 0
    """With `init`: side of the views in pixels, for which a network that goes by a name is made."""
    features: str = ""
    """A file."""

    def __str__(self) -> str:
        at = f" at {self.size} px" if self.size else ""
        if self.init and holds_weights(self.init):
            return self.init
        return f"untrained {self.init}{at}" if self.init else self.features or self.run


def read_runs(
    folders: Sequence[Path], called: Mapping[str, str] = {}, say: Callable[[str], None] = lambda sentence: None
) -> list[Run]:
    """All runs whose results lie in some folders.

    Args:
        called: data strings, and which of the paper's data sets each is.
        say: told of each folder without results, if others have some.

    Raises: SpecError, also where no folder has results.
    """
    found, lacking, seen = [], list[NoResults](), set()
    for folder in folders:
        if not folder.exists():
            raise SpecError(not_there(folder))
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        try:
            rows = read_results(folder / FILE)
        except NoResults as wrong:
            lacking.append(wrong)
            continue
        origins = dict.fromkeys(_origin(folder, row) for row in rows)
        for origin in origins:
            results = tuple(result_of(row) for row in rows if _origin(folder, row) == origin)
            found.append(_run(folder, origin, len(origins) > 1, results, called))
    if lacking and not found:
        raise lacking[0]
    for none in lacking:
        say(str(none))
    return found


def read_results(path: Path) -> list[dict[str, Any]]:
    """Lines of a `results.jsonl`. A last one that a kill cut off is left out.

    Raises: NoResults for a file that is not there or empty, SpecError for one that is not what it should be, naming the
        line.
    """
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        raise NoResults(f"{path.parent} has no results yet: abx probe --run {path.parent} writes {FILE}") from None
    except NotADirectoryError:
        raise NoResults(f"{path.parent} is a file, not a folder") from None
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
        raise NoResults(f"{path} holds no results")
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
    # Of files of features from elsewhere what counts is which pictures they are of, as far as labels tell.
    labels = f"features with labels {row.get('labels_sha256')}" if "features_sha256" in row else ""
    return Result(
        probe=row["probe"],
        task=row["task"].partition(":")[0],
        network=row["network"],
        step=row.get("step", 0),
        train=labels or str(row.get("train") or ""),
        test=labels or str(row.get("test") or ""),
        n_train=row.get("n_train", 0),
        n_test=row.get("n_test", 0),
        size=row.get("size", 0),
        view=str(row.get("view") or ""),
        settings=str(row.get("settings") or ""),
        date=date if date.tzinfo else date.replace(tzinfo=UTC),
        metrics=metrics,
    )


def _origin(folder: Path, row: Mapping[str, Any]) -> Origin:
    run = str(row.get("run") or "")
    if "features_sha256" in row:
        return Origin(features=run or "a file")
    if run == "none":
        init = str(row.get("init") or "network")
        return Origin(init=init, size=row.get("size", 0) if named(init) else 0)
    # The folder may have been moved or copied since, and is still called the same.
    own = (folder / "config.json").exists() and os.path.basename(run) == folder.resolve().name
    return Origin() if own else Origin(run=run)


def _run(folder: Path, origin: Origin, several: bool, results: tuple[Result, ...], called: Mapping[str, str]) -> Run:
    said = printable(str(origin))
    name = f"{folder} ({said})" if said and several else str(folder)
    if origin.features or holds_weights(origin.init):
        # With the folder that it lies in: many files are called train.npz.
        system = FEATURES + printable("/".join(Path(origin.features or origin.init).parts[-2:]))
        return Run(name, system, "", "", "", "", "", said, 0, 0, "online", results)
    if origin.init:
        return Run(name, UNTRAINED, "", "", "", "", _untrained(origin), said, 0, 0, "online", results)
    of = Path(origin.run) if origin.run else folder
    try:
        recipe = recipe_of(of)
    except FileNotFoundError:
        raise SpecError(f"{of} is not the folder of a run: it has no config.json") from None
    except (OSError, ValueError, RecursionError) as wrong:
        why = printable(str(wrong))
        raise SpecError(f"{of / 'config.json'} is not a configuration that this version of abx reads: {why}") from wrong
    return described(name, recipe, results, called)


def _untrained(origin: Origin) -> str:
    """Sizes of an untrained backbone; of one whose run is gone, words that fit no other."""
    if (config := named(origin.init, origin.size)) is not None:
        return sizes(config)
    try:
        return sizes(recipe_of(Path(origin.init)).backbone)
    except (OSError, ValueError, RecursionError):
        return f"that of {printable(origin.init)}, which cannot be read"
