"""The text of an image: a caption, or what its boxes hold, as bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abx.data.sources import BadRecord
from abx.data.texts import Texts, decode, describe, encode
from abx.types import Objects, Record, Vocabulary

NAMES = Vocabulary(objects=("person", "dog", "bench"))


def objects(*labels: int) -> Objects:
    return Objects(np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(labels), 1)), np.array(labels, np.int64))


@given(st.text(), st.integers(0, 40))
def test_what_fits_comes_back_whole_and_the_rest_is_cut_between_characters(text: str, length: int):
    data = encode(text, length)
    assert data.shape == (length,)
    said = decode(data)
    whole = text.replace("\0", " ").encode("utf-8", "replace").decode()
    assert whole.startswith(said)
    if len(whole.encode()) <= length:
        assert said == whole
    else:
        assert len(said.encode()) > length - 4


def test_every_caption_is_drawn_equally_often(rng: np.random.Generator):
    record = Record(b"", captions=("a", "b", "c"))
    drawn = [decode(Texts(length=4)(record, NAMES, rng)) for _ in range(3000)]
    assert all(900 < drawn.count(c) < 1100 for c in "abc")


def test_boxes_are_described_by_their_classes_each_once_in_any_order(rng: np.random.Generator):
    said = {describe(objects(2, 0, 0, 1, 2, 2), NAMES, rng) for _ in range(200)}
    assert {frozenset(text.split(", ")) for text in said} == {frozenset(NAMES.objects)}
    assert len(said) == 6
    assert describe(objects(7), NAMES, rng) == "7"
    assert decode(Texts("boxes")(Record(b"", objects=objects(1, 1)), NAMES, rng)) == "dog"


@pytest.mark.parametrize(
    ("kind", "record", "reason"),
    [
        ("captions", Record(b""), "has no caption"),
        ("boxes", Record(b""), "has no boxes to describe"),
        ("boxes", Record(b"", objects=objects()), "has no boxes to describe"),
    ],
)
def test_without_a_text_a_record_cannot_be_used(kind, record, reason, rng: np.random.Generator):
    with pytest.raises(BadRecord, match=reason):
        Texts(kind)(record, NAMES, rng)
