"""`abx neighbours`: a page of pictures with those that a network takes for most like them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abx.cli.errors import fail
from abx.cli.seeing import Seeing, problems_of_file

if TYPE_CHECKING:
    from abx.data.sources import Source
    from abx.experiment.loading import Subject
    from abx.experiment.neighbouring import Side

MOST = 100
"""Queries, and neighbours of each."""


@dataclass(frozen=True)
class Neighbours(Seeing):
    """Write a page of pictures with their nearest neighbours in a network's features."""

    out: Path = Path("neighbours.html")
    """HTML file to write, which needs nothing but itself; of 5 MB at most, with fewer queries where need be."""
    queries: str = "24"
    """So many of the pictures, a fixed random choice, 100 at most; or other pictures, as --data names them, of which
    100 at most are taken."""
    k: int = 8
    """Neighbours of each, by the cosine of pooled features; 100 at most."""
    limit: int = 0
    """Pictures at most among which neighbours are sought, a fixed random choice; 0 = all."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "neighbours.html", "images": 2500, "queries": 24, "shown":
    24, "k": 8, "same_class": 0.31, "chance": 0.1, "rejected": {"name": "reason", ...}, "neighbours": [{"query": name,
    "neighbours": [names], "similarity": [0.97, ...]}, ...]}; null where no query has a class."""

    def __call__(self) -> None:
        """Exits with 2 and a sentence for each thing that cannot be."""
        from abx.data.sources import printable
        from abx.experiment.config import unwritable
        from abx.experiment.neighbouring import liken, page_of

        found = self.problems() + self.too_small(k=1, limit=0) + self._problems_of_queries()
        if self.k > MOST:
            found.append(f"--k must be at most {MOST}, not {self.k}")
        found += problems_of_file(self.out, ".html", ".htm")
        if sentence := unwritable(self.out.absolute().parent):
            found.append(f"--out {self.out}: {sentence}")
        self.refuse(found)
        source = self.open_pictures("--data", self.data)
        others = None if self.queries.isdecimal() else self.open_pictures("--queries", self.queries)
        subject = self.open_network()
        side = self._side(subject, "--data", source, self.limit)
        queries = int(self.queries) if others is None else self._side(subject, "--queries", others, MOST)
        if others is None and len(side.found.names) < 2:
            fail(f"--data: {printable(self.data)} holds one picture that can be read, which has no neighbours")
        try:
            likened = liken(side, queries, self.k, self.seed)
        except ValueError as wrong:
            fail(f"{self.run if self.run != 'none' else self.init}: {wrong}")
        of = f"Pictures from {self.data}" + ("." if others is None else f", queries from {self.queries}.")
        page = page_of(likened, self.look(subject), self.threads, f"Nearest neighbours by {subject.called}", of)
        try:
            self.out.write_text(page.html, encoding="utf-8")
        except OSError as wrong:
            self.unwritten(wrong)
        if (shares := likened.same_class) is not None:
            print(f"{shares[0]:.1%} of the neighbours are of the query's class; by chance {shares[1]:.1%}")
        count, shown = len(likened.rows), f"{page.rows} queries"
        if page.rows < count:
            shown = f"the first {page.rows} of {count} queries, with more it would be larger"
        print(f"written: {self.out} ({len(page.html) / 1e6:.1f} MB): {shown}; open it in a browser")
        if self.json:
            rejected = dict(side.found.rejected) | dict(likened.queries.found.rejected)
            same, chance = (None, None) if shares is None else (round(share, 6) for share in shares)
            sizes = {"images": len(side.found.names), "queries": count, "shown": page.rows, "k": likened.k}
            figures = {"same_class": same, "chance": chance, "rejected": rejected, "neighbours": likened.names()}
            print(json.dumps({"out": str(self.out)} | sizes | figures))

    def _problems_of_queries(self) -> list[str]:
        from abx.data.specs import check_spec

        if self.queries.isdecimal():
            fits = 1 <= int(self.queries) <= MOST
            return [] if fits else [f"--queries must be from 1 to {MOST}, or name data, not {self.queries}"]
        if self.queries.strip() == self.data.strip():
            return ["--queries are the pictures of --data: say how many of them, from 1 to 100"]
        sentence = check_spec(self.queries)
        return [f"--queries must be a number, or name data: {sentence}"] if sentence else []

    def _side(self, subject: "Subject", flag: str, source: "Source", limit: int) -> "Side":
        from abx.experiment.neighbouring import Side
        from abx.probes.features import some

        records = some(source, limit, self.seed)
        found = self.seen(subject, source, records, flag=flag)
        return Side(source, records[found.places], found)
