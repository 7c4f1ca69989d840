"""Writes the stand-ins that are made: collages, clips cut into a training and a test part, a vocabulary."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from abx.data.specs import open_source
from abx.data.tokenizers.corpus import corpus
from abx.data.tokenizers.sentence import train
from benchmarks.replicate.collages import boxes_of, collage, cuts
from benchmarks.replicate.standins import DRAWN, TOKENIZER, StandIns

TRAIN, VAL = 3_000, 500
"""Collages."""
KEPT = (0.6, 0.7)
"""Of a clip: up to the first share is trained on, from the second on tested; neighbouring frames are all but equal."""
QUALITY = 90
TEXTS, DRAWN_TEXTS = 20_000, 2_000
"""Of each set, at most, that tokens are learnt from; of drawn pictures fewer, as each has to be drawn."""
Member = tuple[str, bytes]


def make(where: StandIns, vocabulary: int, say: Callable[[str], None] = print) -> None:
    """What is not there yet and can be made of the small sets that are. Nothing without them."""
    data, made = where
    if data is None:
        return
    made.mkdir(parents=True, exist_ok=True)
    if (data / "tinyimagenet").is_dir() and not (made / "collages-val.tar").exists():
        say(f"writing {TRAIN + VAL:,} collages to {made}")
        write_collages(data / "tinyimagenet", made, TRAIN, VAL)
    if (data / "home_video").is_dir() and not (made / "clips-val.tar").exists():
        say(f"writing clips in two parts to {made}")
        write_clips(data / "home_video", made)
    if not where.tokenizer():
        specs = [spec for name in ("cc12m", "coco") for _, spec in where.parts(name)]
        say(f"learning {vocabulary:,} tokens of the captions of {', '.join(specs)}")
        # Part by part: of a mixture each record counts the same, and there are 100,000 drawn ones.
        texts = list[str]()
        for spec in specs:
            limit = DRAWN_TEXTS if spec == DRAWN else TEXTS
            texts += corpus(open_source(spec), "captions", limit, lambda done: None)
        _written(made / TOKENIZER, train(texts, vocabulary))


def write_collages(small: Path, made: Path, train_canvases: int, val_canvases: int) -> None:
    """Shards of the objects of tinyimagenet: training canvases of its training pictures, test canvases of the others.

    Args:
        small: folder of tinyimagenet.
    """
    boxes = boxes_of(small / "boxes.tsv")
    for number, (split, canvases) in enumerate((("train", train_canvases), ("val", val_canvases))):
        pictures, names = cuts(f"tar:{small}/tinyimagenet-{split}-*.tar", boxes)
        rng, members = np.random.default_rng([number, 0]), list[Member]()
        for i in range(canvases):
            made_up = collage(pictures, names, rng)
            file = io.BytesIO()
            made_up.picture.save(file, "JPEG", quality=QUALITY)
            said = {"boxes": made_up.boxes, "labels": made_up.labels, "captions": made_up.captions}
            members += [(f"collage_{i:05}.jpg", file.getvalue()), (f"collage_{i:05}.json", json.dumps(said).encode())]
        _written(made / "objects.txt", "".join(f"{i}\t{name}\n" for i, name in enumerate(names)).encode())
        write_shard(made / f"collages-{split}.tar", members)


def write_clips(small: Path, made: Path) -> None:
    """home_video, of whose clips the beginnings are trained on and the ends are tested on.

    Args:
        small: folder of home_video.
    """
    source = open_source(f"tar:{small}/home_video-train.tar")
    verbs, nouns = source.vocabulary.verbs, source.vocabulary.nouns
    clips: dict[int, list[int]] = {}
    for i in range(len(source)):
        clips.setdefault(source.stored(i).label, []).append(i)
    parts: dict[str, list[int]] = {"train": [], "val": []}
    for frames in clips.values():
        first, second = (round(share * len(frames)) for share in KEPT)
        parts["train"] += frames[:first]
        parts["val"] += frames[second:]
    for name, words in (("verbs.txt", verbs), ("nouns.txt", nouns)):
        _written(made / name, "".join(f"{i}\t{word}\n" for i, word in enumerate(words)).encode())
    for split, frames in parts.items():
        members = list[Member]()
        for i in frames:
            record = source.stored(i)
            said = {"verb": verbs[record.verb], "noun": nouns[record.noun]}
            assert isinstance(record.image, bytes)
            members += [(f"frame_{i:05}.jpg", record.image), (f"frame_{i:05}.json", json.dumps(said).encode())]
        write_shard(made / f"clips-{split}.tar", members)


def write_shard(path: Path, members: Iterable[Member]) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    _written(path, file.getvalue())


def _written(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(data)
    beside.replace(path)
