"""A report as Markdown: whole, and as the tables that other pages have of it. Made from `report.json` alone."""

from collections.abc import Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]
"""What `report.as_json` returns."""
FIRST = {1: "attentive", 2: "ImageNet", 3: "COCO detect AP50", 4: "COCO detect AP50", 5: "ImageNet"}
"""Of each table the column that a short account has; of others, and where a row has it not, the first."""


def markdown(found: Report) -> str:
    """The report: how it was made, differences, figures by table, what is missing."""
    lines = ["# A small replication", "", *_about(found["about"]), ""]
    lines += [
        "What the stand-in data can and cannot show: docs/replication.md. Per cent and points; `-`: we have no figure;",
        "empty: the paper has none. (x): highest minus lowest over seeds. Differences are of runs of the same seed.",
        "",
        "## Differences",
        "",
        differences(found["gains"]),
        "",
        summary(found),
        "",
    ]
    for (table, title), told in _by_place(found["figures"]).items():
        lines += [f"## Table {table}: {title}", "", _figures(told), ""]
    if lacking := found["missing"]:
        lines += ["## Missing", "", f"{len(lacking)} rows: {', '.join(lacking)}", ""]
    return "\n".join(lines)


def full(found: Report) -> str:
    """All differences, and how they were made."""
    return "\n".join([*_about(found["about"]), "", differences(found["gains"]), "", summary(found)])


def had(found: Report) -> str:
    """Of a report of some rows, the differences that it has, and how they were made."""
    gains = [gain for gain in found["gains"] if gain["ours"] is not None]
    return "\n".join([*_about(found["about"]), "", differences(gains)])


def brief(found: Report) -> str:
    """One column of each comparison that the paper has, and how they were made."""
    chosen: dict[tuple[str, str], Mapping[str, Any]] = {}
    for gain in found["gains"]:
        if gain["paper"] is not None and gain["table"]:
            comparison = (gain["of"], gain["over"])
            if comparison not in chosen or gain["column"] == FIRST.get(gain["table"]):
                chosen[comparison] = gain
    about = found["about"]
    how = "; ".join([f"`{about['command']}`", *filter(None, map(about.get, ("time", "devices", "versions", "begun")))])
    views = f"{about['views a row']} views a row."
    return "\n".join([differences(list(chosen.values())), "", f"{summary(found)} {views} {how}."])


def differences(gains: Sequence[Mapping[str, Any]]) -> str:
    heads = ["table", "what", "column", "paper", "ours", "seeds", "views", "sign"]
    rows = [
        [f"{g['table'] or ''}", f"{g['says']} ({g['of'].split('/')[0]})", g["column"], _signed(g["paper"]), _ours(g),
         f"{g['seeds']}", _views(g), g["sign"]]
        for g in gains
    ]  # fmt: skip
    return _grid(heads, rows)


def summary(found: Report) -> str:
    """How many signs agree, of those with a figure of the paper's."""
    with_paper = [g for g in found["gains"] if g["paper"] is not None and g["table"]]
    have = [g for g in with_paper if g["ours"] is not None]
    agree = [g for g in have if g["sign"].startswith("agrees")]
    sure = [g for g in agree if g["sign"] == "agrees"]
    nothing = [g for g in have if g["sign"].startswith(("no difference", "within"))]
    return (
        f"Of {len(with_paper)} differences in the paper's tables we have {len(have)}: {len(nothing)} are none, or "
        f"within the noise of the test pictures; the sign of {len(agree)} agrees, of {len(sure)} in every one of two "
        "seeds or more."
    )


def _about(about: Mapping[str, str]) -> list[str]:
    return [f"- {name}: {said}" for name, said in about.items() if said]


def _by_place(figures: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], list[Mapping[str, Any]]]:
    places: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for figure in figures:
        places.setdefault((figure["table"], figure["title"]), []).append(figure)
    return places


def _figures(told: Sequence[Mapping[str, Any]]) -> str:
    """A table of the paper: a line for each system, the paper's figure and ours for each column."""
    columns = list(dict.fromkeys(figure["column"] for figure in told))
    rows: dict[str, list[str]] = {}
    for figure in told:
        rows.setdefault(figure["row"], [figure["system"]]).extend([_percent(figure["paper"]), _cell(figure)])
    return _grid(["", *(f"{name}, {whose}" for name in columns for whose in ("paper", "ours"))], list(rows.values()))


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def _ours(gain: Mapping[str, Any]) -> str:
    if gain["ours"] is None:
        return "-"
    return _signed(gain["ours"]) + ("" if gain["spread"] is None else f" ({gain['spread']:.1f})")


def _views(gain: Mapping[str, Any]) -> str:
    if not gain["seeds"]:
        return ""
    mine, his = gain["views"]
    return f"{mine:,}" if abs(mine - his) <= 0.02 * max(mine, his) else f"{mine:,} and {his:,}"


def _signed(points: float | None) -> str:
    return "" if points is None else f"{round(points, 1) + 0.0:+.1f}"


def _percent(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.1f}"


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["ours"] is None:
        return "-"
    more = "1 seed" if figure["spread"] is None else f"{figure['spread']:.1f}; {figure['seeds']} seeds"
    return f"{figure['ours']:.1f} ({more})"
