"""`tar:GLOB`, WebDataset shards: plain tars in which the members of a sample lie side by side under one key."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

from abx.data.images import MAX_BYTES
from abx.data.patterns import shards
from abx.data.sources import BadRecord, Files, SpecError, printable
from abx.data.webdataset import build as building
from abx.data.webdataset.annotations import Annotations, BadAnnotations, captions, parse
from abx.data.webdataset.files import Changed, open_file
from abx.data.webdataset.index import indexed
from abx.data.webdataset.names import names, number
from abx.data.webdataset.shard import Said
from abx.types import Record, Vocabulary

USAGE = "tar:GLOB"
SUFFIX = ".tar"


def check(where: str) -> None:
    shards("tar", where, SUFFIX)


def index(where: str) -> "Tar":
    return Tar(shards("tar", where, SUFFIX))


def build(where: str, workers: int, say: Callable[[str], None]) -> str:
    built = building.build(
        shards("tar", where, SUFFIX),
        workers,
        lambda done: say(f"{done.shards:,} shards, {done.samples:,} samples"),
    )
    if not built.unkept:
        return ""
    return f"{built.unkept:,} of {built.shards:,} indexes could not be kept, neither beside the shard nor in $ABX_CACHE"


class Tar(Files):
    """A `Source` of the samples of some shards, in the order of the shards and of their members. Nothing is unpacked.

    A key is a member's path up to the first dot of its base name; what follows is the extension. A sample is a run of
    members of one key, and a repeated extension begins another. Read are one picture (`samples.IMAGES`, the first if
    there are several), `.cls` (the class, a decimal number), `.txt` (captions, one a line) and what `Annotations` has
    of a `.json`, its captions only where no `.txt` has any. Case does not matter. Where none is named so, what ends so
    is taken: `x.left.jpg` is the picture of x, unless there is an `x.jpg`.

    Left out and listed in `problems`: shards that are no tar or end early (from there on), keys without a picture,
    members with an absolute path or `..`, samples whose `.cls` is no number, whose `.json` cannot be parsed or whose
    boxes are unsound, and compressed shards. Hidden members, links, devices and sparse files are passed over.

    Names are in tables beside the shards (a line each: number, tab, name), `classes.txt`, `objects.txt`, `verbs.txt`
    and `nouns.txt`; what has no name is called by its number. Objects without a table of their own are named by
    `classes.txt` if no sample has a class. Verbs and nouns that are words get the number of that name in their table;
    without one, their place among the sorted words of these shards, so that training and test need a table to agree.

    Each shard is indexed once (`webdataset.index`); when it has changed since, its samples are bad. In memory a sample
    costs 44 bytes and its key.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Reads the index of every shard, or makes it.

        Raises: SpecError, if all shards are compressed or two folders name the classes differently.
        """
        self._paths = [os.path.abspath(path) for path in paths]
        indexes = [indexed(path) for path in self._paths]
        if indexes and all(each.compressed for each in indexes):
            raise SpecError(_all_compressed(self._paths, indexes[0].compressed))
        self._shards, self._stamps = [each.shard for each in indexes], [each.stamp for each in indexes]
        self._starts = np.cumsum([0, *(len(shard.rows) for shard in self._shards)], dtype=np.int64)
        last = max((int(shard.rows["label"].max(initial=-1)) for shard in self._shards), default=-1)
        folders = list(dict.fromkeys(map(os.path.dirname, self._paths)))
        self.classes = names(folders, "classes.txt", last)
        self.vocabulary = _vocabulary([shard.said for shard in self._shards], folders, named_by_class=not self.classes)
        self.problems = tuple(
            (printable(f"{path}:{name}" if name else path), printable(reason))
            for path, shard in zip(self._paths, self._shards, strict=True)
            for name, reason in shard.problems
        )
        self.notes = tuple(self._notes())
        self._shards = [shard._replace(problems=(), said=Said()) for shard in self._shards]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def stored(self, i: int) -> Record:
        shard, row = self._find(i)
        label, image_at, image_size, text_at, text_size, json_at, json_size = self._shards[shard].rows[row].tolist()
        if image_size > MAX_BYTES:
            raise BadRecord(f"{image_size} bytes, more than any picture we read has")
        try:
            file = open_file(self._paths[shard], self._stamps[shard])
            image = file.read(image_at, image_size)
            text, json = file.read(text_at, text_size), file.read(json_at, json_size)
            file.check(self._stamps[shard])  # the last, so that all that was read is of one state
            texts, said = captions(text), parse(json) if json_size else Annotations()
        except Changed as changed:
            raise BadRecord("the shard has changed since it was indexed") from changed
        except OSError as error:
            raise BadRecord(f"the shard can no longer be read: {error.strerror or error}") from error
        except BadAnnotations as bad:
            raise BadRecord(str(bad)) from bad
        verb, noun = number(said.verb, self.vocabulary.verbs), number(said.noun, self.vocabulary.nouns)
        return Record(image, label, texts or said.captions, said.objects, said.count, said.distance, verb, noun)

    def files(self, records: Int[np.ndarray, " r"]) -> Iterable[str]:
        return (self._paths[k] for k in np.unique(np.searchsorted(self._starts, records, "right") - 1))

    def name(self, i: int) -> str:
        shard, row = self._find(i)
        return printable(f"{self._paths[shard]}:{self._shards[shard].key(row)}")

    def _find(self, i: int) -> tuple[int, int]:
        """Shard, and place in it. Raises: IndexError."""
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        shard = int(np.searchsorted(self._starts, i, "right")) - 1
        return shard, i - int(self._starts[shard])

    def _notes(self) -> Iterator[str]:
        for file, words, known in (
            ("verbs.txt", [shard.said.verb_words for shard in self._shards], self.vocabulary.verbs),
            ("nouns.txt", [shard.said.noun_words for shard in self._shards], self.vocabulary.nouns),
        ):
            missing = sorted({word for each in words for word in each} - set(known))
            if missing:
                yield printable(
                    f"{file} lacks {len(missing):,} of the words in the shards, which are unknown: {missing[0]!r}, ..."
                )


def _all_compressed(paths: Sequence[str], how: str) -> str:
    others = f", and so are the {len(paths) - 1:,} other shards" if len(paths) > 1 else ""
    return (
        f"{printable(paths[0])} is compressed ({how}){others}: unpack it, as it is read at random places, "
        "or make shards of it with abx data prepare webdataset, which reads .tar.gz, .tar.bz2 and .tar.xz"
    )


def _vocabulary(said: Sequence[Said], folders: Sequence[str], named_by_class: bool) -> Vocabulary:
    def last(numbers: Iterable[int]) -> int:
        return max(numbers, default=-1)

    own = any(os.path.exists(os.path.join(folder, "objects.txt")) for folder in folders)
    objects = "classes.txt" if named_by_class and not own else "objects.txt"
    verbs = sorted({word for each in said for word in each.verb_words})
    nouns = sorted({word for each in said for word in each.noun_words})
    return Vocabulary(
        names(folders, objects, last(each.objects for each in said)),
        names(folders, "verbs.txt", last(each.verbs for each in said), verbs),
        names(folders, "nouns.txt", last(each.nouns for each in said), nouns),
    )
