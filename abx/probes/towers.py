"""The two towers of a method that knows texts: pictures and sentences in one space, for the probes without training."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from abx.data.sources import BadRecord
from abx.data.texts import Texts
from abx.methods.ab import ABModel
from abx.methods.batches import text_features
from abx.methods.clip import CLIPModel
from abx.methods.silc import SiLCModel
from abx.methods.slip import SLIPModel
from abx.nn import unit
from abx.types import AnyArray

CHUNK = 256
"""Texts or pictures at a time."""


class Towers(NamedTuple):
    """A model's CLIP, and the tokens its text tower was trained on. Bias and scale of a loss change no order."""

    clip: CLIPModel
    texts: Texts

    def pictures(self, pooled: Float[AnyArray, "m d"]) -> Float[np.ndarray, "m e"]:
        """Unit embeddings of pictures, from the backbone's pooled features of them."""
        return _in_chunks(_picture, self.clip, np.asarray(pooled, np.float32), self.clip.head.weight.shape[1])

    def tokens(self, sentences: Sequence[str]) -> tuple[Int[np.ndarray, "k t"], Int[np.ndarray, " k"]]:
        """Of each sentence that the tokenizer makes something of, its tokens, and which sentence that is.

        Raises: BadTokenizer.
        """
        tokens: list[Int[np.ndarray, " t"]] = []
        places = []
        for i, sentence in enumerate(sentences):
            try:
                tokens.append(self.texts.tokens(sentence))
            except BadRecord:
                continue
            places.append(i)
        return np.array(tokens, np.int32).reshape(-1, self.texts.length), np.array(places, np.int64)

    def sentences(self, tokens: Int[np.ndarray, "k t"]) -> Float[np.ndarray, "k e"]:
        """Unit embeddings of sentences, from their tokens."""
        return _in_chunks(_sentence, self.clip, tokens, self.clip.text_head.weight.shape[1])


def towers_of(model: Any, texts: Texts | None) -> Towers | None:
    """The towers of a method's model, online or target; None where it has no text tower.

    Args:
        texts: how the run made tokens of texts: those of the only stream of its data that has any.
    """
    clip = model.base if isinstance(model, ABModel) else model
    clip = clip.clip if isinstance(clip, SLIPModel | SiLCModel) else clip
    return Towers(clip, texts) if isinstance(clip, CLIPModel) and texts is not None else None


def _in_chunks(tower: Any, clip: CLIPModel, rows: np.ndarray, e: int) -> Float[np.ndarray, "m e"]:
    """One shape for every call, so that nothing is compiled twice."""
    found = np.empty((len(rows), e), np.float32)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        padded = np.pad(part, [(0, CHUNK - len(part)), (0, 0)])
        found[start : start + len(part)] = np.asarray(tower(clip, padded))[: len(part)]
    return found


@jax.jit
def _picture(clip: CLIPModel, pooled: Array) -> Float[Array, "m e"]:
    return unit(clip.head(pooled))


@jax.jit
def _sentence(clip: CLIPModel, tokens: Array) -> Float[Array, "m e"]:
    return unit(clip.text_head(text_features(clip.text, tokens)))
