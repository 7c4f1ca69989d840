"""What a data source is, and the one string by which a person names it."""

import difflib
import glob
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from abx.types import Sample

ACCEPTED = "scenes, scenes:test, folder:PATH or tar:GLOB"
PLANNED = ("arrayrecord", "parquet")
MAX_SHARDS = 1_000_000
_MIXTURE = re.compile(r"^\s*\d*\.?\d+\s*\*|\s\+\s*(?:\d*\.?\d+\s*\*\s*)?(?:scenes|folder|tar|arrayrecord|parquet)\b")


class BadRecord(ValueError):
    """One record cannot be used; the message is the reason, on one line, without the record's name."""


class SpecError(ValueError):
    """The data string cannot be used; the message is one sentence that says what to change."""


@runtime_checkable
class Source(Protocol):
    """Records by number, in an order that does not depend on the machine. Safe to read from many threads; pickles."""

    classes: tuple[str, ...]
    """Names of `Sample.label`; () if no record has a label."""
    problems: tuple[tuple[str, str], ...]
    """What indexing had to leave out, or could use in part: (name, reason), both printable on one line."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Sample:
        """Raises: BadRecord, if this record cannot be used; IndexError outside 0 <= i < len."""

    def name(self, i: int) -> str:
        """Where the record comes from, printable on one line."""


def open_source(spec: str) -> Source:
    """Index a data string: `scenes`, `scenes:test`, `folder:PATH`, `tar:GLOB`.

    GLOB takes `*`, `?`, `[a-z]`, `**`, `{a,b}`, `{00000..00003}`, and several patterns joined by `::`. `~` is expanded.

    Raises: SpecError, also when nothing in the place could be a picture. That they can be read is for `first_usable`.
    """
    scheme, rest = _split(spec)
    source: Source
    if scheme == "scenes":
        from abx.data.scenes import Scenes

        return Scenes(_split_name(rest))
    if scheme == "folder":
        from abx.data.folder import Folder

        source = Folder(_folder(rest))
    else:
        from abx.data.tar import Tar

        source = Tar(_shards(rest))
    if not len(source):
        why = "; ".join(f"{name}: {reason}" for name, reason in source.problems[:1])
        raise SpecError(f"{printable(spec)} holds no pictures" + (f" ({why})" if why else ""))
    return source


def check_spec(spec: str) -> str | None:
    """What is wrong with a data string, as far as can be told without indexing: one sentence, or None."""
    try:
        scheme, rest = _split(spec)
        _ = {"scenes": _split_name, "folder": _folder, "tar": _shards}[scheme](rest)
    except SpecError as wrong:
        return str(wrong)
    return None


def first_usable(source: Source, limit: int = 1000) -> Sample:
    """The first record that can be used, of the first `limit`.

    Raises: SpecError, naming the first record and what is wrong with it.
    """
    first = ""
    count = min(limit, len(source))
    for i in range(count):
        try:
            return source[i]
        except BadRecord as bad:
            first = first or f"{source.name(i)}: {bad}"
    raise SpecError(f"none of the first {count} images could be read; the first: {first}")


def fingerprint(source: Source) -> list[int | str]:
    """Number of records, and a digest of the names of up to a thousand of them: whether this is the data it was."""
    count = len(source)
    names = "\n".join(source.name(i) for i in range(0, count, -(-count // 1000)))
    return [count, hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16]]


def expand_braces(pattern: str) -> list[str]:
    """`{a,b}` and `{00..12}` as a shell expands them, nested too; other braces stay as they are.

    Raises: SpecError, if there are more than `MAX_SHARDS`.
    """
    expanded = list(itertools.islice(_expand(pattern), MAX_SHARDS + 1))
    if len(expanded) > MAX_SHARDS:
        raise SpecError(f"{printable(pattern)} is more than {MAX_SHARDS} files; shorten its ranges")
    return expanded


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
        low, high = int(numbers[1]), int(numbers[2])
        step = 1 if low <= high else -1
        width = max(map(len, numbers.groups())) if any(re.match(r"0\d", n) for n in numbers.groups()) else 0
        return (f"{n:0{width}d}" for n in range(low, high + step, step)), at + 1
    if len(cuts) == 1:
        return None, 0
    return [pattern[a + 1 : b] for a, b in itertools.pairwise([*cuts, at])], at + 1


def printable(name: str) -> str:
    """On one line and in characters that print: control characters, line breaks and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else _escape(c) for c in name)


def _escape(c: str) -> str:
    if 0xDC80 <= ord(c) <= 0xDCFF:  # a byte that is no UTF-8, as os.fsdecode passes it on
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()


class Names:
    """Many byte strings, held as one, so that a million file names are cheap to keep and to send to a worker."""

    def __init__(self, names: Iterable[bytes]) -> None:
        names = list(names)
        self.blob = b"".join(names)
        self.ends = np.cumsum([len(name) for name in names], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        """Raises: IndexError outside 0 <= i < len."""
        if not 0 <= i < len(self.ends):
            raise IndexError(f"record {i} of {len(self.ends)}")
        return self.blob[self.ends[i - 1] if i else 0 : self.ends[i]]


def _split(spec: str) -> tuple[str, str]:
    """Scheme and what follows the colon."""
    said = printable(spec)
    if _MIXTURE.search(spec):
        raise SpecError(f"weighted mixtures are not readable yet: this version reads one of {ACCEPTED}, not {said!r}")
    scheme, colon, rest = spec.strip().partition(":")
    if scheme in PLANNED:
        raise SpecError(f"{scheme}: is not readable yet: this version reads {ACCEPTED}")
    if scheme == "scenes" and (rest or not colon):
        return scheme, rest
    if scheme in ("folder", "tar") and rest:
        return scheme, rest
    if scheme in ("scenes", "folder", "tar"):
        raise SpecError(f"{said!r} names nothing; data is {ACCEPTED}")
    path = os.path.expanduser(spec)
    if os.path.isdir(path):
        raise SpecError(f"{said!r} needs a scheme: write folder:{said}")
    if os.path.isfile(path) or spec.endswith(".tar"):
        raise SpecError(f"{said!r} needs a scheme: " + (f"write tar:{said}" if spec.endswith(".tar") else ACCEPTED))
    close = difflib.get_close_matches(scheme, ["scenes", "folder", "tar"], 1)
    hint = f"; did you mean {close[0] + colon + printable(rest)!r}?" if close else ""
    raise SpecError(f"data is {ACCEPTED}, not {said!r}{hint}")


def _split_name(rest: str) -> str:
    """The split of `scenes`."""
    if rest not in ("", "train", "test"):
        raise SpecError(
            f"scenes has the splits train and test: write scenes or scenes:test, not scenes:{printable(rest)}"
        )
    return rest or "train"


def _folder(rest: str) -> str:
    path = os.path.expanduser(rest)
    if os.path.isfile(path):
        hint = f"write tar:{printable(rest)}" if path.endswith(".tar") else "name the folder that holds it"
        raise SpecError(f"folder:{printable(rest)} is a file, not a folder: {hint}")
    if not os.path.isdir(path):
        raise SpecError(f"folder:{printable(rest)} does not exist: {_nearest(path)}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise SpecError(f"folder:{printable(rest)} may not be read: change its permissions")
    return path


def _shards(rest: str) -> list[str]:
    """The files that a pattern names, each once, in the order of the pattern; a part of it that names none is kept, to
    be reported as missing when the others are indexed."""
    found: dict[str, None] = {}
    seen = False
    for pattern in rest.split("::"):
        path = os.path.expanduser(pattern.strip())
        if os.path.isdir(path):
            said = printable(path.rstrip("/"))
            raise SpecError(f"tar:{printable(pattern)} is a folder: write tar:{said}/*.tar, or folder:{said}")
        # A file may have braces or brackets in its own name.
        for each in [path] if os.path.lexists(path) else expand_braces(path):
            literal = os.path.lexists(each) or not glob.has_magic(each)
            matches = [each] if literal else sorted(glob.glob(each, recursive=True), key=os.fsencode)
            matches = [match for match in matches or [each] if not os.path.isdir(match)]
            seen = seen or any(map(_is_file, matches))
            found |= dict.fromkeys(matches)
    if not seen:
        raise SpecError(f"tar:{printable(rest)} matches no file: {_nearest(os.path.expanduser(rest.split('::')[0]))}")
    return list(found)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _nearest(path: str) -> str:
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
