"""From the members of a tar to samples: which belong together, and which part of a sample each is."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"})
KINDS = {"txt": "txt", "cls": "cls", "json": "json", **dict.fromkeys(IMAGES, "image")}
"""By extension, the parts of a sample that are read."""

P = TypeVar("P")
"""What stands for a member: its bytes, or where they lie."""


class Sample(Generic[P]):
    """Members of one key that lie side by side."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.extensions: dict[str, None] = {}
        """In lower case, in their order."""
        self.parts: dict[str, P] = {}
        """By kind, the first that is named so, else the first whose name ends so."""
        self._named: set[str] = set()

    def add(self, extension: str, part: P) -> None:
        self.extensions[extension] = None
        if kind := KINDS.get(extension):
            if kind not in self._named:
                self.parts[kind] = part
                self._named.add(kind)
        elif kind := kind_of(extension):
            self.parts.setdefault(kind, part)


def samples(members: Iterable[tuple[str, P]]) -> Iterator[Sample[P]]:
    """Runs of members of one key; a repeated extension begins another. Only the parts that are read are kept.

    Args:
        members: (name, what stands for it); those that `split` passes over belong to no sample.
    """
    sample = None
    for name, part in members:
        if (found := split(name)) is None:
            continue
        key, extension = found
        if sample is None or key != sample.key or extension in sample.extensions:
            if sample is not None:
                yield sample
            sample = Sample[P](key)
        sample.add(extension, part)
    if sample is not None:
        yield sample


def split(name: str) -> tuple[str, str] | None:
    """Key and extension, in lower case: the path up to the first dot of its base name, and what follows it.

    None for hidden members and those without an extension.
    """
    *folders, base = name.split("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot:
        return None
    return "/".join([*(folder for folder in folders if folder not in ("", ".")), stem]), extension.lower()


def kind_of(extension: str) -> str | None:
    """Which part a member may be, by how its name ends."""
    return KINDS.get(extension.rpartition(".")[2])


def leads_out(name: str) -> bool:
    """Whether a member's path leads out of the tar."""
    return name.startswith("/") or ".." in name.split("/")
