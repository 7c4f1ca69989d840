"""What a run has seen of its data, and what of it could not be used."""

import itertools
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jax

from abx import hosts
from abx.data.loader import Loaded
from abx.data.mixture import Mixture
from abx.data.sources import Source
from abx.data.streams import Data
from abx.data.texts import decode
from abx.data.views import views_per_image
from abx.log import read_lines, write_lines

ENOUGH = 1000
"""Pictures of a stream that are tried before their share of unusable ones can stop the run."""
TOLD = 5
"""Reasons that the report of a stopped run gives, the most frequent first."""
SAID = 20
"""Records that are named on stderr; `path` has more."""
NAMED = 10_000
"""Records that are named in `path`: enough to see what is wrong, and no more than a moment's reading."""


class TooManyRejected(Exception):
    """So much of the data cannot be used that what is left is other data. The message is a report of some lines."""


@dataclass
class Ledger:
    """Counts what each stream has given; names each record that could not be used once, on stderr and in `path`."""

    data: Data
    sources: dict[str, Source]
    path: Path
    writes: bool = True
    """Of several processes only one does; each counts its own rows of the batches."""
    step: int = 0
    """Steps whose batches were seen, over all runs in the folder: all that a stream gave follows from it."""
    rejected: Counter[str] = field(default_factory=Counter)
    """By stream: records that could not be used, each as often as it came up; as far as the processes have told each
    other."""
    mine: Counter[str] = field(default_factory=Counter)
    """Those that this process has found since."""
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    """By stream, as far as this process has seen them."""
    named: set[str] = field(default_factory=set)
    """Those in `path`."""

    def __post_init__(self) -> None:
        if self.path.exists():
            rows = [row for row in read_lines(self.path) if "name" in row]
            if self.writes:
                write_lines(self.path, rows)  # without a line that a kill cut off
            self.named |= {row["name"] for row in rows}
        for note in dict.fromkeys(note for source in self._distinct() for note in source.notes):
            print(f"note: {note}", file=sys.stderr, flush=True)
        self._name([problem for source in self._distinct() for problem in source.problems])

    def __call__(self, step: int, loaded: Loaded) -> None:
        """Raises: TooManyRejected."""
        self.step = step + 1
        found = []
        for stream, records in loaded.rejected.items():
            self.mine[stream] += len(records)
            reasons = list(map(decode, loaded.reasons[stream]))
            self.reasons.setdefault(stream, Counter()).update(reasons)
            found += [(self.sources[stream].name(i), why) for i, why in zip(records.tolist(), reasons, strict=True)]
        if not hosts.several():
            self._tell()
        self._name(found)
        if reports := self.reports(ENOUGH):
            raise TooManyRejected("\n".join(reports))

    def metrics(self) -> dict[str, float]:
        """Totals since the run's first step: by stream images, views, epochs (of a mixture one for each part). All
        processes must ask."""
        self._tell()
        found = {"data/rejected": float(self.rejected.total()), "data/read": 0.0}
        found["data/left_out"] = float(sum(len(source.problems) for source in self._distinct()))
        for stream, chosen in self.data.streams().items():
            images, source = self.step * chosen.batch, self.sources[stream]
            found["data/read"] += images
            found[f"data/{stream}/images"] = float(images)
            found[f"data/{stream}/rejected"] = float(self.rejected[stream])
            found[f"data/{stream}/views"] = float(images * views_per_image(chosen.crops))
            if isinstance(source, Mixture):
                for k, epochs in enumerate(source.epochs(images)):
                    found[f"data/{stream}/epochs_{k}"] = epochs
            else:
                found[f"data/{stream}/epochs"] = images / len(source)
        return found

    def saved(self) -> dict[str, int]:
        """What has to be kept in a checkpoint, for `restore`. All processes must ask."""
        self._tell()
        return dict(self.rejected)

    def _tell(self) -> None:
        self.rejected.update(hosts.total({stream: self.mine[stream] for stream in self.data.streams()}))
        self.mine.clear()

    def restore(self, step: int, saved: dict[str, int]) -> None:
        # A run that was forced to go on with other data may have other streams.
        self.step, self.rejected = step, Counter({name: n for name, n in saved.items() if name in self.sources})

    def reports(self, enough: int = 1) -> list[str]:
        """Of each stream more of which could not be used than is allowed, once so many pictures were tried."""
        found = []
        for stream in self.data.streams():
            # What the others have found since is as much as this one has, about.
            count = self.rejected[stream] + self.mine[stream] * jax.process_count()
            tried = self.step * self.data.streams()[stream].batch + count
            if count and tried >= enough and count > self.data.max_rejected * tried:
                found.append(self._report(stream, count, tried))
        return found

    def _distinct(self) -> list[Source]:
        return list({id(source): source for source in self.sources.values()}.values())

    def _report(self, stream: str, count: int, tried: int) -> str:
        lines = [
            f"{count:,} of {tried:,} pictures that stream {stream} tried could not be used ({count / tried:.0%}), more "
            f"than --data.max-rejected {self.data.max_rejected:g} allows. Mend the data, or allow more.",
            *(f"  {n:,} x {reason}" for reason, n in self.reasons.get(stream, Counter()).most_common(TOLD)),
            f"Which they are: {self.path}",
        ]
        return "\n".join(lines)

    def _name(self, found: list[tuple[str, str]]) -> None:
        """Those that were not named before, as long as there is room."""
        new = {name: reason for name, reason in found if name not in self.named}
        new = dict(itertools.islice(new.items(), max(NAMED - len(self.named), 0)))
        if not new:
            return
        for name, reason in itertools.islice(new.items(), max(SAID - len(self.named), 0)):
            print(f"skipped {name}: {reason}", file=sys.stderr)
        if len(self.named) < SAID <= len(self.named) + len(new):
            print(f"what else is skipped is named in {self.path}", file=sys.stderr)
        sys.stderr.flush()
        self.named |= new.keys()
        with (self.path if self.writes else Path(os.devnull)).open("a") as file:
            file.writelines(json.dumps({"name": name, "reason": reason}) + "\n" for name, reason in new.items())
