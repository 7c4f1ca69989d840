"""From a pattern to the files that it names: `*`, `?`, `[a-z]`, `**`, `{a,b}`, `{00000..00003}`, joined by `::`."""

import difflib
import glob
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator

from abx.data.sources import SpecError, printable

MAX_SHARDS = 1_000_000
MAX_DIGITS = 30
"""Of a number in a range; a million names with longer ones would fill the memory."""
MAX_DEPTH = 100
"""Of braces in braces."""


def shards(scheme: str, pattern: str, suffix: str) -> list[str]:
    """The files that a pattern names, each once, in the order of the pattern; a part of it that names none is kept, to
    be reported as missing when the others are indexed.

    Args:
        scheme, suffix: for messages: tar, .tar

    Raises: SpecError, if there is no such file.
    """
    found: dict[str, None] = {}
    seen = False
    for part in pattern.split("::"):
        path = os.path.expanduser(part.strip())
        if os.path.isdir(path):
            said = printable(path.rstrip("/"))
            raise SpecError(
                f"{scheme}:{printable(part)} is a folder: write {scheme}:{said}/*{suffix}, or folder:{said}"
            )
        # A file may have braces or brackets in its own name.
        for each in [path] if os.path.lexists(path) else expand_braces(path):
            literal = os.path.lexists(each) or not glob.has_magic(each)
            matches = [each] if literal else sorted(glob.glob(each, recursive=True), key=os.fsencode)
            matches = [match for match in matches or [each] if not os.path.isdir(match)]
            seen = seen or any(map(_is_file, matches))
            found |= dict.fromkeys(matches)
    if not seen:
        first = os.path.expanduser(pattern.split("::")[0])
        raise SpecError(f"{scheme}:{printable(pattern)} matches no file: {nearest(first)}")
    return list(found)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def nearest(path: str) -> str:
    """What there is instead of a path that does not exist."""
    here = os.path.abspath(path)
    if os.path.lexists(here):
        broken = os.path.islink(here) and not os.path.exists(here)
        return f"{printable(here)} is " + ("a broken link" if broken else "neither a file nor a folder")
    while not os.path.isdir(os.path.dirname(here)):
        here = os.path.dirname(here)
    parent, missing = os.path.split(here)
    try:
        close = difflib.get_close_matches(missing, os.listdir(parent), 1)
    except OSError:
        close = []
    if close:
        return f"did you mean {printable(os.path.join(parent, close[0]))}?"
    return f"{printable(parent)} exists, but has no {printable(missing)}"


def expand_braces(pattern: str) -> list[str]:
    """`{a,b}` and `{00..12}` as a shell expands them, nested too; other braces stay as they are.

    Raises: SpecError, if there are more than `MAX_SHARDS`, a number has more than `MAX_DIGITS`, or braces are nested
    deeper than `MAX_DEPTH`.
    """
    if _depth(pattern) > MAX_DEPTH:
        raise SpecError(f"the braces of {_shortened(pattern)} are nested more than {MAX_DEPTH} deep; write them out")
    expanded = list(itertools.islice(_expand(pattern), MAX_SHARDS + 1))
    if len(expanded) > MAX_SHARDS:
        raise SpecError(f"{_shortened(pattern)} is more than {MAX_SHARDS} files; shorten its ranges")
    return expanded


def _depth(pattern: str) -> int:
    deepest = depth = 0
    for character in pattern:
        depth = max(0, depth + {"{": 1, "}": -1}.get(character, 0))
        deepest = max(deepest, depth)
    return deepest


def _shortened(pattern: str) -> str:
    return printable(pattern if len(pattern) <= 200 else f"{pattern[:197]}...")


def _expand(pattern: str) -> Iterator[str]:
    for opening in re.finditer(r"\{", pattern):
        start = opening.start()
        parts, end = _alternatives(pattern, start)
        if parts is not None:
            for part in parts:
                for middle in _expand(part):
                    yield from (pattern[:start] + middle + rest for rest in _expand(pattern[end:]))
            return
    yield pattern


def _alternatives(pattern: str, start: int) -> tuple[Iterable[str] | None, int]:
    """What the brace that opens at `start` stands for, None for a brace that is meant as such, and where it ends."""
    cuts, depth, at = [start], 0, start
    for at in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[at], 0)
        if pattern[at] == "," and depth == 1:
            cuts.append(at)
        if depth == 0:
            break
    if depth:
        return None, 0
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", pattern[start + 1 : at], re.ASCII):
        if (digits := max(map(len, numbers.groups()))) > MAX_DIGITS:
            raise SpecError(
                f"a number in {_shortened(pattern)} has {digits} digits, more than {MAX_DIGITS}; shorten it"
            )
        low, high = int(numbers[1]), int(numbers[2])
        step = 1 if low <= high else -1
        width = digits if any(re.match(r"0\d", n) for n in numbers.groups()) else 0
        return (f"{n:0{width}d}" for n in range(low, high + step, step)), at + 1
    if len(cuts) == 1:
        return None, 0
    return [pattern[a + 1 : b] for a, b in itertools.pairwise([*cuts, at])], at + 1
