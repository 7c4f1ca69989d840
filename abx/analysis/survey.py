"""What a survey of data says, in plain words: the same lines on the terminal and on the page."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from abx.data.survey import Named, Number, Spread, Survey, spread

SIDES = (1, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 640, 768, 1024, 1536, 2048, 4096)
"""Lower ends of the bins of short sides, in pixels."""
RATIOS = (0.0, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 0.99, 1.01, 4 / 3, 3 / 2, 2.0, 3.0)
"""Lower ends of the bins of width / height."""
_BETWEEN = ("up to 1:3", "1:3 to 1:2", "1:2 to 2:3", "2:3 to 3:4", "3:4 to square", "square")
_RATIO_NAMES = (*_BETWEEN, "square to 4:3", "4:3 to 3:2", "3:2 to 2:1", "2:1 to 3:1", "3:1 and up")

IMBALANCE, COPIES, REPEATED, UNREADABLE = 10, 0.01, 0.05, 0.01
"""From where on a warning is given: pictures of the largest class to those of the smallest; shares of the pictures."""


class Line(NamedTuple):
    """One thing about the data."""

    heading: str
    text: str


def lines(survey: Survey) -> list[Line]:
    """What is known of the data; nothing is said of what it does not have."""
    found = [_records(survey), Line("readable", _share(survey.readable, survey.read))]
    found.append(Line("formats", _list(Named(*item) for item in survey.formats.items())))
    if survey.readable:
        found += _pictures(survey) + _classes(survey) + _captions(survey) + _boxes(survey) + _others(survey)
        found += _rate(survey)
    return found


def warnings(survey: Survey) -> list[str]:
    """What is likely to spoil training, one sentence each."""
    found = []
    refused = survey.read - survey.readable
    if refused > UNREADABLE * survey.read:
        found.append(f"{_share(refused, survey.read)} of the records cannot be read and are passed over")
    empty = sum(not each.count for each in survey.classes)
    filled = sorted(each.count for each in survey.classes if each.count)
    if empty and survey.read == survey.records:
        found.append(f"{empty:,} of {len(survey.classes):,} classes have no picture")
    # A class of one or two pictures may be the luck of a small set.
    if filled and filled[-1] >= IMBALANCE * max(filled[0], 3):
        found.append(
            f"classes are uneven, the largest has {filled[-1]:,} pictures and the smallest {filled[0]:,}: "
            "accuracy will mostly be that of the large ones"
        )
    if survey.repeated > REPEATED * survey.readable:
        found.append(
            f"{_share(survey.repeated, survey.readable)} of the pictures have a caption that others have too: "
            "contrastive losses treat equal captions as negatives"
        )
    if survey.copies > COPIES * survey.readable:
        found.append(f"{_share(survey.copies, survey.readable)} of the pictures are copies of another, byte for byte")
    return found


def reasons(survey: Survey) -> list[tuple[str, list[str]]]:
    """Why records were rejected, and the names of those; the most frequent reason first.

    Reasons that differ only in numbers or in quoted bytes are one, written with dots in their place.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in survey.rejected.items():
        groups.setdefault(re.sub(r"b'.*'|b\".*\"|\d+", "...", reason), []).append((name, reason))
    found = []
    for common, members in groups.items():
        exact = {reason for _, reason in members}
        found.append((common if len(exact) > 1 else exact.pop(), [name for name, _ in members]))
    return sorted(found, key=lambda group: (-len(group[1]), group[0]))


def short_sides(survey: Survey) -> list[Named]:
    sides = Counter[int]()
    for (height, width), count in survey.sizes.items():
        sides[min(height, width)] += count
    ends = [f"{low}-{high - 1}" for low, high in pairwise(SIDES)]
    return _bins(sides, SIDES, [*ends, f"{SIDES[-1]} and up"])


def ratios(survey: Survey) -> list[Named]:
    found = Counter[float]()
    for (height, width), count in survey.sizes.items():
        found[width / height] += count
    return _bins(found, RATIOS, _RATIO_NAMES)


def _bins(counter: Counter[Number], ends: Sequence[Number], names: Sequence[str]) -> list[Named]:
    """From the first bin that holds anything to the last."""
    counts = [0] * len(ends)
    for number, count in counter.items():
        counts[sum(number >= end for end in ends) - 1] += count
    held = [k for k, count in enumerate(counts) if count]
    return [Named(names[k], counts[k]) for k in range(held[0], held[-1] + 1)] if held else []


def _records(survey: Survey) -> Line:
    if survey.read == survey.records:
        return Line("records", f"{survey.records:,}, all looked at")
    return Line(
        "records",
        f"{survey.records:,}; {survey.read:,} looked at, evenly spaced: the figures are of these (--limit 0: of all)",
    )


def _pictures(survey: Survey) -> list[Line]:
    heights, widths, ratio = Counter[int](), Counter[int](), Counter[float]()
    for (height, width), count in survey.sizes.items():
        heights[height] += count
        widths[width] += count
        ratio[float(f"{width / height:.3g}")] += count
    found = [
        Line("width", _range(spread(widths), " pixels")),
        Line("height", _range(spread(heights), " pixels")),
        Line("short side", _list(short_sides(survey))),
        Line("width / height", _range(spread(ratio))),
    ]
    if survey.mean_bytes:
        found.append(Line("a file has", f"{survey.mean_bytes / 1000:,.1f} kB on average"))
    if survey.turned:
        found.append(Line("turned", f"{survey.turned:,} pictures are turned or mirrored as their EXIF says"))
    if survey.copies:
        found.append(Line("copies", f"{survey.copies:,} pictures have the bytes of an earlier one"))
    return found


def _classes(survey: Survey) -> list[Line]:
    labelled = sum(each.count for each in survey.classes)
    if not labelled:
        return [Line("classes", "none")]
    found = [Line("classes", _named(survey.classes, "pictures"))]
    if labelled < survey.readable:
        found.append(Line("without a class", _share(survey.readable - labelled, survey.readable)))
    return found


def _captions(survey: Survey) -> list[Line]:
    without = survey.captions[0]
    if without == survey.readable:
        return [Line("captions", "none")]
    repeated = _share(survey.repeated, survey.readable) + " of the pictures have one that another has too"
    most = "; ".join(f"{_short(caption)!r} {count:,} times" for caption, count in survey.most_repeated)
    return [
        Line("captions", f"{_range(spread(survey.captions), ' a picture')}; none: {_share(without, survey.readable)}"),
        Line("words in a caption", _range(spread(survey.words))),
        Line("equal captions", repeated + (f": {most}" if most else "")),
    ]


def _boxes(survey: Survey) -> list[Line]:
    known = survey.boxes.total()
    if not known:
        return []
    found = [
        Line("boxes", f"{_range(spread(survey.boxes), ' a picture')}; known of {_share(known, survey.readable)}"),
        Line("box classes", _named(survey.box_classes, "boxes")),
    ]
    if survey.flagged:
        found.append(Line("box flags", f"{_list(survey.flags)}; known of {survey.flagged:,} boxes"))
    return found


def _others(survey: Survey) -> list[Line]:
    found = []
    if counted := survey.counts.total():
        found.append(
            Line("counts", f"{_range(spread(survey.counts), ' objects')}; known of {_share(counted, survey.readable)}")
        )
    if survey.distance:
        low, median, high = (f"{value:.3g}" for value in survey.distance)
        known = _share(survey.distanced, survey.readable)
        found.append(Line("distances", f"{low} to {high}, median {median}; known of {known}"))
    for heading, classes in (("verbs", survey.verbs), ("nouns", survey.nouns)):
        if classes:
            found.append(Line(heading, _named(classes, "pictures")))
    return found


def _rate(survey: Survey) -> list[Line]:
    hours = survey.records / survey.rate / 3600
    took = f"{hours:,.2g} hours" if hours >= 1 else f"{60 * hours:.2g} minutes" if hours > 1 / 60 else "under a minute"
    what = "processor time of reading and decoding; cropping and waiting for the disk come on top"
    return [
        Line("decode rate", f"{survey.rate:,.0f} pictures/s on one core ({what})"),
        Line("one epoch", f"{took} of one core for all {survey.records:,}"),
    ]


def _named(classes: Sequence[Named], what: str) -> str:
    """How many there are, how evenly filled, and the names of the fullest and the emptiest."""
    filled = Counter(each.count for each in classes if each.count)
    empty = len(classes) - filled.total()
    emptiness = f", {empty:,} of them empty; {what} in each of the others: " if empty else f"; {what} in each: "
    said = f"{len(classes):,}{emptiness}{_range(spread(filled))}"
    ranked = sorted((each for each in classes if each.count), key=lambda each: -each.count)
    if len(filled) > 1:
        said += f"; most: {_list(ranked[:5])}" + (f"; fewest: {_list(ranked[-3:])}" if len(ranked) > 7 else "")
    return said


def _range(found: Spread | None, what: str = "") -> str:
    if found is None:
        return "none"
    low, median, high = (f"{value:,}".removesuffix(".0") for value in found)
    return f"{low}{what}" if low == high else f"{low} to {high}{what}, median {median}"


def _list(items: Iterable[Named]) -> str:
    return ", ".join(f"{_short(name)} {count:,}" for name, count in items) or "none"


def _short(words: str) -> str:
    return words if len(words) <= 60 else words[:57] + "..."


def _share(part: int, whole: int) -> str:
    """7 of 30 (23.3 %)"""
    return f"{part:,} of {whole:,} ({100 * part / whole:.3g} %)" if whole else "0 of 0"
