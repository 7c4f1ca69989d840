"""The page of `abx targets`: the largest errors of a batch's values, each with all that its target is made of.

One HTML file that needs nothing but itself. Captions come from anybody, so all text is escaped, and the page forbids
itself scripts and requests.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from abx.analysis.document import document, said
from abx.analysis.drawing import boxed, colour_of, embedded
from abx.analysis.targets import Error, Targets, floor_of, largest_errors, loss_of, pair_losses
from abx.types import Pixels

Look = Callable[[int], UInt8[np.ndarray, "h w 3"] | str]
"""What an annotation looks like, or says."""


def targets_page(
    title: str,
    about: Sequence[str],
    found: Targets,
    picture: Callable[[int], Pixels],
    views: UInt8[np.ndarray, "b n h w 3"],
    look: Look,
    count: int = 10,
) -> str:
    """The whole HTML file.

    Args:
        about: what it is of, one sentence each.
        picture: the image of this number in the batch.
        views: as they were cut.
        count: errors that are shown.
    """
    errors = largest_errors(found, count)
    body = [f"<h1>{said(title)}</h1>", *(f"<p>{said(line)}</p>" for line in about), _summary(found)]
    body.append(f"<h2>The {len(errors)} largest errors</h2><p>{said(_READING)}</p>")
    body += [
        _card(k, error, found, picture(error.image), views[error.image], look) for k, error in enumerate(errors, 1)
    ]
    return document(title, _STYLE, body)


_READING = (
    "Of each image and annotation the pair of views that is farthest off. From view i the action leads to view j; k is "
    "the view to which the target network would go next. The table has every pair of the image for this annotation: in "
    "row i and column j the value Q(x_i, a_ij, l) and, in grey, target minus value; orange where the value is too low, "
    "blue where it is too high. Below it what the target of each view j is made of."
)

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #191919; background: #fff; margin: 24px; max-width: 1200px; }
h1 { font-size: 20px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin-top: 32px; } h3 { font-size: 14px; }
table { border-collapse: collapse; }
td, th { padding: 3px 10px; border: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; white-space: nowrap; } .plain td, .plain th { border: 0; padding-left: 0; }
.grey { color: #666; font-size: 12px; }
.row { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; } figure { margin: 0; }
figcaption { font-size: 12px; color: #555; max-width: 180px; }
.error { border-top: 1px solid #ccc; padding: 4px 0 16px; }
.view { border: 4px solid; width: 112px; height: 112px; display: block; image-rendering: pixelated; }
.said { max-width: 420px; margin-bottom: 8px; font-style: italic; overflow-wrap: anywhere; }
.here { outline: 3px solid #191919; }
.scroll { overflow-x: auto; margin-top: 10px; }
.chip { display: inline-block; min-width: 12px; padding: 0 5px; border: 1px solid #191919; text-align: center; }
"""


def _number(value: float) -> str:
    return f"{value:z.4f}"


def _summary(found: Targets) -> str:
    b, n, _, count = np.asarray(found.logits).shape
    loss, floor, losses = loss_of(found), floor_of(found), pair_losses(found)
    counted, diagonal = np.asarray(found.counted), np.eye(n, dtype=bool)
    rows = [
        ("images, views of each, pairs, annotations", f"{b}, {n}, {b * int(counted.sum())}, {count}"),
        ("value loss, computed from the numbers of this page's file", _number(loss)),
        ("entropy of the targets, the least that it can be", _number(floor)),
        ("excess of the loss over it", _number(loss - floor)),
    ]
    for name, where in (("moving (i and j differ)", ~diagonal), ("staying (i = j)", diagonal)):
        if (where & counted).any():
            rows.append((f"loss of {name}", _number(float(losses[:, where & counted].mean()))))
    rows += [
        ("gamma", f"{float(found.gamma):g}"),
        ("sum of the targets over annotations", _number(float(np.asarray(found.target).sum(-1).mean()))),
        ("sum of the values", _number(float(found.value.sum(-1).mean()))),
        ("mean |target - value|", f"{float(np.abs(found.error).mean()):.2e}"),
    ]
    cells = "".join(f"<tr><th>{said(name)}</th><td>{said(value)}</td></tr>" for name, value in rows)
    return f'<table class="plain">{cells}</table>'


def _card(
    number: int,
    error: Error,
    found: Targets,
    picture: Pixels,
    views: UInt8[np.ndarray, "n s s 3"],
    look: Look,
) -> str:
    b, i, j, l = error
    k = int(np.asarray(found.chosen)[b, j, l])
    reward, after = float(np.asarray(found.reward)[b, j, l]), float(np.asarray(found.next_value)[b, j, l])
    gamma, y, q = float(found.gamma), float(np.asarray(found.target)[b, j, l]), float(found.value[b, i, j, l])
    boxes = np.asarray(found.boxes)[b]
    marks = [(boxes[v], _role(v, i, j, k), colour_of(v)) for v in range(len(boxes))]
    seen = "".join(
        f'<figure><img class="view" style="border-color: {colour_of(v)}" alt="view {v}" src="{embedded(views[v])}">'
        f"<figcaption>{said(_role(v, i, j, k))}</figcaption></figure>"
        for v in range(len(boxes))
    )
    action = ", ".join(f"{c:z.2f}" for c in np.asarray(found.actions)[b, i, j].tolist())
    bce = float(np.logaddexp(0, np.asarray(found.logits)[b, i, j, l]) - y * np.asarray(found.logits)[b, i, j, l])
    rows = [
        ("action from i to j", f"({action})"),
        ("reward p(l | x_j)", _number(reward)),
        (f"best next value, by going to view {k}", _number(after)),
        ("target", f"{1 - gamma:.3g} x {_number(reward)} + {gamma:.3g} x {_number(after)} = {_number(y)}"),
        ("value Q(x_i, a_ij, l)", _number(q)),
        ("target - value", f"{y - q:+.4f}"),
        ("its share of the pair's loss", f"{bce:.4f} of {pair_losses(found)[b, i, j]:.4f}"),
    ]
    cells = "".join(f"<tr><th>{said(name)}</th><td>{said(value)}</td></tr>" for name, value in rows)
    shown = look(l)
    annotation = (
        f'<div class="said">{said(shown)}</div>'
        if isinstance(shown, str)
        else f'<img class="view" style="border-color: #191919" alt="annotation" src="{embedded(shown)}">'
    )
    return (
        f'<section class="error"><h3>{number}. Image {b} of the batch, annotation {l}: from view {i} to view {j}</h3>'
        f'<div class="row">{boxed(picture, marks, "where the views are cut")}<div><b>annotation {l}</b>{annotation}'
        f'<table class="plain">{cells}</table></div></div><div class="row">{seen}</div>'
        f'<div class="scroll">{_pairs(error, found)}</div></section>'
    )


def _role(view: int, i: int, j: int, k: int) -> str:
    roles = [name for name, which in (("i: from here", i), ("j: to here", j), ("k: then here", k)) if which == view]
    return f"{view} {', '.join(roles)}" if roles else str(view)


def _pairs(error: Error, found: Targets) -> str:
    """Every pair of the image, for one annotation."""
    b, l = error.image, error.annotation
    values, errors = found.value[b, :, :, l], found.error[b, :, :, l]
    n, counted = len(values), np.asarray(found.counted)
    chip = lambda v: f'<span class="chip" style="background: {colour_of(v)}">{v}</span>'
    rows = ["<tr><th>from i \\ to j</th>" + "".join(f"<th>{chip(v)}</th>" for v in range(n)) + "</tr>"]
    most = max(float(np.abs(errors).max()), 1e-9)
    for i in range(n):
        cells = "".join(
            _cell(float(values[i, j]), float(errors[i, j]), most, (i, j) == (error.source, error.view))
            if counted[i, j]
            else "<td></td>"
            for j in range(n)
        )
        rows.append(f"<tr><th>{chip(i)}</th>{cells}</tr>")
    made: list[tuple[str, Sequence[float]]] = [
        ("reward p(l | x_j)", np.asarray(found.reward)[b, :, l].tolist()),
        ("best next value", np.asarray(found.next_value)[b, :, l].tolist()),
        ("target", np.asarray(found.target)[b, :, l].tolist()),
    ]
    for name, numbers in made:
        rows.append(f"<tr><th>{said(name)}</th>{''.join(f'<td>{_number(x)}</td>' for x in numbers)}</tr>")
    chosen = "".join(f"<td>{chip(int(v))}</td>" for v in np.asarray(found.chosen)[b, :, l])
    return f"<table>{''.join(rows)}<tr><th>next view k</th>{chosen}</tr></table>"


def _cell(value: float, error: float, most: float, here: bool) -> str:
    tint = "213, 94, 0" if error > 0 else "0, 114, 178"
    mark = ' class="here"' if here else ""
    return (
        f'<td{mark} style="background: rgba({tint}, {0.45 * abs(error) / most:.2f})">{_number(value)}<br>'
        f'<span class="grey">{error:+.4f}</span></td>'
    )
