"""Retrieval: of all texts the one about a picture, and of all pictures the one that a text is about."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from abx.data.sources import SpecError
from abx.probes.metrics import recall_at
from abx.probes.questions import Facts
from abx.probes.towers import Towers
from abx.types import AnyArray

KS = (1, 5, 10)
ROWS = 256
"""Rows of the matrix of similarities at a time: 25,000 texts of them take 50 MB with what is made of them."""


class Captions(NamedTuple):
    """Texts, and which picture each is about."""

    texts: list[str]
    owner: Int[np.ndarray, " n"]


def captions_of(facts: list[Facts]) -> Captions:
    """All captions of all pictures, numbered by the pictures."""
    texts = [caption for fact in facts for caption in fact.captions]
    return Captions(texts, np.repeat(np.arange(len(facts)), [len(fact.captions) for fact in facts]))


def retrieval(towers: Towers, pooled: Float[AnyArray, "m d"], facts: list[Facts]) -> dict[str, float]:
    """i2t_r1, i2t_r5, i2t_r10, t2i_r1, t2i_r5, t2i_r10; n_test pictures and n_texts texts.

    Left out: captions of which the tokenizer makes nothing, and pictures without a caption, which no text can find.

    Args:
        pooled: the backbone's features of the pictures.
        facts: what is known of them.

    Raises: SpecError where no picture has a caption; BadTokenizer.
    """
    texts, owner = captions_of(facts)
    tokens, said = towers.tokens(texts)
    if not len(said):
        raise SpecError("retrieval needs pictures with captions, and none has one")
    pictures, number = np.unique(owner[said], return_inverse=True)
    found = recalls(towers.pictures(np.asarray(pooled)[pictures]), towers.sentences(tokens), number)
    return found | {"n_test": len(pictures), "n_texts": len(number)}


def recalls(
    pictures: Float[np.ndarray, "m e"], texts: Float[np.ndarray, "n e"], owner: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Recall at 1, 5 and 10 both ways: i2t_r1 and so on; shares from 0 to 1.

    Of a picture (i2t) it is a hit if any of its own texts is among the first k of all texts, of a text (t2i) if its
    picture is among the first k pictures. Where several are equally near, what counts is the share of their orders that
    would be a hit: embeddings that are all alike score what guessing does, not 1. NaN is farther than anything.

    Args:
        owner: the picture that each text is about; every picture has one text or more.
    """
    m, n = len(pictures), len(texts)
    i2t, t2i = (np.zeros((len(rows), len(KS))) for rows in (pictures, texts))
    for start in range(0, m, ROWS):
        rows = np.arange(start, min(start + ROWS, m))
        i2t[rows] = recall_at(pictures[rows] @ texts.T, rows[:, None] == owner, KS)
    for start in range(0, n, ROWS):
        part, similar = owner[start : start + ROWS], texts[start : start + ROWS] @ pictures.T
        t2i[start : start + ROWS] = recall_at(similar, part[:, None] == np.arange(m), KS)
    named = {"i2t": i2t.mean(0), "t2i": t2i.mean(0)}
    return {f"{way}_r{k}": float(share) for way, shares in named.items() for k, share in zip(KS, shares, strict=True)}
