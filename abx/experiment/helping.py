"""The order of a recipe's --help: what it is and how it is started, the flags of daily use, all others, and at the end
what the paper reports and what we had to choose."""

import codecs
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

DAILY = ("options", "data options")
"""Boxes of flags that come first."""
RARE = frozenset(
    [
        *("force", "size", "profile", "worker", "max-rejected", "seed", "init-pixels", "init-heads"),
        *("pool", "features", "cache", "threads", "batch", "view", "train-images", "test-images"),
    ]
)
"""Flags in those boxes that few need, by their last words; they get a box of their own. Not --seed of a recipe."""
SCREENS = 100
"""Lines, at most, before the flags of rare use: two screens."""


def parts(doc: str) -> tuple[str, str]:
    """What a recipe's text says before its flags, which ends with its presets, and after them."""
    paragraphs = doc.strip().split("\n\n")
    end = 1 + next((i for i, text in enumerate(paragraphs) if text.startswith("Presets")), len(paragraphs) - 1)
    return "\n\n".join(paragraphs[:end]), "\n\n".join(paragraphs[end:])


@contextmanager
def arranged(notes: str) -> Iterator[None]:
    """If what is inside prints a help and ends the program, that help is put in order, with `notes` at its end."""
    # Boxes are drawn with what the terminal can show, which its encoding says, by the name that Python has for it.
    encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
    said = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    try:
        with redirect_stdout(said):
            yield
    except SystemExit as stop:
        text = _text(said)
        print(text if stop.code else in_order(text, notes), end="", flush=True)
        raise
    print(_text(said), end="")


def _text(said: io.TextIOWrapper) -> str:
    said.seek(0)
    return said.read()


def in_order(text: str, notes: str) -> str:
    """A help with its boxes put in order; where there are none, as in an ASCII terminal, with its notes alone."""
    head, *boxes = re.split(r"(?m)^(?=╭─)", text)
    daily, rare, others = [], [], []
    for box in boxes:
        name = (re.match(r"╭─ (.*?) ─", box) or [box, ""])[1]
        if name not in DAILY:
            others.append(box)
            continue
        top, *entries = re.split(r"(?m)^(?=│ -)", box)
        *entries, last = entries
        last, bottom = re.split(r"(?m)^(?=╰)", last, maxsplit=1)
        entries.append(last)
        daily.append(top + "".join(each for each in entries if not _rare(each)) + bottom)
        rare += [each for each in entries if _rare(each)]
    if rare:
        width = len(boxes[0].partition("\n")[0])
        others.insert(0, f"╭─ flags that few need {'─' * (width - 24)}╮\n{''.join(rare)}╰{'─' * (width - 2)}╯\n")
    return head + "".join(daily + others) + (f"\n{notes}\n" if notes else "")


def _rare(entry: str) -> bool:
    flag = re.match(r"│ --([\w.-]+)", entry)
    if flag is None or flag[1] == "seed":
        return False
    last = flag[1].rpartition(".")[2]
    return last in RARE or last.endswith("-seed")
