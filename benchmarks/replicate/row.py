"""What a run of the replication is made of, what it stands for, and what it is compared with."""

from typing import Literal, NamedTuple

from abx.analysis import paper

Mixed = tuple[tuple[float, str], ...]
"""Shares and names of data sets: imagenet, cc12m, coco, epic_kitchens."""
IMAGENET, CC12M, COCO, EPIC = (((1.0, name),) for name in ("imagenet", "cc12m", "coco", "epic_kitchens"))


class Place(NamedTuple):
    """Rows of a table of the paper, as `abx.analysis.paper.BLOCKS` has them."""

    table: int
    title: str

    @property
    def block(self) -> paper.Block:
        return next(block for block in paper.BLOCKS if (block.table, block.title) == self)


class Row(NamedTuple):
    name: str
    recipe: str
    reward: Mixed
    """Data whose annotations are learnt; of all but AB the only data."""
    value: Mixed = ()
    """Data that AB bootstraps on."""
    texts: paper.Texts = ""
    places: tuple[Place, ...] = ()
    """Where the paper's figures stand; none for controls and points of figures."""
    system: str = ""
    """As those tables call it."""
    flags: tuple[str, ...] = ()
    scaled: tuple[tuple[str, float], ...] = ()
    """Flags, and by what the preset's own numbers are multiplied."""
    share: float = 1.0
    """Of the budget's views. Table 5 and Figure 4 middle have half: 400 of 800 million."""
    like: str = ""
    """A row of AB, for controls."""
    length: Literal["views", "flops", "reward"] = "views"
    """views: as many as all. flops: as many steps as cost what `like` costs. reward: the reward images of `like` alone,
    for as many steps."""
    kinds: tuple[str, ...] = ()
    """Tasks that are measured besides those of its tables."""
    beside: tuple[str, ...] = ("linear",)
    """Probes of classification beside the decoder, where no table says which."""
    named: bool = False
    """Runs only where a pattern names its group, not with all."""


class Comparison(NamedTuple):
    """What one row has more than another."""

    of: str
    over: str
    says: str
    like: tuple[str, str] = ("", "")
    """Two rows of the tables, whose difference the paper prints, where these two are variants of them."""


class Sweep(NamedTuple):
    """Rows that make a figure together: by line, the rows and where they stand on the horizontal axis."""

    figure: str
    title: str
    x: str
    y: str
    """A column, by its name in `paper`."""
    lines: tuple[tuple[str, tuple[tuple[float | None, str], ...]], ...]
    """None: where the x axis is itself a figure of the row, its ImageNet accuracy."""
