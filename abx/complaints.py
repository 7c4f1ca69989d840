"""What tyro complains of in a box, as a sentence like all others, with what was probably meant."""

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

import tyro

from abx.nearest import hint

CHOICE = re.compile(r"invalid choice '(.*)' for argument '([^']*)'\. Expected one of \((.*?),?\)\.")
NUMBER = re.compile(r"Error parsing (\S+): (?:invalid literal for int.*|could not convert string to float): '(.*)'")
VALUE = re.compile(r"Missing value for argument '([^']*)'\.")
RULE = re.compile(r"[─-]{8,}")
"""Across the box; the second kind where the output is not known to be Unicode."""


def parsed(kind: Any, **words: Any) -> Any:
    """As `tyro.cli`, but that what cannot be is said in one sentence on stderr. Exits with 2 then."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, **words)
    except SystemExit as stop:
        if not stop.code:
            raise
        print(f"error: {sentence(said.getvalue(), words.get('prog', ''))}", file=sys.stderr)
        raise SystemExit(2) from None


def sentence(box: str, prog: str = "") -> str:
    """Of the first complaint in a box of tyro's. Which flags there are `PROG --help` tells."""
    lines = _inside(box)
    text = " ".join(line.strip() for line in lines)
    if found := CHOICE.search(text):
        value, flag, choices = found.groups()
        there = [choice for choice in re.findall(r"'([^']*)'", choices) if choice]
        return f"{flag} must be {', '.join(there[:-1])} or {there[-1]}, not {value}{hint(value, there)}"
    if found := NUMBER.search(text):
        number = "an integer" if "int()" in text else "a number"
        return f"{found[1]} must be {number}, not {found[2]}"
    if found := VALUE.search(text):
        return f"{found[1]} needs a value"
    if lines and (found := re.fullmatch(r"Missing from (.*):", lines[0].strip())):
        names = [line.split()[0] for line in lines[1:] if re.match(r" {4}\S", line)]
        return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing; {found[1]} --help tells more"
    return text or f"this cannot be read; {prog} --help tells more"


def _inside(box: str) -> Sequence[str]:
    """Lines of the text between the first two rules; the first may be the upper edge."""
    lines = box.splitlines()
    rules = [i for i, line in enumerate(lines) if RULE.search(line)]
    if len(rules) < 2:
        return []
    return [line[2:].rstrip(" │") for line in lines[rules[0] + 1 : rules[1]]]
