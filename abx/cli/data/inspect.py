"""`abx data inspect`: what is in the data, what cannot be read and why, and how training will cut it."""

import json
import os
import shlex
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from abx.analysis.inspect import choose, page
from abx.analysis.survey import lines, reasons, warnings
from abx.cli.errors import fail
from abx.data.sources import Source, SpecError, printable
from abx.data.specs import check_spec, no_pictures, open_source
from abx.data.survey import Survey, survey
from abx.data.views import RandomCrops

SHOWN = 16
"""Lines about rejected records on the terminal."""
EVERY = 10.0
"""Seconds between lines of progress where there is no terminal."""


@dataclass(frozen=True)
class Inspect:
    """What is in the data: counts, formats, sizes, labels, captions, what cannot be read and why, decode rate; and a
    page of sample pictures with their views and actions."""

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """Data string, e.g. scenes, folder:~/Pictures or 'tar:shards/*.tar'."""
    out: Path = Path("inspect.html")
    """HTML file to write."""
    limit: int | None = None
    """Look at no more than so many records, evenly spaced; 0 = all; None = all, but 1,000 of data that is drawn."""
    workers: int = 1
    """Processes that read and decode; 0 = as many as there are cores."""
    samples: int = 12
    """Pictures on the page."""
    n: int = 4
    """Views cut from each of them."""
    size: int = 224
    """Side of a view in pixels."""
    scale: tuple[float, float] = (0.05, 0.5)
    """Smallest and largest area of a view, as a share of the picture's."""
    seed: int = 0
    """Of the choice of pictures and views on the page."""
    json: bool = False
    """Also print one JSON object, on the last line: {"images": n, "readable": n, "rejected": {"name": "reason", ...}}.
    Images are readable + rejected: the records looked at (see --limit) and what indexing left out, a shard that cannot
    be read as one. A name that is rejected again is followed by #2, #3, ..."""
    page: bool = True
    """Write the page."""

    def __call__(self) -> None:
        """Exits with one sentence: with 1 when no record can be read, with 2 when there is no such data."""
        crops = RandomCrops(self.n, self.size, self.scale)
        if problems := _problems(self, crops):
            fail("; ".join(problems))
        try:
            source = open_source(self.spec, empty_ok=True)
            found = survey(source, self.limit, self.workers or os.cpu_count() or 1, _Progress())
        except SpecError as wrong:
            fail(str(wrong))
        except BrokenProcessPool:
            fail("a worker process died, most likely for want of memory: try --workers 1")
        except KeyboardInterrupt:
            print(file=sys.stderr)  # after the line of progress
            fail("interrupted; --limit 1000 looks at fewer records", 130)
        print(in_words(self.spec, found))
        if self.page:
            _write(self, source, found, crops)
        if found.readable:
            print(f"next: {_next(self.spec)}")
        if self.json:
            print(json.dumps({"images": found.images, "readable": found.readable, "rejected": found.rejected}))
        if not found.records:
            fail(no_pictures(self.spec, source), 1)
        if not found.readable:
            name, reason = list(found.rejected.items())[len(source.problems)]
            fail(f"none of the {found.read:,} images could be read; the first: {name}: {printable(reason)}", 1)


def in_words(spec: str, found: Survey) -> str:
    """At most about 40 lines."""
    said = [printable(spec), *(f"  {line.heading:<19}{printable(line.text)}" for line in lines(found))]
    told: list[str] = []
    for reason, names in reasons(found):
        if len(names) == 1:
            told.append(f"  rejected: {names[0]}: {printable(reason)}")
            continue
        told.append(f"  {len(names):,} rejected: {printable(reason)}")
        told += [f"    {name}" for name in names[:10]]
        told += [f"    ... and {len(names) - 10:,} more"] if len(names) > 10 else []
    if len(told) > SHOWN:
        told = [*told[:SHOWN], f"  ... {len(found.rejected):,} in all: --json names every one"]
    said += [f"  note: {printable(note)}" for note in found.notes]
    return "\n".join([*said, *told, *(f"warning: {printable(warning)}" for warning in warnings(found))])


def _problems(verb: Inspect, crops: RandomCrops) -> list[str]:
    """What is wrong with the flags, before anything is read."""
    found = [sentence] if (sentence := check_spec(verb.spec)) else []
    found += [problem.replace("crops.", "--", 1) for problem in crops.problems("crops")]
    for name, value, least in (
        ("limit", verb.limit or 0, 0),
        ("workers", verb.workers, 0),
        ("samples", verb.samples, 0),
    ):
        if value < least:
            found.append(f"--{name} must be at least {least}, not {value}")
    if verb.page and (verb.out.is_dir() or not verb.out.parent.is_dir()):
        why = "is a folder" if verb.out.is_dir() else f"lies in {verb.out.parent}, which does not exist"
        found.append(f"--out {printable(str(verb.out))} {printable(why)}: name an HTML file to write")
    return found


class _Progress:
    """One line that changes on a terminal, a plain line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal, self._said = sys.stderr.isatty(), time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        text = f"{done:,} of {total:,} records"
        if self._terminal:
            print(f"\r{text}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            print(text, file=sys.stderr, flush=True)


def _write(verb: Inspect, source: Source, found: Survey, crops: RandomCrops) -> None:
    shown = choose(source, crops, verb.samples, verb.seed) if found.readable else []
    try:
        verb.out.write_text(page(verb.spec, found, shown, source.classes, source.vocabulary), encoding="utf-8")
    except OSError as wrong:
        fail(f"--out {printable(str(verb.out))} cannot be written: {wrong.strerror or wrong}")
    print(f"written: {verb.out}")


def _next(spec: str) -> str:
    quoted = shlex.quote(spec)
    return f"python recipes/ab_simclr.py small --data.reward {quoted} --data.value {quoted} --dry-run"
