"""The names of classes and of other numbers, in `manifest.json` beside the records that have them."""

import json
import os

from abx.data.sources import printable
from abx.types import Vocabulary

MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 26
"""Bytes that are read."""
WITHOUT = "so the records beside it are read without their classes, and nothing else in them has a name"


def names_beside(folder: str) -> tuple[tuple[str, ...], Vocabulary]:
    """Classes and vocabulary, as the manifest in a folder says.

    Raises: ValueError, with the reason, where there is none or it cannot be used.
    """
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as file:
            text = file.read(MAX_MANIFEST)
    except FileNotFoundError as error:
        raise ValueError(f"is not there, {WITHOUT}") from error
    except OSError as error:
        raise ValueError(f"cannot be read, {WITHOUT}: {error.strerror or error}") from error
    try:
        said = json.loads(text)
        vocabulary = said.get("vocabulary", {})
        lists = [said.get("classes", []), *(vocabulary.get(field, []) for field in Vocabulary._fields)]
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError(f"cannot be parsed, {WITHOUT}") from error
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError(f"its classes or vocabulary are no lists of names, {WITHOUT}")
    classes, *words = (tuple(map(printable, names)) for names in lists)
    return classes, Vocabulary(*words)
