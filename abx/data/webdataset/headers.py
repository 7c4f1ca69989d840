"""The members of an uncompressed tar, from its headers alone: ustar, GNU and pax.

`tarfile` reads the same, three times slower, and takes a damaged header for the end of the archive.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from abx.data.webdataset.files import File

BLOCK = 512
MAX_EXTRA = 1 << 20
"""Bytes of a long name or of pax records; more is damage."""

_FILES = frozenset(b"0\x007")
_WITHOUT_DATA = frozenset(b"123456")
"""Links, devices, folders and pipes: whatever size they state, none of it follows."""


class Member(NamedTuple):
    """A regular file in the archive."""

    name: str
    """UTF-8; other bytes as `os.fsdecode` passes them on."""
    at: int
    size: int
    """As the header states it: the archive may end before."""


class Damaged(ValueError):
    """From some header on the archive cannot be read; the message says from where."""


def members(file: File) -> Iterator[Member]:
    """In their order; links, folders, devices, pipes and sparse files are passed over.

    Raises: Damaged, after the members before the damage.
    """
    fd, length = file.fd, file.status.st_size
    at, name, pax = 0, "", dict[str, bytes]()
    while True:
        if at >= length:
            raise Damaged("has no end mark, so it may have been cut off" if length else "is empty")
        block = os.pread(fd, BLOCK, at)
        if not any(block) and len(block) == BLOCK:
            return
        try:
            kind, size = _header(block)
            start = at + BLOCK
            if kind in b"LKxg":
                extra = os.pread(fd, _extra(size), start)
                if kind == ord("L"):
                    name = _text(extra)
                elif kind == ord("x"):
                    pax = _pax(extra)
                at = start + _padded(size)
                continue
            size = _whole(pax["size"], 10) if "size" in pax else size
        except ValueError as error:
            if not at and block[257:262] != b"ustar":
                raise Damaged("not a tar") from error
            raise Damaged(f"damaged from byte {at} on ({error}); the rest of its {length} bytes is left out") from error
        sparse = kind == ord("S") or any(key.startswith("GNU.sparse.") for key in pax)
        if kind in _FILES and not sparse:
            yield Member(_decode(pax["path"]) if "path" in pax else name or _name(block), start, size)
        if kind == ord("S") and block[482]:
            start = _after_sparse_map(fd, start)
        at = start if kind in _WITHOUT_DATA else start + _padded(size)
        name, pax = "", {}


def _header(block: bytes) -> tuple[int, int]:
    """Kind of member and size of its data. Raises: ValueError."""
    if len(block) < BLOCK:
        raise ValueError("it ends inside a header")
    # The sum is over the block with its own field blank. Some old programs summed signed bytes.
    told = _number(block[148:156])
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if told != total and told != total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise ValueError("the checksum of a header is wrong")
    return block[156], _number(block[124:136])


def _number(field: bytes) -> int:
    """Octal digits, or, after a byte 0x80, a large number in binary."""
    return int.from_bytes(field[1:]) if field[0] == 0x80 else _whole(field.partition(b"\0")[0].strip() or b"0", 8)


def _whole(digits: bytes, base: int) -> int:
    """Raises: ValueError, for what is no number, or a negative one."""
    try:
        number = int(digits, base)
    except ValueError as error:
        raise ValueError("a header has something else where a number belongs") from error
    if number < 0:
        raise ValueError("a header has a negative size")
    return number


def _name(block: bytes) -> str:
    name = _text(block[:100])
    # In GNU's own format times may stand where ustar has the beginning of a long name.
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return _decode(field.partition(b"\0")[0])


def _decode(name: bytes) -> str:
    # Not the locale's encoding: the same shard has the same keys everywhere.
    return name.decode("utf-8", "surrogateescape")


def _extra(size: int) -> int:
    if size > MAX_EXTRA:
        raise ValueError("a member's name is too long")
    return size


def _pax(data: bytes) -> dict[str, bytes]:
    """Records `LENGTH KEY=VALUE\\n`, the length counting itself. Raises: ValueError."""
    records, at = dict[str, bytes](), 0
    while at < len(data) and data[at]:
        digits = data[at : at + 8].partition(b" ")[0]
        end = at + _whole(digits, 10)
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n":
            raise ValueError("a pax header is malformed")
        records[_decode(key)] = value
        at = end
    _whole(records.get("size", b"0"), 10)
    return records


def _after_sparse_map(fd: int, at: int) -> int:
    """Where the data of a sparse file begins: further blocks of its map come first."""
    more = True
    while more:
        block = os.pread(fd, BLOCK, at)
        more = len(block) == BLOCK and bool(block[504])
        at += BLOCK
    return at


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
