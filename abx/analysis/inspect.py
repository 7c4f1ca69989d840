"""The page of `abx data inspect`: one HTML file that needs nothing but itself.

The figures of a survey, and pictures as training sees them: n views, where each was cut, and the actions between them.
Names, classes and captions come from anybody, so all text is escaped, and the page forbids itself scripts and requests.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from abx.analysis.document import document, said
from abx.analysis.drawing import bars, boxed, colour_of, embedded
from abx.analysis.survey import lines, ratios, reasons, short_sides, warnings
from abx.boxes import quantize, relative_boxes
from abx.data.images import BadImage
from abx.data.sources import BadRecord, Source, decoded
from abx.data.survey import Named, Survey
from abx.data.views import RandomCrops
from abx.types import CROWD, DIFFICULT, TRUNCATED, Sample, Views, Vocabulary

NAMES = 10
"""So many names are shown of the records rejected for one reason (--json has all), and captions of a picture."""
BARS = 12
"""Of a histogram."""


class Shown(NamedTuple):
    """A picture of the page."""

    name: str
    sample: Sample
    views: Views


def choose(source: Source, crops: RandomCrops, count: int, seed: int = 0) -> list[Shown]:
    """Up to `count` pictures that can be read, a fixed random choice, each with its views."""
    found: list[Shown] = []
    tries = min(len(source), 4 * count + 16)
    for i in np.random.default_rng(seed).choice(len(source), tries, replace=False).tolist():
        if len(found) == count:
            break
        try:
            record = source.stored(i)
            views = crops(record.image, np.random.default_rng([seed, i]))
            found.append(Shown(source.name(i), decoded(record), views))
        except (BadRecord, BadImage):  # it is among the rejected
            continue
    return found


def page(spec: str, survey: Survey, shown: Sequence[Shown], classes: Sequence[str], vocabulary: Vocabulary) -> str:
    """The whole HTML file.

    Args:
        spec: the data string, as the title.
        classes: names of the labels of the samples, `Source.classes`.
    """
    body = [f"<h1>{said(spec)}</h1>"]
    body += [f'<p class="warning">{said(warning)}</p>' for warning in warnings(survey)]
    body += [f"<p>{said(note)}</p>" for note in survey.notes]
    rows = "".join(f"<tr><th>{said(line.heading)}</th><td>{said(line.text)}</td></tr>" for line in lines(survey))
    body += [f"<table>{rows}</table>", *_rejected(survey), f'<div class="row">{_histograms(survey)}</div>']
    if shown:
        body.append(f"<h2>{len(shown)} of the pictures, drawn at random, as training cuts them</h2>")
        body.append(f"<p>{said(_READING)}</p>")
        body += [_card(each, classes, vocabulary) for each in shown]
    return document(spec, _STYLE, body)


_READING = (
    "Under each picture its views, and the actions between them: in row i and column j, box j in the frame of box i as "
    "(y0, x0, y1, x1), where box i itself is (0, 0, 1, 1); below it in grey, its four tokens."
)

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #191919; background: #fff; margin: 24px; max-width: 1200px; }
h1 { font-size: 20px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin-top: 32px; } h3 { font-size: 14px; }
h3, td, li { overflow-wrap: anywhere; }
table { border-collapse: collapse; margin-bottom: 16px; }
th { text-align: left; vertical-align: top; white-space: nowrap; }
td, th { padding: 2px 12px 2px 0; font-variant-numeric: tabular-nums; }
.warning { border-left: 4px solid #d55e00; padding: 4px 10px; margin: 6px 0; background: #fdf1e7; }
.row { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; } figure { margin: 0; }
figcaption { font-size: 12px; color: #555; }
.sample { border-top: 1px solid #ccc; padding: 4px 0 16px; } .sample ul { margin: 4px 0; padding-left: 18px; }
.about { flex: 1 1 260px; min-width: 220px; }
.view { border: 4px solid; width: 128px; height: 128px; display: block; }
.scroll { overflow-x: auto; margin-top: 8px; }
.actions td { border: 1px solid #ddd; padding: 3px 8px; white-space: nowrap; font-size: 12px; }
.actions th { padding: 3px 8px; border: 1px solid #ddd; } .tokens { color: #777; }
.chip { display: inline-block; min-width: 12px; padding: 0 5px; border: 1px solid #191919; text-align: center; }
"""


def _rejected(survey: Survey) -> list[str]:
    if not survey.rejected:
        return []
    rows = []
    for reason, names in reasons(survey):
        more = f" … and {len(names) - NAMES:,} more" if len(names) > NAMES else ""
        listed = "<br>".join(map(said, names[:NAMES])) + more
        rows.append(f"<tr><td>{len(names):,}</td><td>{said(reason)}</td><td>{listed}</td></tr>")
    head = "<tr><th></th><th>reason</th><th>name</th></tr>"
    summary = f"<summary>{len(survey.rejected):,} rejected</summary>"
    return [f"<details open>{summary}<table>{head}{''.join(rows)}</table></details>"]


def _histograms(survey: Survey) -> str:
    even = len({each.count for each in survey.classes}) < 2
    ranked = [] if even else sorted(survey.classes, key=lambda each: -each.count)
    shown = {
        "short side, pixels": short_sides(survey),
        "width / height": ratios(survey),
        "captions a picture": _steps(survey.captions) if survey.words else [],
        "words in a caption": _steps(survey.words),
        "boxes a picture": _steps(survey.boxes),
        "pictures in a class" + (", the largest" if len(ranked) > BARS else ""): ranked[:BARS],
        "pictures in a class, the smallest": ranked[-BARS:] if len(ranked) > BARS else [],
    }
    return "".join(bars(title, found) for title, found in shown.items() if found)


def _steps(counter: Counter[int]) -> list[Named]:
    """As many bins of as many numbers each as make a histogram, from the smallest number to the largest."""
    if not counter:
        return []
    low, high = min(counter), max(counter)
    wide = -(-(high - low + 1) // BARS)
    found = [0] * ((high - low) // wide + 1)
    for number, count in counter.items():
        found[(number - low) // wide] += count
    starts = [low + wide * k for k in range(len(found))]
    return [Named(str(a) if wide == 1 else f"{a}-{a + wide - 1}", n) for a, n in zip(starts, found, strict=True)]


def _card(shown: Shown, classes: Sequence[str], vocabulary: Vocabulary) -> str:
    sample, views = shown.sample, shown.views
    boxes = np.asarray(views.boxes)
    marks = [(box, str(view), colour_of(view)) for view, box in enumerate(boxes)]
    figures = [boxed(sample.image, marks, f"where {len(boxes)} views are cut")]
    if sample.objects is not None and len(sample.objects.boxes):
        names = _object_names(sample, vocabulary)
        tags = [
            (box, name, colour_of(int(k)))
            for box, name, k in zip(sample.objects.boxes, names, sample.objects.labels, strict=True)
        ]
        figures.append(boxed(sample.image, tags, f"{len(tags)} objects"))
    crops = "".join(
        f'<figure><img class="view" style="border-color: {colour_of(view)}" alt="view {view}" src="{embedded(crop)}">'
        f"<figcaption>view {view}</figcaption></figure>"
        for view, crop in enumerate(np.asarray(views.images))
    )
    about = "".join(f"<li>{said(line)}</li>" for line in _about(sample, classes, vocabulary))
    return (
        f'<section class="sample"><h3>{said(shown.name)}</h3><div class="row">{"".join(figures)}'
        f'<div class="about"><ul>{about}</ul></div></div><div class="row">{crops}</div>'
        f'<div class="scroll">{_actions(boxes)}</div></section>'
    )


def _object_names(sample: Sample, vocabulary: Vocabulary) -> list[str]:
    assert sample.objects is not None
    flags = sample.objects.flags if sample.objects.flags is not None else np.zeros(len(sample.objects.labels), np.uint8)
    words = {CROWD: " (crowd)", DIFFICULT: " (difficult)", TRUNCATED: " (truncated)"}
    return [
        _name(vocabulary.objects, int(label)) + "".join(word for bit, word in words.items() if flag & bit)
        for label, flag in zip(sample.objects.labels, flags, strict=True)
    ]


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else str(number)


def _about(sample: Sample, classes: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    height, width = sample.image.shape[:2]
    found = [f"{height} pixels high, {width} wide"]
    if classes:
        found.append(f"class: {_name(classes, sample.label)}" if sample.label >= 0 else "no class")
    found += [f"caption: {caption}" for caption in sample.captions[:NAMES]]
    if len(sample.captions) > NAMES:
        found.append(f"and {len(sample.captions) - NAMES:,} captions more")
    if sample.objects is not None and len(sample.objects.boxes):
        names = Counter(_object_names(sample, vocabulary)).most_common(NAMES)
        found.append("objects: " + ", ".join(f"{name} {count}" for name, count in names))
    if sample.count >= 0:
        found.append(f"count: {sample.count}")
    if not np.isnan(sample.distance):
        found.append(f"distance of the closest: {sample.distance:.3g}")
    if sample.verb >= 0:
        found.append(f"verb: {_name(vocabulary.verbs, sample.verb)}")
    if sample.noun >= 0:
        found.append(f"noun: {_name(vocabulary.nouns, sample.noun)}")
    return found


def _actions(boxes: np.ndarray) -> str:
    actions = np.asarray(relative_boxes(boxes))
    tokens = np.asarray(quantize(actions))
    heads = [
        f'<th><span class="chip" style="background: {colour_of(view)}">{view}</span></th>' for view in range(len(boxes))
    ]
    rows = [f"<tr><th>i \\ j</th>{''.join(heads)}</tr>"]
    for head, row, ids in zip(heads, actions, tokens, strict=True):
        cells = ""
        for action, four in zip(row.tolist(), ids.tolist(), strict=True):
            numbers, four = " ".join(f"{c:z.2f}" for c in action), " ".join(map(str, four))
            cells += f'<td>{numbers}<br><span class="tokens">{four}</span></td>'
        rows.append(f"<tr>{head}{cells}</tr>")
    return f'<table class="actions">{"".join(rows)}</table>'
