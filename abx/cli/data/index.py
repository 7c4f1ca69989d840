"""`abx data index`: build indexes ahead of a run."""

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from abx.cli.errors import fail

SAID = 10
"""Problems that are printed."""


@dataclass(frozen=True)
class Index:
    """Index data ahead of a run, so that the run starts at once."""

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """The data: folder:PATH, tar:GLOB, arrayrecord:GLOB, parquet:GLOB, or a mixture."""
    workers: int = 0
    """Processes that read; 0 = as many as there are cores."""
    json: bool = False
    """Also print one JSON object, on the last line: {"images": 1000, "problems": 0, "seconds": 1.2}."""

    def __call__(self) -> None:
        from abx.data.sources import SpecError
        from abx.data.specs import build_indexes, open_source

        if self.workers < 0:
            fail(f"--workers must be at least 0, not {self.workers}")
        began = time.monotonic()
        try:
            remarks = build_indexes(self.spec, self.workers or os.cpu_count() or 1, _say)
            if sys.stderr.isatty():
                print(file=sys.stderr)
            source = open_source(self.spec)
        except SpecError as wrong:
            fail(str(wrong))
        seconds = time.monotonic() - began
        for remark in remarks:
            print(remark)
        for name, reason in source.problems[:SAID]:
            print(f"left out: {name}: {reason}")
        if len(source.problems) > SAID:
            print(f"... and {len(source.problems) - SAID:,} more")
        for note in source.notes:
            print(note)
        print(f"{len(source):,} images, {len(source.problems):,} problems, {seconds:.1f} s")
        if self.json:
            found = {"images": len(source), "problems": len(source.problems), "seconds": round(seconds, 3)}
            print(json.dumps(found))


def _say(so_far: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{so_far}", end="", file=sys.stderr, flush=True)
