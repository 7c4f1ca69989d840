"""`abx data prepare`: from a data set as it is published to our own shards."""

import difflib
import json
import os
import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import tyro

from abx.cli.errors import fail
from abx.data.sources import printable

if TYPE_CHECKING:
    from abx.data.prepare.base import Published
    from abx.data.prepare.manifest import Manifest, SplitManifest

SAID = 5
"""So many rejected pictures are named; the manifest names more."""


@dataclass(frozen=True)
class Prepare:
    """Write a data set as ArrayRecord shards, its pictures made smaller, with all that is annotated.

    What is written is checked and listed in OUT/manifest.json. The same command goes on where it was stopped.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The data set: imagenet, cc12m, coco, epic_kitchens, visor, clevr, food101, pets, resisc45, sun397; webdataset for
    any tars, any for any data string. Without --src and --out, how it must lie."""
    src: str = ""
    """Where it lies as it is published: a folder, or whatever else fsspec reaches; for any, a data string."""
    out: Path | None = None
    """Folder to write to."""
    short_side: int = 256
    """Pictures whose shorter side has more pixels are shrunk to this; 0 keeps all as they are."""
    quality: int = 95
    """Of the JPEGs that are written for pictures that were shrunk or turned, 1 to 100; others keep their own bytes."""
    workers: int = 0
    """Processes that work at once; 0 = one for each CPU."""
    splits: tuple[str, ...] = ()
    """Only these, e.g. --splits train val; all if none are given."""
    restart: bool = False
    """Begin again: first remove what was prepared in --out."""
    retry: bool = False
    """Make those shards again in which pictures could not be used."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "...", "splits": {"train": {"records": 9, "rejected": 1,
    "expected": null, "complete": true}}}. A split is complete if all of it was read, and as much as is published."""

    def __call__(self) -> None:
        from abx.data.prepare.base import LayoutError
        from abx.data.prepare.shard import PrepareError

        data_set = _data_set(self.name)
        if not self.src and not self.out:
            print(f"{data_set.ABOUT.strip()}\n\nabx data prepare {self.name} --src WHERE --out FOLDER")
            return
        if problems := self._problems():
            fail("; ".join(problems))
        try:
            manifest = self._write(_found(data_set, self.src))
        except (LayoutError, PrepareError) as wrong:
            fail(str(wrong))
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on with the shards that are missing", 130)
        self._report(manifest)

    def _problems(self) -> list[str]:
        found = [] if self.src else [f"--src is missing: where the data lies; abx data prepare {self.name} says how"]
        if not self.out:
            found.append("--out is missing: the folder to write to")
        if self.short_side < 0:
            found.append(f"--short-side must be at least 0, not {self.short_side}")
        if not 1 <= self.quality <= 100:
            found.append(f"--quality must be from 1 to 100, not {self.quality}")
        if self.workers < 0:
            found.append(f"--workers must be at least 0, not {self.workers}")
        return found

    def _write(self, published: "Published") -> "Manifest":
        from abx.data.prepare.progress import Bar
        from abx.data.prepare.write import choose, prepare

        assert self.out is not None
        chosen = choose(published, self.splits)
        expected = [split.expected for split in chosen]
        known = [number for number in expected if number is not None]
        shards = sum(len(split.units) for split in chosen)
        with Bar(sum(known) if len(known) == len(expected) else None, shards) as bar:
            return prepare(
                published,
                self.out,
                name=self.name.replace("-", "_"),
                source=self.src,
                short_side=self.short_side,
                quality=self.quality,
                workers=self.workers or _cpus(),
                splits=self.splits,
                restart=self.restart,
                retry=self.retry,
                progress=bar,
            )

    def _report(self, manifest: "Manifest") -> None:
        written = {name: split for name, split in manifest.splits.items() if name in self.splits or not self.splits}
        for name, split in written.items():
            for line in _lines(name, split):
                print(line)
            print(f"  data: arrayrecord:{printable(str(self.out))}/{name}-*.arrayrecord")
        if any(split.rejected for split in written.values()):
            print("What could not be used is tried again by the same command with --retry.")
        if self.json:
            counts = {
                name: {
                    "records": split.pictures,
                    "rejected": split.rejected,
                    "expected": split.expected,
                    "complete": split.complete,
                }
                for name, split in written.items()
            }
            print(json.dumps({"out": str(self.out), "splits": counts}))
        if failed := [unit for split in written.values() for unit in split.failed]:
            fail(f"{len(failed)} units could not be read; the same command tries them again", 1)


def _lines(name: str, split: "SplitManifest") -> list[str]:
    """What became of a split, for people."""
    lines = [f"{name}: {split.pictures:,} pictures in {len(split.shards):,} shards"]
    if split.rejected:
        lines.append(f"  {split.rejected:,} could not be used:")
        lines += [f"    {key}: {reason}" for key, reason in split.reasons[:SAID]]
    if split.failed:
        lines.append(f"  {len(split.failed):,} units could not be read:")
        lines += [f"    {unit}: {reason}" for unit, reason in split.failed[:SAID]]
    found = split.pictures + split.rejected
    if split.expected not in (None, found):
        lines.append(f"  not complete: {found:,} pictures were found, and {name} is published with {split.expected:,}")
    elif not split.complete:
        lines.append(f"  not complete: {len(split.failed):,} units are missing")
    return lines


def _cpus() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _found(data_set: ModuleType, src: str) -> "Published":
    try:
        published: Published = data_set.find(src)
    except OSError as error:
        fail(f"--src {printable(src)} cannot be read: {printable(error.strerror or str(error))}")
    return published


def _data_set(name: str) -> ModuleType:
    from abx.data.prepare import published

    names = sorted(module.name for module in pkgutil.iter_modules(published.__path__))
    known = name.replace("-", "_")
    if known not in names:
        near = difflib.get_close_matches(known, names, 1)
        hint = f"did you mean {near[0]}? There are " if near else "there are "
        fail(f"there is no data set {printable(name)!r}: {hint}{', '.join(names)}")
    return import_module(f"{published.__name__}.{known}")
