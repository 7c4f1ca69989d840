"""The text of an image: a caption, or what its boxes hold, as tokens; and texts as bytes, for what the host says."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abx.data.sources import BadRecord
from abx.data.texts import Texts, decode, describe, encode
from abx.data.tokenizers import tokenizer
from abx.types import Objects, Record, Vocabulary

NAMES = Vocabulary(objects=("star", "disc", "hexagon"))
END = Texts().end


def objects(*labels: int) -> Objects:
    return Objects(np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(labels), 1)), np.array(labels, np.int64))


# Tokens


@given(st.integers(0, 12), st.integers(2, 8))
def test_the_end_fills_all_that_the_text_leaves(words: int, length: int):
    """So the last token, which a network may read for the whole, is an end for every text."""
    texts = Texts(length=length)
    ids = texts.tokens(" ".join(["stars", *["plain"] * words]))
    assert (ids.shape, ids.dtype) == ((length,), np.int32)
    kept = min(words + 1, length - 1)
    assert (ids[:kept] != END).all()
    assert (ids[kept:] == END).all()
    assert texts.decode(ids) == " ".join(["stars", *["plain"] * words][:kept])


def test_tokens_do_not_depend_on_case_or_spaces():
    same = [Texts().tokens(text) for text in ("two plain stars", " Two  PLAIN\n\tstars ", "ｔｗｏ plain stars")]
    assert all(map(np.array_equal, same, [same[0]] * 3))
    assert not np.array_equal(same[0], Texts().tokens("plain two stars"))


@given(st.text())
def test_whatever_is_said_the_tokens_are_in_the_vocabulary(text: str):
    texts = Texts(length=16)
    if not tokenizer("scenes").ids(text):
        with pytest.raises(BadRecord, match=r"^has an empty caption$"):
            texts.tokens(text)
        return
    ids = texts.tokens(text)
    assert ids.min() >= 0
    assert ids.max() < texts.vocabulary_size
    assert 0 not in ids  # the unknown: what has no token is spelt in bytes
    assert ids[0] != END == ids[-1]


def test_what_has_no_token_is_spelt_in_bytes():
    texts = Texts()
    assert texts.decode(texts.tokens("naïve ☃ </s> 日本")) == "naïve ☃ </s> 日本"


def test_a_text_without_an_end_is_read_whole():
    texts = Texts(length=4)
    assert texts.decode(texts.tokens("two plain stars")[:2]) == "two plain"


def test_a_text_of_megabytes_is_only_looked_into():
    assert Texts().decode(Texts().tokens("star " * 1_000_000)) == " ".join(["star"] * 63)
    with pytest.raises(BadRecord, match="empty"):
        Texts().tokens(" " * 1_000_000 + "star")


# Drawing one


def test_every_caption_is_drawn_equally_often(rng: np.random.Generator):
    record, texts = Record(b"", captions=("star", "disc", "ring")), Texts(length=2)
    drawn = [texts.decode(texts(record, NAMES, rng)) for _ in range(3000)]
    assert all(900 < drawn.count(c) < 1100 for c in record.captions)


def test_boxes_are_described_by_their_classes_each_once_in_any_order(rng: np.random.Generator):
    said = {describe(objects(2, 0, 0, 1, 2, 2), NAMES, rng) for _ in range(200)}
    assert {frozenset(text.split(", ")) for text in said} == {frozenset(NAMES.objects)}
    assert len(said) == 6
    assert describe(objects(7), NAMES, rng) == "7"
    texts = Texts("boxes")
    assert texts.decode(texts(Record(b"", objects=objects(1, 1)), NAMES, rng)) == "disc"


@pytest.mark.parametrize(
    ("kind", "record", "reason"),
    [
        ("captions", Record(b""), "has no caption"),
        ("captions", Record(b"", captions=("",)), "has an empty caption"),
        ("captions", Record(b"", captions=(" \n\u200b",)), "has an empty caption"),
        ("boxes", Record(b""), "has no boxes to describe"),
        ("boxes", Record(b"", objects=objects()), "has no boxes to describe"),
        ("boxes", Record(b"", objects=objects(3)), "has an empty description of its boxes"),
    ],
)
def test_without_a_text_a_record_cannot_be_used(kind, record, reason, rng: np.random.Generator):
    with pytest.raises(BadRecord, match=f"^{reason}$"):
        Texts(kind)(record, Vocabulary(objects=(*NAMES.objects, " ")), rng)


# What a person chooses


def test_sound_texts_have_no_problems_and_travel_to_workers():
    texts = Texts("boxes", length=9)
    assert texts.problems("--data.text") == []
    assert pickle.loads(pickle.dumps(texts)) == texts
    assert len(pickle.dumps(texts)) < 300  # the name of the tokenizer, not the tokenizer


def test_every_problem_at_once_by_its_flag(tmp_path):
    missing, length = Texts(tokenizer=f"{tmp_path}/no.model", length=1).problems("--data.reward_text")
    assert missing.startswith(f"--data.reward_text.tokenizer: {tmp_path}/no.model is not there; make one with: abx ")
    assert length == "--data.reward_text.length must be at least 2, a token and the end, not 1"


# Bytes


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
