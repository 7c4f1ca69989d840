"""Mixtures: exact shares, each part as it is alone, and classes that go by name."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import Numbered

from abx.data.loader import batches
from abx.data.mixture import Mixture, split, whole
from abx.data.sources import BadRecord, SpecError
from abx.data.specs import open_source
from abx.data.views import RandomCrops
from abx.types import Objects, Record, Sample, Vocabulary

CROPS = RandomCrops(n=2, size=6)
SCHEMES = ("folder", "parquet", "scenes", "tar")


class Named(Numbered):
    """`Numbered` whose labels have names; every record has one object of that class, its verb and its noun, too."""

    def __init__(self, length: int, classes: tuple[str, ...]) -> None:
        super().__init__(length)
        self.classes = self.words = classes
        self.vocabulary = Vocabulary(classes, classes, classes)

    def __getitem__(self, i: int) -> Sample:
        label = i % len(self.words)
        found = Objects(np.array([[0, 0, 1, 1]], np.float32), np.array([label]), np.array([1], np.uint8))
        return super().__getitem__(i)._replace(label=label, objects=found, verb=label, noun=label)


# --- the string ---


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("folder:a", [(1, "folder:a")]),
        (" folder:a ", [(1, " folder:a ")]),
        ("0.75*folder:a + 0.25*tar:b", [(Fraction(3, 4), "folder:a"), (Fraction(1, 4), "tar:b")]),
        ("3 * scenes  +  1e0 * scenes:test", [(3, "scenes"), (1, "scenes:test")]),
        ("1/3*scenes + 2/3*tar:x", None),
        ("2*scenes", [(2, "scenes")]),
        ("folder:C++ + more", [(1, "folder:C++ + more")]),
        ("0.5*folder:my pics + plus + 0.5*tar:{a,b}*.tar", [(0.5, "folder:my pics + plus"), (0.5, "tar:{a,b}*.tar")]),
        ("folder:3*scenes", [(1, "folder:3*scenes")]),
        ("tar:a + tarragon", [(1, "tar:a + tarragon")]),
    ],
)
def test_what_is_a_mixture(spec: str, parts: list | None):
    if parts is None:
        with pytest.raises(SpecError, match="needs a weight"):
            split(spec, SCHEMES)
    else:
        assert split(spec, SCHEMES) == parts


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("0.5*scenes + 0.5*foldr:x", "foldr is no kind of data: did you mean folder?"),
        ("0.5*foldr:/tmp + 0.5*scenes", "foldr is no kind of data: did you mean folder?"),
        ("0.5*scenes + foldr:x", "foldr is no kind of data: did you mean folder?"),
        ("0.5*scenez", "scenez is no kind of data: did you mean scenes?"),
        ("0.5*scenes + 0.5*s3:x", "s3 is no kind of data: write one of folder, parquet, scenes, tar"),
        *((spec, "put spaces around the +") for spec in (
            "0.5*scenes+0.5*folder:x", "0.5*scenes +0.5*scenes:test", "0.5*scenes+ 1*tar:x", "scenes+0.5*folder:x",
            "scenes+folder:x", "0.5*folder:/no/such/a+0.5*folder:/b", "0.5*scenes + 0.3*tar:a+0.2*tar:b",
        )),
    ],
)  # fmt: skip
def test_what_was_meant_as_a_part_is_told(spec: str, words: str):
    with pytest.raises(SpecError) as wrong:
        split(spec, SCHEMES)
    assert str(wrong.value) == f"{spec}: {words}" + (" that joins two parts" if "spaces" in words else "")


def test_a_path_that_is_there_may_look_like_a_mixture(tmp_path: Path):
    path = tmp_path / "a+0.5*folder:b + 0.5*foldr:c"
    path.mkdir(parents=True)
    assert split(f"folder:{path}", SCHEMES) == [(1, f"folder:{path}")]
    assert split(f"2*folder:{path}", SCHEMES) == [(2, f"folder:{path}")]
    assert split("1e+0*scenes", SCHEMES) == [(1, "scenes")]


@pytest.mark.parametrize("weight", ["0", "-0.5", "nan", "inf", "half", "1e99999999"])
def test_a_weight_is_a_positive_number(weight: str):
    with pytest.raises(SpecError, match="the weight of scenes must be a positive number, not "):
        split(f"{weight}*scenes + 1*folder:a", SCHEMES)


def test_weights_too_fine_to_keep_are_refused():
    with pytest.raises(SpecError, match="are too fine: use up to six digits"):
        split("0.1234567*scenes + 0.8765433*folder:a", SCHEMES)


# --- the stream ---


@settings(deadline=None, max_examples=40)
@given(
    weights=st.lists(st.integers(1, 50), min_size=2, max_size=5),
    lengths=st.lists(st.integers(1, 9), min_size=5, max_size=5),
)
def test_shares_are_exact_at_every_place(weights: list[int], lengths: list[int]):
    parts = [Numbered(length) for length, _ in zip(lengths, weights, strict=False)]
    mixture = Mixture(parts, [Fraction(w, 7) for w in weights])
    ds = batches(mixture, CROPS, 1, seed=3)
    seen: Counter[int] = Counter()
    for step in range(60):
        seen[mixture.place(int(ds[step].records["train"][0]))[0]] += 1
        for k, w in enumerate(weights):
            assert abs(seen[k] - (step + 1) * w / sum(weights)) < len(weights)
    weights = whole([Fraction(w) for w in weights])
    period = sum(weights)
    if period <= 60:
        taken = Counter(mixture.place(int(ds[s].records["train"][0]))[0] for s in range(period))
        assert [taken[k] for k in range(len(weights))] == weights
    assert Counter(mixture.turn(p)[0] for p in range(7 * period, 8 * period)) == dict(enumerate(weights))


def test_a_part_is_taken_from_its_first_place_on_without_gaps():
    mixture = Mixture([Numbered(5), Numbered(3), Numbered(2)], [Fraction(1, 3), Fraction(5), Fraction(0.5)])
    turns = [mixture.turn(p) for p in range(300)]
    for k in range(3):
        mine = [nth for part, nth in turns if part == k]
        assert mine == list(range(len(mine)))


def test_every_part_is_gone_through_epoch_by_epoch():
    mixture = Mixture([Numbered(5), Numbered(3)], [Fraction(3), Fraction(1)])
    ds = batches(mixture, CROPS, 4, seed=0)
    places = [mixture.place(i) for step in range(30) for i in ds[step].records["train"].tolist()]
    first, second = ([j for k, j in places if k == part] for part in (0, 1))
    assert len(first) == 90
    assert len(second) == 30
    for order, length in ((first, 5), (second, 3)):
        epochs = [order[e : e + length] for e in range(0, len(order), length)]
        assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1
    assert mixture.epochs(120) == pytest.approx([90 / 5, 30 / 3])


def test_equal_parts_have_orders_of_their_own():
    mixture = Mixture([Numbered(50), Numbered(50)], [Fraction(1), Fraction(1)])
    records = batches(mixture, CROPS, 100, seed=0)[0].records["train"]
    assert records[records < 50].tolist() != (records[records >= 50] - 50).tolist()


def test_a_bad_record_gives_way_to_one_of_its_own_part():
    """Or the part with bad records would have a smaller share than it was given."""
    mixture = Mixture([Numbered(100), Numbered(10, bad=tuple(range(1, 7)))], [Fraction(1), Fraction(1)])
    for step in range(5):
        loaded = batches(mixture, CROPS, 20, seed=0)[step]
        assert sum(mixture.place(i)[0] == 0 for i in loaded.records["train"].tolist()) == 10
        assert {i for i in loaded.records["train"].tolist() if i >= 100} <= {100, 107, 108, 109}


def test_a_mixture_of_one_is_the_part():
    assert open_source("0.3*scenes").name(3) == open_source("scenes").name(3)


# --- the records ---


def test_classes_go_by_name():
    mixture = Mixture([Named(4, ("cat", "dog")), Named(6, ("owl", "dog", "ant"))], [Fraction(1), Fraction(1)])
    assert mixture.classes == ("cat", "dog", "owl", "ant")
    assert mixture.vocabulary == Vocabulary(*[("cat", "dog", "owl", "ant")] * 3)
    assert len(mixture) == 10
    for i in range(10):
        part, j = mixture.place(i)
        own = mixture.parts[part]
        for sample in (mixture[i], mixture.stored(i)):
            assert isinstance(sample, Sample | Record)
            name = own.classes[own[j].label]
            assert mixture.classes[sample.label] == name
            assert [mixture.vocabulary.objects[k] for k in sample.objects.labels] == [name]
            assert sample.objects.flags.tolist() == [1]
            assert (mixture.vocabulary.verbs[sample.verb], mixture.vocabulary.nouns[sample.noun]) == (name, name)
        assert mixture.name(i) == own.name(j)
    for i in (-1, 10):
        with pytest.raises(IndexError):
            mixture.place(i)


def test_what_a_part_has_no_name_for_is_unknown():
    """Its number would be another part's class."""
    nameless = Named(3, ("b", "c"))
    nameless.classes, nameless.vocabulary = (), Vocabulary()
    mixture = Mixture([nameless, Named(2, ("a",))], [Fraction(1), Fraction(1)])
    assert mixture.classes == ("a",)
    assert mixture[3].label == 0
    assert (mixture[0].label, mixture[0].verb, mixture[0].noun, mixture[0].objects) == (-1, -1, -1, None)


def test_bad_records_problems_and_notes_are_passed_on():
    bad = Numbered(3, bad=(1,))
    bad.problems, bad.notes = (("x", "y"),), ("z",)
    mixture = Mixture([Numbered(2), bad], [Fraction(1), Fraction(1)])
    with pytest.raises(BadRecord, match="cracked"):
        mixture[3]
    assert (mixture.problems, mixture.notes) == ((("x", "y"),), ("z",))


def test_a_part_that_holds_nothing_is_a_mistake(tmp_path: Path):
    for empty_ok in (False, True):
        with pytest.raises(SpecError, match=f"^folder:{tmp_path} holds no pictures$"):
            open_source(f"0.5*scenes + 0.5*folder:{tmp_path}", empty_ok=empty_ok)
    assert len(open_source(f"1*folder:{tmp_path}", empty_ok=True)) == 0
