"""The text that goes with an image: one of its captions, or a list of what is in it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from abx.data.sources import BadRecord
from abx.types import Objects, Record, Vocabulary


@dataclass(frozen=True)
class Texts:
    """Draws one text for each image, anew at every step, and hands it on as bytes."""

    kind: Literal["captions", "boxes"] = "captions"
    """captions: one of the image's own, each equally likely. boxes: what its boxes hold, as `describe` says it."""
    length: int = 256
    """Bytes of UTF-8 that are kept."""

    def __call__(self, record: Record, vocabulary: Vocabulary, rng: np.random.Generator) -> UInt8[np.ndarray, " t"]:
        """Raises: BadRecord, if there is no such text."""
        if self.kind == "captions":
            if not record.captions:
                raise BadRecord("has no caption")
            return encode(record.captions[int(rng.integers(len(record.captions)))], self.length)
        if record.objects is None or not len(record.objects.labels):
            raise BadRecord("has no boxes to describe")
        return encode(describe(record.objects, vocabulary, rng), self.length)


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
