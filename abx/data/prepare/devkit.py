"""The development kit of ILSVRC 2012: the names of its classes, and the labels of its validation pictures."""

import struct
import zlib
from io import BytesIO
from typing import NamedTuple

from abx.data.prepare.archives import Entry, entries
from abx.data.prepare.base import LayoutError
from abx.data.prepare.reading import AnyFolder

MAX_META = 1 << 23
"""Bytes of the devkit's tables, packed and unpacked; they have far fewer."""

_META, _TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"


class Synset(NamedTuple):
    wnid: str
    words: str


class Devkit(NamedTuple):
    synsets: dict[int, Synset]
    """By the devkit's own numbers, 1 to 1000; empty if it is not there."""
    truth: list[int]
    """These numbers of the validation pictures, in the order of their own numbers."""


def read_devkit(folder: AnyFolder) -> Devkit:
    """From the archive in the folder, or unpacked there; empty if it is not there.

    Raises: LayoutError, if it cannot be read.
    """
    found: dict[str, bytes] = {}
    for name in ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12.tar"):
        if folder.has(name):
            with folder.open(name) as file:
                for part in entries(file, _wanted):
                    if isinstance(part, Entry):
                        found[part.name.rpartition("/")[2]] = part.data
    for where in ("ILSVRC2012_devkit_t12/data/", "data/", ""):
        for name in (_META, _TRUTH):
            if name not in found and folder.has(where + name):
                with folder.open(where + name) as file:
                    found[name] = file.read(MAX_META)
    synsets = _synsets(found[_META], folder) if _META in found else {}
    try:
        return Devkit(synsets, [int(line) for line in found.get(_TRUTH, b"").split()])
    except ValueError as error:
        raise LayoutError(f"{folder.said()}: {_TRUTH} is no list of numbers: download the devkit again") from error


def _wanted(name: str) -> int | None:
    return MAX_META if name.endswith((f"data/{_META}", f"data/{_TRUTH}")) else None


def _synsets(data: bytes, folder: AnyFolder) -> dict[int, Synset]:
    from scipy.io import loadmat  # slow to import, and rarely needed

    try:
        _check_mat(data)
        table = loadmat(BytesIO(data), squeeze_me=True)["synsets"]
        return {
            int(row["ILSVRC2012_ID"]): Synset(str(row["WNID"]), str(row["words"]))
            for row in table
            if int(row["num_children"]) == 0
        }
    except Exception as error:  # damaged bytes may raise anything inside loadmat
        raise LayoutError(f"{folder.said()}: the devkit's {_META} cannot be read: download it again") from error


def _check_mat(data: bytes) -> None:
    """Raises: ValueError, for what is no MATLAB 5 file or unpacks to more than `MAX_META`; struct.error."""
    if data[126:128] != b"IM":
        raise ValueError
    at = 128
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        unpacker = zlib.decompressobj()
        if kind == 15 and len(unpacker.decompress(data[at + 8 : at + 8 + size], MAX_META)) == MAX_META:
            raise ValueError
        at += 8 + size
