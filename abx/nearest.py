"""What was probably meant: words, flags and paths that are spelt much like what there is."""

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


def hint(word: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?", where something known is spelt much like a word, else nothing."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def not_there(path: Path) -> str:
    """That there is no such file or folder, and which one of its neighbours has nearly that name."""
    try:
        beside = sorted(each.name for each in path.parent.iterdir() if not each.name.startswith("."))
    except OSError:  # the folder is not there either
        beside = []
    near = get_close_matches(path.name, beside, n=1)
    return f"{path} is not there" + (f"; did you mean {path.with_name(near[0])}?" if near else "")


def unknown(args: Sequence[str], known: Sequence[str], presets: Collection[str] = ()) -> list[str]:
    """A sentence for each word of a command line that no flag has taken.

    Args:
        known: every flag, as it is typed.
        presets: words that may come first and nowhere else.
    """
    found, after_flag = [], False
    for arg in args:
        if arg.startswith("-"):
            after_flag, word = True, arg.partition("=")[0].replace("_", "-")
            last = {flag: flag.removeprefix("--").rpartition(".")[2] for flag in known}
            field = word.lstrip("-").rpartition(".")[2]
            # --lr is meant for --optim.lr; --batch-size for what ends in "batch"; else what is spelt much the same.
            near = [flag for flag in known if last[flag] == field] or get_close_matches(word, known, n=1, cutoff=0.8)
            near = near or [f for f in known if last[f].rpartition("-")[2] == field.partition("-")[0]]
            near = near or [f for f in known if last[f] in get_close_matches(field, set(last.values()), n=1)]
            meant = f"did you mean {' or '.join(near[:3])}?" if near else "--help lists all"
            found.append(f"there is no flag {word}; {meant}")
        elif arg in presets:
            found.append(f"the preset comes first: write {arg} before all flags")
        elif not after_flag:  # what follows an unknown flag is its value
            found.append(f"no flag takes the word {arg!r}")
    return found
