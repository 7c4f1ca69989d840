"""Figure 7 of a run: a picture and a few annotations, given or from held-out data, and what each checkpoint says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from abx.analysis.candidates import ZOOM_OUT, predictions
from abx.analysis.paired import central
from abx.analysis.rewards import reward_of
from abx.data.images import BadImage, crop_resize, decode
from abx.data.sources import BadRecord, SpecError
from abx.data.texts import Texts
from abx.experiment.analysing import Numbers, Pixels, Say, about, called, through
from abx.experiment.drawing import annotation_look
from abx.experiment.heldout import Held
from abx.methods.base import Reward
from abx.methods.dino import DINO
from abx.types import Pairs, Views

COUNT = 10
"""Candidates, unless some are given (METHODS §5.5)."""


class Candidates(NamedTuple):
    annotated: Any
    """A reward batch."""
    chosen: Int[np.ndarray, " c"]
    """Which of its annotations."""
    looks: list[Pixels | str]


class Asked(NamedTuple):
    picture: Pixels
    looks: list[Pixels | str]
    numbers: Numbers
    own: bool
    """Whether the first candidate is the picture's own annotation."""


def candidates(held: Held, image: Path | None, words: Sequence[str], say: Say) -> Asked:
    """See `abx.analysis.candidates`.

    Args:
        image: the picture; None = the first of the held-out ones that annotations are made of.
        words: the candidates: captions where texts are annotations, files of pictures where pictures are, numbers where
            prototypes are; () = those of the first ten images, of prototypes the ten that the newest checkpoint gives
            the highest reward.

    Raises: SpecError.
    """
    method = held.recipe.method
    base = reward_of(method)
    if base is None:
        raise SpecError(
            f"{held.run} is a run of {called(method)}, which scores no annotations: there is no figure 7 of it"
        )
    name, stream = next(iter(held.recipe.data.streams().items()))
    loaded = held.batches(1)[0]
    batch = held.recipe.data.part(loaded.batch, name)
    own = held.sources[name][int(loaded.records[name][0])].image
    picture = own if image is None else read_picture(image, "--image")
    views = list(held.recipe.data.streams().values())[-1].crops.kinds()
    size = next(iter(views.values())).size
    view = crop_resize(picture, central((picture.shape[0], picture.shape[1])), size)
    if isinstance(base, DINO):
        numbers = _prototypes(words, base.prototypes)
        if numbers is None:
            state = next(held.states(newest=True))
            every = predictions(method, state.model, state.carry, view, batch, np.arange(base.prototypes))
            numbers = np.argsort(-np.asarray(every.rewards), kind="stable")[:COUNT]
        given = Candidates(batch, numbers, [f"prototype {k}" for k in numbers])
    elif words:
        given = _given(words, base, stream.texts, size)
    else:
        given = _first(batch, stream.texts)

    def look(state: Any) -> dict[str, Any]:
        found = predictions(method, state.model, state.carry, view, given.annotated, given.chosen)
        values = None if found.values is None else np.asarray(found.values).tolist()
        return {"rewards": np.asarray(found.rewards).tolist(), "values": values}

    said = [look if isinstance(look, str) else f"picture {k}" for k, look in enumerate(given.looks)]
    what = {"candidates": said, "image": str(image or "the first held-out one"), "zoom_out": list(ZOOM_OUT)}
    own_first = image is None and not words and not isinstance(base, DINO)
    return Asked(picture, given.looks, through(held, look, say, about(held, first=True) | what), own_first)


def read_picture(path: Path, flag: str) -> Pixels:
    """Raises: SpecError."""
    try:
        return decode(path.read_bytes())
    except BadImage as wrong:
        raise SpecError(f"{flag}: {path} is not a picture that can be read: {wrong}") from wrong
    except OSError as wrong:
        raise SpecError(f"{flag}: {path} cannot be read: {wrong.strerror}") from wrong


def _given(words: Sequence[str], base: Reward, texts: Texts | None, size: int) -> Candidates:
    if texts is not None:
        try:
            tokens = np.stack([texts.tokens(word) for word in words])
        except BadRecord:
            raise SpecError(
                "--candidates: one of them is empty, or has no character that the tokenizer knows"
            ) from None
        return Candidates(Pairs((), tokens), np.arange(len(words)), list(words))
    pictures = [read_picture(Path(word), "--candidates") for word in words]
    squares = np.stack([crop_resize(p, central((p.shape[0], p.shape[1])), size) for p in pictures])
    return Candidates(_twice(squares), np.arange(len(words)), list(squares))


def _first(batch: Any, texts: Texts | None) -> Candidates:
    """Of the first images, without those that are said twice."""
    looks, rows = list[Pixels | str](), list[int]()
    for i in range(len(batch.text if isinstance(batch, Pairs) else batch.images)):
        look = annotation_look(batch, i, texts)
        if len(rows) < COUNT and not any(isinstance(look, str) and look == other for other in looks):
            looks.append(look)
            rows.append(i)
    few = np.array(rows)
    if isinstance(batch, Pairs):
        return Candidates(Pairs((), np.asarray(batch.text)[few]), np.arange(len(few)), looks)
    return Candidates(_twice(np.asarray(batch.images)[few, 1]), np.arange(len(few)), looks)


def _twice(images: np.ndarray) -> Views:
    """As SimCLR takes them: the second view is the annotation."""
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(images), 2, 1))
    return Views(np.stack([images, images], 1), whole)


def _prototypes(words: Sequence[str], count: int) -> Int[np.ndarray, " c"] | None:
    if not words:
        return None
    if wrong := [w for w in words if not (w.isdecimal() and int(w) < count)]:
        raise SpecError(f"--candidates: {wrong[0]} is not the number of a prototype, from 0 to {count - 1}")
    return np.array([int(w) for w in words])
