"""What a run has seen of its data, and what of it could not be used."""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from abx.data.loader import Loaded
from abx.data.mixture import Mixture
from abx.data.sources import BadRecord, Source
from abx.data.streams import Data
from abx.log import read_lines, write_lines

ENOUGH = 1000
"""Pictures of a stream that are tried before their share of unusable ones can stop the run."""
TOLD = 5
"""Reasons that the report of a stopped run gives, the most frequent first."""


class TooManyRejected(Exception):
    """So much of the data cannot be used that what is left is other data. The message is a report of some lines."""


@dataclass
class Ledger:
    """Counts what each stream has given; names each record that could not be used once, on stderr and in `path`."""

    data: Data
    sources: dict[str, Source]
    path: Path
    step: int = 0
    """Steps whose batches were seen, over all runs in the folder: all that a stream gave follows from it."""
    rejected: Counter[str] = field(default_factory=Counter)
    """By stream: records that could not be used, each as often as it came up."""
    reasons: dict[str, str] = field(default_factory=dict)
    """By name: of those in `path`."""

    def __post_init__(self) -> None:
        if self.path.exists():
            rows = [row for row in read_lines(self.path) if "name" in row]
            write_lines(self.path, rows)  # without a line that a kill cut off
            self.reasons |= {row["name"]: row["reason"] for row in rows}
        for source in {id(s): s for s in self.sources.values()}.values():
            for name, reason in source.problems:
                self._name(name, reason)

    def __call__(self, step: int, loaded: Loaded) -> None:
        """Raises: TooManyRejected."""
        self.step = step + 1
        for stream, records in loaded.rejected.items():
            self.rejected[stream] += len(records)
            source = self.sources[stream]
            for i in sorted(set(records.tolist())):
                if (name := source.name(i)) not in self.reasons:
                    self._name(name, _reason(source, i))
        self._check()

    def metrics(self) -> dict[str, float]:
        """Totals since the run's first step: by stream images, views, epochs (of a mixture one for each part)."""
        found = {"data/rejected": float(self.rejected.total()), "data/read": 0.0}
        for stream, batch in self.data.batch_sizes().items():
            images, source = self.step * batch, self.sources[stream]
            found["data/read"] += images
            found[f"data/{stream}/images"] = float(images)
            found[f"data/{stream}/views"] = float(images * self.data.crops()[stream].n)
            if isinstance(source, Mixture):
                for k, epochs in enumerate(source.epochs(images)):
                    found[f"data/{stream}/epochs_{k}"] = epochs
            else:
                found[f"data/{stream}/epochs"] = images / len(source)
        return found

    def saved(self) -> dict[str, int]:
        """What has to be kept in a checkpoint, for `restore`."""
        return dict(self.rejected)

    def restore(self, step: int, saved: dict[str, int]) -> None:
        self.step, self.rejected = step, Counter(saved)

    def _check(self) -> None:
        for stream, count in self.rejected.items():
            tried = self.step * self.data.batch_sizes()[stream] + count
            if tried >= ENOUGH and count > self.data.max_rejected * tried:
                raise TooManyRejected(self._report(stream, count, tried))

    def _report(self, stream: str, count: int, tried: int) -> str:
        by_reason = Counter(self.reasons.values())
        example = {reason: name for name, reason in reversed(self.reasons.items())}
        lines = [
            f"{count:,} of {tried:,} pictures that stream {stream} tried could not be used ({count / tried:.0%}), more "
            f"than --data.max-rejected {self.data.max_rejected:g} allows. Mend the data, or allow more.",
            *(f"  {n:,} x {reason}, e.g. {example[reason]}" for reason, n in by_reason.most_common(TOLD)),
            f"All of them: {self.path}",
        ]
        return "\n".join(lines)

    def _name(self, name: str, reason: str) -> None:
        if name in self.reasons:
            return
        self.reasons[name] = reason
        print(f"skipped {name}: {reason}", file=sys.stderr, flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"name": name, "reason": reason}) + "\n")


def _reason(source: Source, i: int) -> str:
    try:
        source[i]
    except BadRecord as bad:
        return str(bad)
    return "has no text, or could not be read when it came up"
