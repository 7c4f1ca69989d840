"""Annotations that a person names, as a reward batch of the run: texts, pictures or prototypes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from abx.analysis.explorer import Annotation
from abx.analysis.value_grid import rewards
from abx.data.images import BadImage, center_crop, decode
from abx.data.sources import BadRecord, SpecError, printable
from abx.data.texts import Texts
from abx.methods import SigLIP
from abx.methods.ab import AB
from abx.types import MultiCrop, Pairs, Pixels, Views

SHOWN_BY = 256
"""Reward images, at most, among which the one is looked for that shows a prototype best."""


class Annotated(NamedTuple):
    """A reward batch with the annotations that were asked for in it."""

    batch: Any
    looks: dict[int, Annotation]
    """By their numbers in the batch."""
    note: str
    """How to read their rewards."""


def annotate(
    method: AB[Any], model: Any, carry: Any, given: Sequence[str], batch: Any, texts: Texts | None, *, alone: bool
) -> Annotated:
    """What is given, in a batch of as many annotations as training has; the others are the run's own.

    Args:
        given: texts; paths of pictures; or, where annotations are prototypes, their numbers, or paths of pictures that
            stand each for its likeliest prototype. Whichever the method has.
        batch: a reward batch of the run. Only its shapes count if `alone`.
        texts: how the run makes tokens of texts.
        alone: rewards are shared out over the given annotations and no others.

    Raises: SpecError, a sentence on `--annotations`.
    """
    if isinstance(batch, Pairs) and texts is not None:
        return _texts(method, given, batch, texts, alone)
    if isinstance(batch, Views):
        return _pictures(given, batch, alone)
    return _prototypes(method, model, carry, given, batch, alone)


def _texts(method: AB[Any], given: Sequence[str], batch: Pairs, texts: Texts, alone: bool) -> Annotated:
    tokens = []
    for text in given:
        if Path(text).is_file():
            raise SpecError(f"--annotations: {printable(text)} is a file; the annotations of this run are texts")
        try:
            tokens.append(texts.tokens(text))
        except BadRecord:
            raise SpecError(f"--annotations: the run's tokenizer makes nothing of {printable(text)!r}") from None
    ours = np.array(tokens, np.int32)
    if len(np.unique(ours, axis=0)) < len(ours):
        raise SpecError("--annotations: two texts are the same to the run's tokenizer")
    theirs = np.asarray(batch.text)
    # The same text twice would have to share its reward with itself.
    theirs = theirs[~(theirs[:, None] == ours).all(-1).any(1)]
    theirs = theirs[: 0 if alone else max(len(batch.text) - len(ours), 0)]
    looks = {i: Annotation(text) for i, text in enumerate(given)}
    note = _shared("texts", len(ours), len(theirs))
    if isinstance(method.base, SigLIP):
        note = "p(l | x) is that of each text by itself."
    return Annotated(Pairs(batch.views, np.concatenate([ours, theirs])), looks, note)


def _pictures(given: Sequence[str], batch: Views, alone: bool) -> Annotated:
    looks = {i: Annotation(Path(name).name, _picture(name, "pictures")) for i, name in enumerate(given)}
    size = batch.images.shape[2]
    ours = np.stack([np.stack([center_crop(look.look, size)] * 2) for look in looks.values()])  # type: ignore[arg-type]
    theirs = np.asarray(batch.images)[: 0 if alone else max(len(batch.images) - len(ours), 0)]
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(ours) + len(theirs), 2, 1))
    return Annotated(Views(np.concatenate([ours, theirs]), whole), looks, _shared("pictures", len(ours), len(theirs)))


def _prototypes(
    method: AB[Any], model: Any, carry: Any, given: Sequence[str], batch: MultiCrop, alone: bool
) -> Annotated:
    count = method.base.annotation_count(batch)
    first = jax.tree.map(lambda x: x[:1], batch)  # no prototype depends on the batch
    looks: dict[int, Annotation] = {}
    for name in given:
        if name.isdecimal():
            number, look = int(name), Annotation(f"prototype {int(name)}")
        else:
            seen = _picture(name, f"prototypes, 0 to {count - 1}, or pictures")
            view = center_crop(seen, batch.globals.images.shape[2])
            number = int(rewards(method, model, carry, view[None], first)[0].argmax())
            look = Annotation(f"{Path(name).name}: prototype {number}", seen)
        if number >= count:
            raise SpecError(f"--annotations: there are prototypes 0 to {count - 1}, and no {number}")
        if number in looks:
            raise SpecError(f"--annotations: prototype {number} is named twice")
        looks[number] = look
    note = f"p(l | x) is shared out over all {count:,} prototypes."
    if alone:
        return Annotated(first, looks, note)
    return Annotated(first, shown_by(method, model, carry, batch, looks), note)


def shown_by(
    method: AB[Any], model: Any, carry: Any, batch: MultiCrop, looks: dict[int, Annotation]
) -> dict[int, Annotation]:
    """Each prototype that has no picture yet, with the view of the batch that it fits best."""
    views = np.asarray(batch.globals.images[:SHOWN_BY, 0])
    found = rewards(method, model, carry, views, jax.tree.map(lambda x: x[:1], batch))
    return {
        number: each if each.look is not None else each._replace(look=views[found[:, number].argmax()])
        for number, each in looks.items()
    }


def _picture(name: str, wanted: str) -> Pixels:
    try:
        return decode(Path(name).read_bytes())
    except BadImage as wrong:
        raise SpecError(f"--annotations: {printable(name)} is not a picture that can be read: {wrong}") from wrong
    except (OSError, ValueError):
        raise SpecError(
            f"--annotations: the annotations of this run are {wanted}, and {printable(name)!r} is no file"
        ) from None


def _shared(kind: str, ours: int, theirs: int) -> str:
    if not theirs:
        return f"p(l | x) is shared out over these {ours} {kind} alone."
    return f"p(l | x) is shared out over {ours + theirs} {kind}: these {ours} and {theirs} of the run's reward data."
