"""The HTML file about the body of a page: it needs nothing but itself, and forbids itself scripts and requests."""

from collections.abc import Sequence
from html import escape

from abx.analysis.drawing import short


def said(words: str) -> str:
    """Words that may come from anybody, as HTML that shows them on one line; cut where they are very long."""
    return escape(short(words, 1000))


def document(title: str, style: str, body: Sequence[str]) -> str:
    """The whole file.

    Args:
        style: CSS.
        body: HTML, whose texts are escaped.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{said(title)}</title>\n<style>{style}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
