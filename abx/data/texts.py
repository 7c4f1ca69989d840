"""The text that goes with an image: one of its captions, or a list of what is in it, as tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int32, UInt8

from abx.data import tokenizers
from abx.data.sources import BadRecord
from abx.data.tokenizers.base import BadTokenizer
from abx.types import Objects, Record, Vocabulary

Kind: TypeAlias = Literal["captions", "boxes"]

MAX_CHARACTERS = 1 << 16
"""Of a text, what is looked at: far more than any number of tokens that we keep, and no more than a moment's work."""


@dataclass(frozen=True)
class Texts:
    """Draws one text for each image, anew at every step, and hands it on as tokens."""

    kind: Kind = "captions"
    """captions: one of the image's own, each equally likely. boxes: what its boxes hold, as `describe` says it."""
    tokenizer: str = tokenizers.SCENES
    """scenes (built in), or the path of a SentencePiece model (see abx tokenizer train) or of CLIP's
    bpe_simple_vocab_16e6.txt.gz."""
    length: int = 64
    """Tokens that are kept of a text, with at least one for its end."""

    def __call__(self, record: Record, vocabulary: Vocabulary, rng: np.random.Generator) -> Int32[np.ndarray, " t"]:
        """The tokens of a text; the end's token fills up all the rest, so that the last one is always an end (A-28).

        Raises: BadRecord, if there is no such text; BadTokenizer, as `problems` tells beforehand.
        """
        texts = texts_of(self.kind, record, vocabulary, rng)
        if not texts:
            raise BadRecord("has no caption" if self.kind == "captions" else "has no boxes to describe")
        return self.tokens(texts[int(rng.integers(len(texts)))])

    def tokens(self, text: str) -> Int32[np.ndarray, " t"]:
        """Raises: BadRecord, if nothing is left of the text; BadTokenizer."""
        tokenizer = tokenizers.tokenizer(self.tokenizer)
        ids = tokenizer.ids(text[:MAX_CHARACTERS])
        if not ids:
            raise BadRecord(f"has an empty {'caption' if self.kind == 'captions' else 'description of its boxes'}")
        ids = [*tokenizer.start, *ids][: self.length - 1]
        filled = np.full(self.length, tokenizer.end, np.int32)
        filled[: len(ids)] = ids
        return filled

    def decode(self, ids: Int32[np.ndarray, " t"]) -> str:
        """What the tokens say, up to the first end; of CLIP in lower case and with spaces around signs."""
        tokenizer = tokenizers.tokenizer(self.tokenizer)
        said: list[int] = ids.tolist()
        return tokenizer.text(said[: said.index(tokenizer.end)] if tokenizer.end in said else said)

    def problems(self, flag: str) -> list[str]:
        """What is wrong with the choice, one sentence each, beginning with a flag under `flag`. Opens the tokenizer."""
        found = []
        try:
            tokenizers.tokenizer(self.tokenizer)
        except BadTokenizer as wrong:
            found.append(f"{flag}.tokenizer: {wrong}")
        if self.length < 2:
            found.append(f"{flag}.length must be at least 2, a token and the end, not {self.length}")
        return found

    @property
    def vocabulary_size(self) -> int:
        """Tokens are from 0 to one below this. Raises: BadTokenizer."""
        return tokenizers.tokenizer(self.tokenizer).size

    @property
    def end(self) -> int:
        """The token that ends a text. Raises: BadTokenizer."""
        return tokenizers.tokenizer(self.tokenizer).end

    @property
    def fingerprint(self) -> str:
        """Whether this is the tokenizer it was: 16 digits that depend on its file alone. Raises: BadTokenizer."""
        return tokenizers.fingerprint(self.tokenizer)


def texts_of(kind: Kind, record: Record, vocabulary: Vocabulary, rng: np.random.Generator) -> Sequence[str]:
    """All captions of an image, or one description of its boxes; () without."""
    if kind == "captions":
        return record.captions
    if record.objects is None or not len(record.objects.labels):
        return ()
    return (describe(record.objects, vocabulary, rng),)


def describe(objects: Objects, vocabulary: Vocabulary, rng: np.random.Generator) -> str:
    """The names of the classes in an image, each once, in random order: "dog, bench, person".

    The paper's Table 4 has rows for "bounding box descriptions" and does not say how they read: this is our inference
    (METHODS A-30). A class without a name is called by its number.
    """
    names = vocabulary.objects
    present = np.unique(objects.labels).tolist()
    return ", ".join(names[k] if k < len(names) else str(k) for k in rng.permutation(present).tolist())


def encode(text: str, length: int) -> UInt8[np.ndarray, " t"]:
    """UTF-8, cut to `length` bytes between two characters, filled up with zeros. Zeros in the text become spaces."""
    data = text.replace("\0", " ").encode("utf-8", "replace")[:length]
    data = data.decode("utf-8", "ignore").encode()  # without the half of a character that the cut left
    return np.frombuffer(data.ljust(length, b"\0"), np.uint8)


def decode(data: UInt8[np.ndarray, " t"]) -> str:
    """What `encode` made of a text, as a text."""
    return data.tobytes().rstrip(b"\0").decode()
