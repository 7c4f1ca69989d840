"""`abx verify-resume`: is a run that is started again the run that never stopped?"""

import json
import os
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from abx.cli.errors import fail


@dataclass(frozen=True)
class VerifyResume:
    """Train 2K steps straight, and 2K steps killed after K and started again; compare every array of the last states
    bit for bit. Prints a certificate, or the first array that differs. Ends with 0 when all are equal, with 1 when not.

    Flags of the recipe follow after --: abx verify-resume simclr -- --data.train folder:~/Pictures
    """

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")]
    """Name of a recipe, e.g. ab_simclr, or the path of a recipe's script."""
    preset: str = "smoke"
    """The recipe's preset."""
    steps: int = 20
    """K. The learning rate's schedule is that of 2K steps in every run."""
    workers: tuple[int, ...] = (0, 2)
    """Numbers of data workers. The straight run has the first; for each number there is a run that begins with it and
    goes on with the next."""
    out: Path | None = None
    """Folder in which the runs are kept; it must be empty or not there. Not given: none is kept."""
    json: bool = False
    """Also print one JSON object, on the last line: {"equal": true, "leaves": 93, "steps": 40, "sha256": "...",
    "first": null, "restarts": [...], ...}; first = the first array that differs, and by how much."""
    flags: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Of the recipe."""

    def __call__(self) -> None:
        from abx.data.sources import SpecError
        from abx.experiment.cli import fail as fail_each
        from abx.experiment.config import unwritable
        from abx.experiment.verifying import Trial, find_script, verify
        from abx.hosts import announced
        from abx.signals import Stopped, stop_on_signal

        try:
            script = find_script(self.recipe)
        except SpecError as wrong:
            fail(str(wrong))
        kept = tempfile.TemporaryDirectory(prefix="abx-verify-") if self.out is None else nullcontext(str(self.out))
        with kept as folder:
            trial = Trial(script, self.preset, self.steps, self.workers, self.flags, Path(folder))
            problems = trial.problems()
            if announced(os.environ):
                problems.append("a launcher has announced several processes, and this is for one: srun --ntasks 1")
            if self.out is not None and (sentence := unwritable(self.out)):
                problems.append(f"--out {self.out}: {sentence}")
            elif self.out is not None and self.out.exists() and any(self.out.iterdir()):
                problems.append(f"--out {self.out} is not empty")
            if problems:
                fail_each(problems)
            with stop_on_signal() as stop:
                try:
                    with stop.at_once():
                        found = verify(trial, lambda sentence: print(sentence, flush=True))
                except SpecError as wrong:
                    fail(str(wrong))
                except Stopped:
                    raise SystemExit(128 + stop.signal) from None
        print(found.text)
        if self.json:
            print(json.dumps(found.as_json()))
        raise SystemExit(0 if found.equal else 1)
