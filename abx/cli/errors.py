"""How a verb ends that cannot be done."""

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn


def fail(sentence: str, code: int = 2) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def not_there(path: Path) -> str:
    """That there is no such file or folder, and which one of its neighbours has nearly that name."""
    return f"{path} is not there{hint(path.name, _names(path.parent), str(path.parent / '_')[:-1])}"


def hint(word: str, known: Iterable[str], before: str = "") -> str:
    """ "; did you mean ...?", where something known is spelt much like a word, else nothing."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {before.removeprefix('./')}{near[0]}?" if near else ""


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
