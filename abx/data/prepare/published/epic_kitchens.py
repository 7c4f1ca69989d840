"""EPIC-KITCHENS-100: frames of films from kitchens, with what is done (verb) and to what (noun)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from abx.data.images import MAX_BYTES
from abx.data.prepare.archives import Entry, entries
from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import AnyFolder, Row, inside, open_folder
from abx.data.prepare.units import NONE
from abx.data.sources import printable
from abx.types import Record, Vocabulary

ABOUT = """\
EPIC-KITCHENS-100: 67,217 action segments to train and 9,668 to validate, 97 verbs, 300 nouns. Frames from
data.bris.ac.uk by the official download script, tables from github.com/epic-kitchens/epic-kitchens-100-annotations.

  SRC/P01/rgb_frames/P01_01/frame_0000000001.jpg    or the official SRC/P01/rgb_frames/P01_01.tar; also below
                                                    SRC/EPIC-KITCHENS/
  SRC/EPIC_100_train.csv                            tables also below SRC/annotations/ or
  SRC/EPIC_100_validation.csv                       SRC/epic-kitchens-100-annotations/
  SRC/EPIC_100_verb_classes.csv
  SRC/EPIC_100_noun_classes.csv

To train, 4 frames of every segment, the middles of its quarters (268,868 pictures); to validate, its middle frame
(9,668). The caption is the narration. Frames of a segment that are not there are counted as rejected. Segments of test
have no labels and are not read.

Terms: CC BY-NC 4.0.
"""
LICENCE = "CC BY-NC 4.0; University of Bristol and others, epic-kitchens.github.io"
FRAMES = 4
"""Of a segment of train. One of them is drawn at every pass by whoever trains on single frames."""

_COLUMNS = ("narration_id", "participant_id", "video_id", "start_frame", "stop_frame", "narration", "verb_class")
_PLACES = ("", "annotations/", "epic-kitchens-100-annotations/")
_NUMBERS = ("start_frame", "stop_frame", "verb_class", "noun_class")


def find(src: str) -> Published:
    folder = open_folder(src)
    names = Vocabulary(verbs=classes(folder, "EPIC_100_verb_classes.csv"), nouns=classes(folder, NOUNS))
    frames = folder.below("EPIC-KITCHENS")
    packed = {person: set(frames.files(f"{person}/rgb_frames")) for person in frames.folders() if person[:1] == "P"}
    if not packed:
        raise LayoutError(f"{frames.said()} has no frames, such as P01/rgb_frames/P01_01.tar")
    splits = []
    for split, table, count, expected in (
        ("train", "EPIC_100_train.csv", FRAMES, 67_217 * FRAMES),
        ("val", "EPIC_100_validation.csv", 1, 9_668),
    ):
        if not any(folder.has(place + table) for place in _PLACES):
            continue
        films: dict[str, list[Frame]] = {}
        for person, film, frame in _segments(folder, folder.need(*(place + table for place in _PLACES)), count, names):
            tar = f"{film}.tar"
            where = f"{person}/rgb_frames/{tar if tar in packed.get(person, ()) else film}"
            films.setdefault(where, []).append(frame)
        units = [
            Film(f"{split}/{where.rpartition('/')[2].removesuffix('.tar')}", frames, where, tuple(sorted(films[where])))
            for where in sorted(films)
        ]
        splits.append(Split(split, units, expected))
    if not splits:
        folder.need("EPIC_100_train.csv", "EPIC_100_validation.csv")
    return Published(tuple(splits), vocabulary=names, licence=LICENCE)


NOUNS = "EPIC_100_noun_classes.csv"


def classes(folder: AnyFolder, *names: str) -> tuple[str, ...]:
    """The key of every class, by its number; from the first of these tables that there is.

    Raises: LayoutError.
    """
    name = folder.need(*(place + name for name in names for place in _PLACES))
    table = {}
    for line, row in folder.table(name, ["id", "key"]):
        if not re.fullmatch(r"[0-9]{1,5}", row["id"]):
            raise LayoutError(f"{folder.said(name)}, line {line}: the id is no number: {printable(row['id'][:40])}")
        table[int(row["id"])] = printable(row["key"])
    return tuple(table.get(i, str(i)) for i in range(max(table, default=-1) + 1))


class Frame(NamedTuple):
    number: int
    key: str
    narration: str
    verb: int
    noun: int


def _segments(folder: AnyFolder, table: str, count: int, names: Vocabulary) -> Iterator[tuple[str, str, Frame]]:
    """Participant, film and frame: `count` for every row."""
    for line, row in folder.table(table, [*_COLUMNS, "noun_class"]):
        said = f"{folder.said(table)}, line {line}"
        start, stop, verb, noun = (_number(row, column, said) for column in _NUMBERS)
        person, film, segment = row["participant_id"], row["video_id"], row["narration_id"]
        if not all(re.fullmatch(r"[\w.-]+", name) and inside(name) for name in (person, film, segment)):
            raise LayoutError(f"{said}: no such film or segment: {printable(f'{person} {film} {segment}'[:80])}")
        if stop < start or verb >= len(names.verbs) or noun >= len(names.nouns):
            raise LayoutError(f"{said}: the frames are not in order, or the tables of classes lack {verb} or {noun}")
        for k in range(count):
            # The middle of a part; of the whole, as is usual, when there is one.
            number = max(1, start + (2 * k + 1) * (stop - start) // (2 * count))
            yield person, film, Frame(number, f"{segment}/{k}_frame_{number:010d}", row["narration"], verb, noun)


def _number(row: Row, column: str, said: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", row[column]):
        raise LayoutError(f"{said}: {column} is no number: {printable(row[column][:40])}")
    return int(row[column])


@dataclass(frozen=True)
class Film:
    """The frames that are wanted of a film, by their numbers; from a folder or a tar."""

    name: str
    folder: AnyFolder
    where: str
    frames: tuple[Frame, ...]

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        if not self.where.endswith(".tar"):
            for frame in self.frames:
                yield _record(frame, self.folder.picture(f"{self.where}/{_file(frame.number)}"))
            return
        left: dict[str, list[Frame]] = {}
        for frame in self.frames:
            left.setdefault(_file(frame.number), []).append(frame)
        with self.folder.open(self.where) as file:
            for found in entries(file, lambda name: MAX_BYTES if name.rpartition("/")[2] in left else None):
                if isinstance(found, Entry):
                    for frame in left.pop(found.name.rpartition("/")[2], ()):
                        yield _record(frame, found.data)
                else:
                    yield f"{self.name}: {found.reason}", NONE
                if not left:
                    return
        for frames in left.values():
            yield from (_record(frame, b"") for frame in frames)


def _file(number: int) -> str:
    return f"frame_{number:010d}.jpg"


def _record(frame: Frame, image: bytes) -> tuple[str, Record]:
    captions = (" ".join(frame.narration.split()),) if frame.narration.strip() else ()
    return frame.key, Record(image, captions=captions, verb=frame.verb, noun=frame.noun)
