"""The one string by which a person names data: `SCHEME`, `SCHEME:WHERE`, or several with weights."""

import difflib
import os
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from abx.data import schemes
from abx.data.mixture import Mixture
from abx.data.mixture import split as split_mixture
from abx.data.sources import Source, SpecError, first_usable, printable


@runtime_checkable
class Scheme(Protocol):
    """What a module of `schemes/` offers. Its name is the scheme's: a new kind of data is a new file there."""

    USAGE: str
    """How to write it: folder:PATH"""
    SUFFIX: str
    """How files of this kind end, in lower case; empty for none."""

    def check(self, where: str) -> None:
        """Raises: SpecError for what can be told to be wrong without indexing."""

    def index(self, where: str) -> Source:
        """Raises: SpecError."""


@runtime_checkable
class Indexed(Protocol):
    """What a module of `schemes/` offers besides whose data has an index that is kept."""

    def build(self, where: str, workers: int, say: Callable[[str], None]) -> str:
        """Make what indexes are missing, in several processes, so that `index` takes little time after.

        Returns: a remark for the user, or nothing.

        Raises: SpecError.
        """


def open_source(spec: str, empty_ok: bool = False) -> Source:
    """Index a data string: `scenes`, `folder:PATH`, `tar:GLOB`, ..., or a mixture `0.75*folder:a + 0.25*tar:b`.

    GLOB takes `*`, `?`, `[a-z]`, `**`, `{a,b}`, `{00000..00003}`, and several patterns joined by `::`. `~` is expanded.

    Args:
        empty_ok: for a source of no records where nothing in the place could be a picture. A part of a mixture that
            holds nothing is an error all the same: most likely a mistake in the string.

    Raises: SpecError, also when nothing in the place could be a picture. That they can be read is for `first_usable`.
    """
    parts = split_mixture(spec, scheme_names())
    sources = [_open(part) for _, part in parts]
    for source, (_, part) in zip(sources, parts, strict=True):
        if not len(source) and not (empty_ok and len(parts) == 1):
            raise SpecError(no_pictures(part, source))
    return sources[0] if len(parts) == 1 else Mixture(sources, [weight for weight, _ in parts])


def open_for(flag: str, spec: str) -> Source:
    """`open_source`, and something in it can be read.

    Raises: SpecError, one sentence that begins with the flag.
    """
    try:
        source = open_source(spec)
        first_usable(source)
    except SpecError as wrong:
        raise SpecError(f"{flag}: {wrong}") from wrong
    return source


def parts(spec: str) -> list[str]:
    """The parts of a mixture, without their weights; of any other data string itself. Raises: SpecError."""
    return [part for _, part in split_mixture(spec, scheme_names())]


def no_pictures(spec: str, source: Source) -> str:
    """The sentence about a source of no records."""
    why = "; ".join(f"{name}: {reason}" for name, reason in source.problems[:1])
    return f"{printable(spec)} holds no pictures" + (f" ({why})" if why else "") + _shards(spec)


def _shards(spec: str) -> str:
    """Which data string is meant, where a folder holds shards in place of pictures."""
    scheme, _, folder = spec.partition(":")
    path, found = Path(folder).expanduser(), ""
    if scheme == "folder":
        found = next((kind for kind in ("tar", "arrayrecord", "parquet") if any(path.glob(f"*.{kind}"))), "")
    return f"; did you mean '{found}:{printable(folder.rstrip('/'))}/*.{found}'?" if found else ""


def _open(spec: str) -> Source:
    scheme, where = _split(spec)
    return scheme.index(where)


def build_indexes(spec: str, workers: int, say: Callable[[str], None]) -> list[str]:
    """Make what indexes a data string needs and does not have.

    Args:
        say: told now and then how far it is.

    Returns: remarks for the user.

    Raises: SpecError.
    """
    parts = [_split(part) for _, part in split_mixture(spec, scheme_names())]
    remarks = [scheme.build(where, workers, say) for scheme, where in parts if isinstance(scheme, Indexed)]
    return [remark for remark in remarks if remark]


def check_spec(spec: str) -> str | None:
    """What is wrong with a data string, as far as can be told without indexing: one sentence, or None."""
    try:
        for _, part in split_mixture(spec, scheme_names()):
            scheme, where = _split(part)
            scheme.check(where)
    except SpecError as wrong:
        return str(wrong)
    return None


@cache
def scheme_names() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(schemes.__path__)))


def accepted() -> str:
    """All that a data string may be, for messages."""
    *most, last = [_scheme(name).USAGE for name in scheme_names()]
    return f"{', '.join(most)} or {last}"


def _scheme(name: str) -> Scheme:
    return cast(Scheme, import_module(f"{schemes.__name__}.{name}"))


def _split(spec: str) -> tuple[Scheme, str]:
    """Scheme and what follows the colon."""
    said = printable(spec)
    name, colon, where = spec.strip().partition(":")
    if name in scheme_names():
        scheme = _scheme(name)
        takes_paths = ":" in scheme.USAGE.split(",")[0]
        if takes_paths and any(map(_remote, where.split("::"))):
            raise SpecError(_elsewhere(said))
        if where or not (colon or takes_paths):
            return scheme, where
        raise SpecError(f"{said!r} names nothing; data is {accepted()}")
    if _remote(spec):
        raise SpecError(_elsewhere(said))
    path = os.path.expanduser(spec)
    if os.path.isdir(path):
        raise SpecError(f"{said!r} needs a scheme: write folder:{said}")
    fitting = [other for other in scheme_names() if _ends_for(other, spec)]
    # What stands before a colon is meant as a scheme, unless it is part of a file's name.
    meant = bool(re.fullmatch(r"\w[\w.+-]*", name)) and bool(colon) and not os.path.lexists(path)
    if fitting and not meant:
        raise SpecError(f"{said!r} needs a scheme: write {fitting[0]}:{said}")
    if os.path.isfile(path):
        raise SpecError(f"{said!r} needs a scheme: {accepted()}")
    close = fitting or difflib.get_close_matches(name, scheme_names(), 1)
    hint = f"; did you mean {close[0] + colon + printable(where)!r}?" if close else ""
    raise SpecError(f"data is {accepted()}, not {said!r}{hint}")


def _ends_for(scheme: str, spec: str) -> bool:
    suffix = _scheme(scheme).SUFFIX
    return bool(suffix) and spec.lower().endswith(suffix)


def _remote(where: str) -> bool:
    return re.match(r"\s*(?!file:)\w[\w.+-]*://", where) is not None


def _elsewhere(said: str) -> str:
    return f"{said} is not on this machine: abx data prepare makes shards of it that are"
