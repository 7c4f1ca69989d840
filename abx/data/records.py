"""How a record lies on disk: a small header of what is known about a picture, and the picture file as it is.

4 bytes  MAGIC, whose last byte is the version
4 bytes  length of the header, little-endian
header   JSON: `key`, and of `FIELDS` only what is known
the rest the picture file
"""

import json
import math
import struct
from typing import Any, NoReturn

import numpy as np

from abx.data.images import MAX_BYTES
from abx.data.sources import BadRecord
from abx.types import Objects, Record

MAGIC = b"abx\x01"
FIELDS = ("label", "captions", "boxes", "labels", "flags", "count", "distance", "verb", "noun")
MAX_HEADER = 1 << 22
MAX_KEY = 4096

WRITER = "group_size:1,uncompressed"
"""Options of the ArrayRecords that records are written to: each is read alone, and pictures are compressed already."""


def pack(key: str, record: Record) -> bytes:
    """The bytes of a record. Boxes are kept as float32; in captions, half of a surrogate pair becomes U+FFFD.

    Args:
        record: its picture as the bytes of a file.

    Raises: BadRecord, for what `unpack` would refuse.
    """
    if not isinstance(record.image, bytes):
        raise TypeError("only the bytes of a picture file can be packed, not pixels")
    known: dict[str, Any] = {"key": key}
    for name in ("label", "count", "verb", "noun"):
        if (number := getattr(record, name)) != -1:
            known[name] = int(number)
    if record.captions:
        known["captions"] = [_whole(caption) for caption in record.captions]
    if record.objects is not None:
        boxes, labels, flags = record.objects
        known |= {"boxes": boxes.astype(np.float32).tolist(), "labels": labels.tolist()}
        if flags is not None:
            known["flags"] = flags.tolist()
    if not math.isnan(record.distance):
        known["distance"] = float(record.distance)
    _record(known, record.image)
    header = json.dumps(known, separators=(",", ":")).encode()
    if len(header) > MAX_HEADER:
        raise BadRecord(f"{len(header)} bytes of annotations, more than the {MAX_HEADER} that a record may have")
    return MAGIC + struct.pack("<I", len(header)) + header + record.image


def unpack(data: bytes) -> tuple[str, Record]:
    """Key and record. That its picture is one, nothing has looked at.

    Raises: BadRecord, unless every part is as `pack` writes it.
    """
    if data[:4] != MAGIC:
        if data[:3] == MAGIC[:3]:
            raise BadRecord("a record of another version of abx")
        raise BadRecord("not a record of abx (abx data prepare writes them)")
    if len(data) < 8:
        raise BadRecord("ends early, inside its header")
    (length,) = struct.unpack_from("<I", data, 4)
    if length > min(MAX_HEADER, len(data) - 8):
        raise BadRecord(f"its header is said to have {length} bytes, more than there are or may be")
    try:
        known = json.loads(data[8 : 8 + length].decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadRecord("its header cannot be parsed") from error
    if not isinstance(known, dict):
        raise BadRecord("its header is no JSON object")
    return _record(known, data[8 + length :])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _record(known: dict[str, Any], image: bytes) -> tuple[str, Record]:
    """Raises: BadRecord, for a header that is not sound."""
    if len(image) > MAX_BYTES:
        raise BadRecord(f"{len(image)} bytes, more than any picture we read has")
    if unknown := known.keys() - {"key", *FIELDS}:
        raise BadRecord(f"its header has fields that we do not know: {sorted(unknown)[0][:40]!r}")
    key = known.get("key")
    if not isinstance(key, str) or len(key) > MAX_KEY:
        raise BadRecord(f"its key is no text of at most {MAX_KEY} characters")
    captions = known.get("captions", [])
    if not isinstance(captions, list) or not all(map(_is_text, captions)):
        raise BadRecord("its captions are no list of texts")
    distance = known.get("distance", math.nan)
    if "distance" in known and not (type(distance) in (int, float) and abs(distance) < 1e300):
        raise BadRecord("its distance is no number")
    label, count, verb, noun = (_number(known, name) for name in ("label", "count", "verb", "noun"))
    return key, Record(image, label, tuple(captions), _objects(known), count, float(distance), verb, noun)


def _is_text(caption: object) -> bool:
    return isinstance(caption, str) and _whole(caption) == caption


def _number(known: dict[str, Any], name: str) -> int:
    number = known.get(name, -1)
    if name in known and not (type(number) is int and 0 <= number < 2**31):
        raise BadRecord(f"its {name} is no number from 0 to {2**31 - 1}")
    return int(number)


def _objects(known: dict[str, Any]) -> Objects | None:
    if "boxes" not in known:
        if "labels" in known or "flags" in known:
            raise BadRecord("it has labels or flags of boxes, but no boxes")
        return None
    rows, labels = known["boxes"], _small(known.get("labels"), "labels", 2**31)
    flags = _small(known["flags"], "flags", 2**8) if "flags" in known else None
    if not (isinstance(rows, list) and all(_is_box(row) for row in rows)):
        raise BadRecord("its boxes are no lists of four numbers in [0, 1] with an area")
    if len(labels) != len(rows) or (flags is not None and len(flags) != len(rows)):
        raise BadRecord(f"it has {len(rows)} boxes, and not as many labels or flags")
    return Objects(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        None if flags is None else np.array(flags, np.uint8),
    )


def _is_box(row: object) -> bool:
    if not (isinstance(row, list) and len(row) == 4 and all(type(v) in (int, float) and 0 <= v <= 1 for v in row)):
        return False
    y0, x0, y1, x1 = np.array(row, np.float32).tolist()
    return bool(y0 < y1 and x0 < x1)


def _small(numbers: object, name: str, end: int) -> list[int]:
    if not (isinstance(numbers, list) and all(type(n) is int and 0 <= n < end for n in numbers)):
        raise BadRecord(f"the {name} of its boxes are no numbers from 0 to {end - 1}")
    return numbers
