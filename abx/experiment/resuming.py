"""Whether a run may go on in its folder: not with other settings or data than it began with, unless it is forced to."""

import json
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from abx.experiment.cli import as_typed, fail
from abx.experiment.config import Recipe
from abx.experiment.diverged import FOLDER
from abx.experiment.saved import differences, from_json, to_json, write_json

OURS = (
    *("checkpoints", "metrics.jsonl", "tensorboard", "wandb", "rejected.jsonl", "final.json", "report.txt"),
    *("views.png", "value_map.png"),
)
"""What a run leaves in its folder, beside `config.json`, the first to come and the last to go."""


def prepare(recipe: Recipe) -> list[str]:
    """Writes config.json, or, where --force lets other settings pass, returns what differs, for `settle`.

    Exits with 2 where the folder holds a run with other settings; with --no-resume that run is deleted.
    """
    out, path = recipe.out, recipe.out / "config.json"
    if not recipe.resume:
        _delete(out)
    changed: list[str] = []
    if path.exists():
        try:
            before = json.loads(path.read_text())
        except ValueError:
            fail([f"{path} cannot be read; give another --out, or --no-resume to start anew"])
        with suppress(ValueError):  # a setting that has come since had its default
            before = to_json(from_json(before))
        changed = differences(before, to_json(recipe))
    if changed and not recipe.force:
        ways = "give another --out, --no-resume to start anew, or --force to go on all the same"
        fail([f"{out} holds a run with other settings; {ways}", *changed])
    if not changed:
        write_json(path, to_json(recipe))
    return changed


def settle(recipe: Recipe, changed: list[str]) -> None:
    """config.json says the new settings, config.1.json (or the next number) the old ones.

    Only when the state is there: a checkpoint of another model ends the program, and the folder stays as it was.
    """
    if not changed:
        return
    out, path = recipe.out, recipe.out / "config.json"
    number = 1 + max((int(name.split(".")[1]) for name in _earlier(out)), default=0)
    shutil.copyfile(path, out / f"config.{number}.json")
    write_json(path, to_json(recipe))
    _say(f"{out} goes on with other settings (--force); config.{number}.json keeps those it had", changed)


def check_data(recipe: Recipe, before: dict[str, list[Any]], now: dict[str, list[Any]]) -> None:
    """Exits with 2 when a stream's data is not what the run began with; with --force that is only said.

    Args:
        before: the fingerprints in the checkpoint, by stream.
        now: those of the data that is there.
    """
    changed = [sentence for name in now if (sentence := _change(recipe, name, before.get(name), now[name]))]
    if changed and not recipe.force:
        ways = "put back what the run began with, give another --out, or --force to go on all the same"
        fail([f"{sentence}; {ways}" for sentence in changed])
    if changed:
        _say(f"{recipe.out} goes on with other data (--force)", changed)


def check_init(recipe: Recipe, before: str, now: str) -> None:
    """Exits with 2 when the file of --init is not what the run began with, though a resumed run does not read it; with
    --force that is only said.

    Args:
        before: sha256 in the checkpoint.
        now: of the file; "" where it is not there any more, which is no difference.
    """
    if not now or before == now:
        return
    what = f"--init: {recipe.init} holds other weights than the run began with"
    if not recipe.force:
        fail([f"{what}; put back the file, give another --out, or --force to go on all the same"])
    _say(f"{recipe.out} goes on all the same (--force)", [what])


def _change(recipe: Recipe, name: str, before: list[Any] | None, now: list[Any]) -> str:
    """How a stream's data is not what the run began with; "" if it is."""
    if before == now:
        return ""
    stream, flag = recipe.data.streams()[name], f"--data.{name}"
    if before is None:
        what = "the run began without it"
    elif before[0] != now[0]:
        what = f"{stream.spec} had {before[0]:,} pictures when the run began and has {now[0]:,} now"
    elif before[1] == now[1] and stream.texts is not None:
        flag = f"{recipe.data.flag(name, 'text')}.tokenizer"
        what = f"{stream.texts.tokenizer} is another tokenizer than when the run began"
    else:
        what = f"{stream.spec} holds other pictures than when the run began"
    return f"{flag}: {what}"


def _delete(out: Path) -> None:
    there = [name for name in OURS if (out / name).exists()]
    if there and not (out / "config.json").exists():
        fail([f"--no-resume would delete {', '.join(there)} in {out}, which holds no config.json and so no run"])
    for name in (*there, *_earlier(out), *(path.name for path in out.glob(f"{FOLDER}-*")), "config.json"):
        stale = out / name
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)


def _earlier(out: Path) -> list[str]:
    """The configurations that were replaced."""
    return [path.name for path in out.glob("config.*.json") if re.fullmatch(r"config\.\d+\.json", path.name)]


def _say(heading: str, changed: list[str]) -> None:
    print("\n".join([heading, *(f"  {as_typed(sentence)}" for sentence in changed)]), file=sys.stderr, flush=True)
