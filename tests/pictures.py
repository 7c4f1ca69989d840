"""Pictures, files and sources that the tests of the data share. Light to import: loader workers do."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from abx.data.sources import BadRecord
from abx.types import Record, Sample, Vocabulary


def smooth(h: int = 48, w: int = 64) -> np.ndarray:
    """A picture that survives JPEG: red grows downwards, green to the right, blue is even."""
    y, x = np.mgrid[:h, :w]
    return np.stack([255 * y // max(h - 1, 1), 255 * x // max(w - 1, 1), np.full((h, w), 90)], -1).astype(np.uint8)


def encoded(picture: np.ndarray | Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, form, **({"quality": 95, "subsampling": 0} if form == "JPEG" else {}), **options)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


class Numbered:
    """Record i is a picture filled with i, modulo 256; `bad` ones raise; every other read adds a byte to `log`."""

    classes: tuple[str, ...] = ()
    vocabulary = Vocabulary()
    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, length: int, bad: tuple[int, ...] = (), log: str = "") -> None:
        self.length, self.bad, self.log = length, frozenset(bad), log

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Sample:
        if i in self.bad:
            raise BadRecord("cracked")
        if self.log:
            with open(self.log, "ab", buffering=0) as file:
                file.write(b".")
        return Sample(np.full((17, 23, 3), i % 256, np.uint8), i % 3)

    def stored(self, i: int) -> Record:
        return Record(*self[i])

    def name(self, i: int) -> str:
        return f"numbered/{i}"

    def reads(self) -> int:
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0
