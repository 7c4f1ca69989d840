"""From words to a verb. What tyro does not know is said in a sentence, with what was probably meant."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import tyro

from abx.cli.errors import fail, fail_each
from abx.complaints import parsed
from abx.nearest import hint, unknown


def parse(verbs: Any, args: Sequence[str], prog: str, about: str, config: Sequence[Any] = ()) -> Any:
    """The verb that is asked for; nothing = --help. Exits with 2 where there is no such verb, flag or value.

    Args:
        verbs: a union of dataclasses, each with the name that it is called by.
    """
    words = list(args) or ["--help"]
    names = {part.name: get_args(each)[0] for each in get_args(verbs) for part in get_args(each)[1:]}
    if not words[0].startswith("-") and words[0] not in names:
        fail(f"there is no command {prog} {words[0]}{hint(words[0], names) or '; there are ' + ', '.join(names)}")
    try:
        verb, left = parsed(verbs, args=words, prog=prog, description=about, config=config, return_unknown_args=True)
    except SystemExit as stop:
        if not stop.code and words[0] in names:  # its --help
            print("\n".join(["Examples:", *examples(about, f"{prog} {words[0]}")]))
        raise
    if left:
        fail_each(unknown(left, list(_flags(type(verb)))))
    return verb


def examples(about: str, command: str) -> list[str]:
    """The lines of a description that show this command."""
    return [line for line in about.splitlines() if f"{line.strip()} ".startswith(f"{command} ")]


def _flags(kind: type) -> Iterator[str]:
    """Those of a verb, as they are typed; of the parts of parts, too."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        about = getattr(hints[field.name], "__metadata__", ())
        word = field.name.replace("_", "-")
        if tyro.conf.Positional in about or tyro.conf.Suppress in about:
            continue
        if is_dataclass(hints[field.name]):
            yield from _flags(hints[field.name])
        else:
            yield f"--{word}"
            if hints[field.name] is bool:
                yield f"--no-{word}"
