"""What decoder probes are asked: questions as written by hand, answers read back, data that does not fit, names."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import Numbered

from abx.data.sources import Samples
from abx.data.specs import check_spec, open_source
from abx.probes import metrics
from abx.probes.named import ALONE, PUBLISHED, SCENES, TaskError, parse
from abx.probes.questions import EOS, EOS_WEIGHT, PAD, PROMPT, Answers, Facts, Language, Task, facts_of, renumbered
from abx.probes.tasks import (
    CLEVR_COUNTS,
    CLEVR_DISTANCES,
    SCENES_DISTANCES,
    Action,
    Classification,
    Count,
    Detection,
    Distance,
    ObjectClass,
)
from abx.types import CROWD, DIFFICULT, TRUNCATED, Objects, Sample, Vocabulary

PLACE, WORD = 3, 3 + 1024
"""Ids of the first coordinate and, with 1,024 of these, of the first word."""
PIXELS = np.zeros((2, 2, 3), np.uint8)
SEVERAL = Objects(
    np.array([[0, 0, 0.5, 1], [0.25, 0.5, 1, 0.75], [0, 0, 1, 1], [0.1, 0.1, 0.2, 0.2]], np.float32),
    np.array([2, 0, 1, 1]),
    np.array([0, TRUNCATED, CROWD, DIFFICULT], np.uint8),
)
NONE = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def given_facts(*facts: Facts, **names) -> Samples:
    words = Vocabulary(names.get("objects", ()), names.get("verbs", ()), names.get("nouns", ()))
    return Samples([Sample(PIXELS, *each) for each in facts], names.get("classes", ()), words)


def right(task: Task, facts: list[Facts], words: int) -> Answers:
    """The answers that stand in the questions, with certainty."""
    questions = task.questions(facts, None)
    tokens = questions.tokens[:, task.prompt : max(task.places) + 1]
    scores = np.eye(words, dtype=np.float32)[questions.tokens[:, list(task.places)] - WORD]
    return Answers(tokens, scores)


# --- the language ---


def test_tokens_of_a_language_follow_one_another():
    language = Language(words=3, bins=10)
    assert language.place(np.array([0.0, 1.0, -0.5, 2.0])).tolist() == [3, 12, 3, 12]
    assert [language.word(i) for i in range(3)] == [13, 14, 15]
    assert language.size == 16
    with pytest.raises(IndexError):
        language.word(3)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(2, 2000))
def test_coordinates_come_back_to_half_a_bin(coordinates, bins):
    language = Language(words=1, bins=bins)
    wanted = np.array(coordinates)
    ids = language.place(wanted)
    assert ids.dtype == np.int32
    assert ((ids >= language.first_place) & (ids < language.first_word)).all()
    assert np.abs(language.coordinate(ids) - wanted).max() <= 0.5 / (bins - 1) + 1e-12


# --- questions of one word ---


def test_classification_asks_of_pictures_with_a_class():
    task = Classification().over(given_facts(classes=("cat", "dog")), ())
    questions = task.questions([Facts(label=1), Facts(), Facts(label=0)], None)
    assert questions.picture.tolist() == [0, 2]
    assert questions.tokens.tolist() == [[PROMPT, WORD + 1, EOS], [PROMPT, WORD, EOS]]
    np.testing.assert_allclose(questions.weights, [[0, 1, EOS_WEIGHT]] * 2)
    assert task.language(given_facts(classes=("cat", "dog"))).size == WORD + 2


def test_the_figures_are_those_of_pictures_that_were_asked_about():
    task = Classification(classes=tuple("abcdef"))
    facts = [Facts(label=0), Facts(), Facts(label=5), Facts(label=5)]
    wrong = right(task, facts, 6)
    wrong.scores[0] = np.arange(6)[::-1] == 1  # the first picture is called b, all others come level
    found = task.metrics(facts, wrong)
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["mean_per_class"] == pytest.approx(1 / 2)
    assert found["top5"] == pytest.approx((4 / 5 + 2) / 3)
    assert found["n_test"] == 3


def test_clevr_counts_from_three():
    task = Count(CLEVR_COUNTS)
    questions = task.questions([Facts(count=3), Facts(count=10), Facts()], None)
    assert questions.tokens[:, 1].tolist() == [WORD, WORD + 7]
    assert task.language(given_facts()).words == 8


def test_counts_are_those_of_the_training_pictures():
    train = [Facts(count=c) for c in (4, 1, 4, -1, 9)]
    task = Count().over(given_facts(*train), train)
    assert task.counts == (1, 4, 9)
    assert task.questions(train, None).tokens[:, 1].tolist() == [WORD + 1, WORD, WORD + 1, WORD + 2]
    assert task.lacking(train, [Facts(count=2)]) == [
        "none of the test pictures that are used has a known number of objects",
        "there are test pictures with 2 objects, and the answers are 1, 4, 9",
    ]


@settings(deadline=None)
@example(0.0)
@example(8.5)
@example(100.0)
@given(st.floats(0, 200))
def test_a_distance_is_in_the_last_class_whose_threshold_is_below_it(distance):
    below = [m for m, threshold in enumerate(CLEVR_DISTANCES) if threshold < distance]
    wanted = min(below[-1] if below else 0, 5)
    found = Distance(CLEVR_DISTANCES).questions([Facts(distance=distance)], None)
    assert found.tokens[0, 1] == WORD + wanted


def test_distances_of_data_without_thresholds_of_its_own_make_six_classes_of_one_size():
    facts = [Facts(distance=d) for d in np.linspace(3, 700, 600)]
    task = Distance().over(given_facts(*facts), facts)
    assert np.bincount(task.questions(facts, None).tokens[:, 1] - WORD).tolist() == [100] * 6
    assert task.language(given_facts(*facts)).words == 6
    alike = [Facts(distance=2.0)] * 9
    assert "the same in all" in Distance().over(given_facts(*alike), alike).lacking(alike, alike)[0]


def test_scenes_have_six_distances_of_about_one_size():
    source = open_source("scenes")
    task = Distance().over(source, ())
    assert task.thresholds == SCENES_DISTANCES
    facts = [facts_of(source.stored(i)) for i in range(600)]
    shares = np.bincount(task.questions(facts, None).tokens[:, 1] - WORD) / 600
    assert len(shares) == 6
    assert shares.min() > 0.11, shares
    assert shares.max() < 0.23, shares


def test_an_action_is_a_verb_and_then_a_noun():
    source = given_facts(verbs=("cut", "wash"), nouns=("knife", "pan", "rice"))
    task = Action().over(source, ())
    facts = [Facts(verb=1, noun=2), Facts(verb=0), Facts(noun=0), Facts(verb=0, noun=0)]
    questions = task.questions(facts, None)
    assert questions.picture.tolist() == [0, 3]
    assert questions.tokens.tolist() == [[PROMPT, WORD + 1, WORD + 4, EOS], [PROMPT, WORD, WORD + 2, EOS]]
    assert task.language(source).words == 5
    answers = right(task, facts, 5)
    assert task.metrics(facts, answers) == {"verb_top1": 1, "noun_top1": 1, "action_top1": 1, "n_test": 2}
    answers.scores[0, 1] = np.array([9, 9, 0, 1, 0])  # a verb is no noun, however probable
    answers.scores[1, 0] = np.array([0, 1, 9, 9, 9])
    assert task.metrics(facts, answers) == {"verb_top1": 0.5, "noun_top1": 0.5, "action_top1": 0, "n_test": 2}


# --- questions with boxes ---


def test_objects_are_asked_about_one_by_one():
    task = ObjectClass(classes=("a", "b", "c"))
    facts = [Facts(), Facts(objects=NONE), Facts(objects=SEVERAL), Facts(objects=SEVERAL._replace(flags=None))]
    questions = task.questions(facts, None)
    assert questions.picture.tolist() == [2] * 2 + [3] * 4
    assert questions.tokens[0].tolist() == [PROMPT, PLACE, PLACE, PLACE + 512, PLACE + 1023, WORD + 2, EOS]
    assert questions.tokens[1, 5] == WORD
    np.testing.assert_allclose(questions.weights, [[0, 0, 0, 0, 0, 1, EOS_WEIGHT]] * 6)
    assert task.metrics(facts, right(task, facts, 3)) == {"top1": 1, "mean_per_class": 1, "n_test": 6}


@st.composite
def pictures(draw) -> list[Facts]:
    """Pictures of no to twelve objects of three classes, of which nothing is empty and some are passed over."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = []
    for count in draw(st.lists(st.integers(0, 12), min_size=1, max_size=4)):
        corner = rng.random((count, 2)) * 0.8
        boxes = np.concatenate([corner, corner + 0.01 + rng.random((count, 2)) * 0.19], 1).astype(np.float32)
        flags = rng.choice(np.array([0, 0, 0, CROWD, DIFFICULT, TRUNCATED], np.uint8), count)
        found.append(Facts(objects=Objects(boxes, rng.integers(0, 3, count), flags)))
    return found


@settings(max_examples=50, deadline=None)
@given(pictures(), st.booleans(), st.integers(1, 15), st.integers(0, 9))
def test_detection_writes_every_object_and_fills_the_rest(facts, noise, most, seed):
    task = Detection(classes=("a", "b", "c"), max_objects=most, noise=noise)
    plain, (picture, tokens, weights) = task.questions(facts, None), task.questions(facts, np.random.default_rng(seed))
    assert picture.tolist() == plain.picture.tolist() == list(range(len(facts)))
    assert tokens.shape == weights.shape == plain.tokens.shape == plain.weights.shape == (len(facts), 5 * most + 2)
    assert (tokens[:, 0] == PROMPT).all()
    assert not weights[:, 0].any()
    assert not weights[tokens == PAD].any()
    np.testing.assert_allclose(weights[tokens == EOS], EOS_WEIGHT)
    assert (plain.tokens[:, 1:] == PAD).all()
    assert not plain.weights.any()
    for each, row, weight in zip(facts, tokens, weights, strict=True):
        asked = (each.objects.flags & (CROWD | DIFFICULT)) == 0
        wanted = min(int(asked.sum()), most)
        said = most if noise else wanted
        assert row[1 + 5 * said :].tolist() == [EOS] + [PAD] * (5 * (most - said))
        spoken, counted = row[1 : 1 + 5 * said].reshape(-1, 5), weight[1 : 1 + 5 * said].reshape(-1, 5)
        assert ((spoken[:, :4] >= PLACE) & (spoken[:, :4] < WORD)).all()
        assert (spoken[wanted:, 4] == WORD + 3).all()
        assert (spoken[:wanted, 4] < WORD + 3).all()
        assert counted[:wanted].all()
        assert counted[:, 4].all()
        assert not counted[wanted:, :4].any()
        # The objects are those of the picture, the largest of them, each once.
        areas = np.prod(each.objects.boxes[asked, 2:] - each.objects.boxes[asked, :2], 1)
        kept = np.flatnonzero(asked)[np.argsort(-areas, kind="stable")[:most]]
        assert sorted(spoken[:wanted].tolist()) == sorted(ids(each.objects, kept).tolist())


def ids(objects: Objects, which: np.ndarray) -> np.ndarray:
    """An object's five tokens, of three classes and "fake"."""
    return np.column_stack([Language(4).place(objects.boxes[which]), objects.labels[which] + WORD])


@settings(max_examples=20, deadline=None)
@given(pictures(), st.integers(0, 9))
def test_detection_reads_what_it_wrote(facts, seed):
    task = Detection(classes=("a", "b", "c"), max_objects=12)
    tokens = task.questions(facts, np.random.default_rng(seed)).tokens
    scores = np.eye(4, dtype=np.float32)[tokens[:, list(task.places)] - WORD]
    for each, found in zip(facts, task.read(Answers(tokens[:, 1:-1], scores)), strict=True):
        asked = np.flatnonzero((each.objects.flags & (CROWD | DIFFICULT)) == 0)
        real = Objects(found.boxes[found.sure], found.labels[found.sure])
        assert (found.scores[found.sure] == 1).all()
        said, wanted = ids(real, np.arange(len(real.boxes))), ids(each.objects, asked)
        one, other = np.lexsort(said.T), np.lexsort(wanted.T)
        assert said[one].tolist() == wanted[other].tolist()
        apart = np.abs(real.boxes[one] - each.objects.boxes[asked][other])
        assert apart.max(initial=0) <= 0.5 / 1023 + 1e-6


def test_detection_stops_reading_where_no_coordinate_stands():
    task = Detection(classes=("a",), max_objects=3, bins=10)
    tokens = np.array([[3, 3, 8, 8, 13, EOS, 3, 8, 8, 13, 3, 3, 12, 12, 13]])
    (found,) = task.read(Answers(tokens, np.full((1, 3, 2), 0.5)))
    assert found.boxes.shape == (1, 4)
    assert not found.sure.any()


def test_objects_stand_in_another_order_at_every_draw():
    task, rng = Detection(classes=("a", "b", "c")), np.random.default_rng(0)
    first, second = (task.questions([Facts(objects=SEVERAL)], rng).tokens for _ in range(2))
    again = task.questions([Facts(objects=SEVERAL)], np.random.default_rng(0)).tokens
    assert (first == again).all()
    assert (first != second).any()
    orders = {tuple(task.questions([Facts(objects=SEVERAL)], rng).tokens[0, [5, 10]]) for _ in range(20)}
    assert orders == {(WORD, WORD + 2), (WORD + 2, WORD)}


def test_fakes_name_objects_again_or_lie_anywhere():
    one = Objects(np.array([[0.3, 0.4, 0.5, 0.8]], np.float32), np.array([0]))
    task, rng = Detection(classes=("a",)), np.random.default_rng(0)
    rows = [task.questions([Facts(objects=one)], rng).tokens[0, 6:-1].reshape(-1, 5) for _ in range(100)]
    boxes = Language(2).coordinate(np.concatenate(rows)[:, :4])
    sizes = boxes[:, 2:] - boxes[:, :2]
    assert (sizes >= 0).all()
    again = (np.abs(boxes - one.boxes) <= 0.1 * np.array([0.2, 0.4, 0.2, 0.4]) + 1e-3).all(1)
    moved = (np.abs(sizes - [0.2, 0.4]) <= 2e-3).all(1) & ~again
    # As many again as a die says, half on average; of the others half have the size.
    assert again.mean() == pytest.approx(0.5, abs=0.1)
    assert moved.mean() == pytest.approx(0.25, abs=0.07)
    without = task.questions([Facts(objects=NONE)], rng).tokens[0, 1:-1].reshape(-1, 5)
    assert len(np.unique(without[:, 0])) > 25


def test_perfect_answers_are_perfect():
    pytest.importorskip("faster_coco_eval", reason="average precision needs faster-coco-eval")
    task = Detection(classes=("a", "b", "c"))
    facts = [Facts(objects=SEVERAL), Facts(objects=NONE), Facts()]
    tokens = task.questions(facts, np.random.default_rng(0)).tokens
    scores = np.eye(4, dtype=np.float32)[tokens[:, list(task.places)] - WORD]
    found = task.metrics(facts, Answers(tokens[:, 1:-1], scores))
    # All but the rounding to places: every edge of the smaller box, 0.75 high and 0.25 wide, moved by half a bin.
    assert 1 - (1 / 0.75 + 1 / 0.25) / 1023 <= found.pop("iou") <= 1
    assert found == {"ap": 1, "ap50": 1, "f1": 1, "n_test": 2}


# --- data that does not fit ---


def test_test_classes_go_by_name():
    train = given_facts(classes=("cat", "dog", "owl"), objects=("car", "bus"), verbs=("cut",), nouns=("pan", "pot"))
    test = given_facts(classes=("owl", "cat"), objects=("bus", "tram"), verbs=("cut", "wash"), nouns=("pot", "pan"))
    facts = [Facts(label=0, objects=Objects(SEVERAL.boxes[:2], np.array([0, 1])), verb=1, noun=1), Facts(label=1)]
    (first, second) = renumbered(facts, test, train)
    assert (first.label, second.label) == (2, 0)
    assert first.objects.labels.tolist() == [1, -1]
    assert (first.verb, first.noun) == (-1, 0)
    assert renumbered(facts, test, test) == facts


LABELLED = given_facts(Facts(label=0), Facts(label=1), classes=("cat", "dog"))
BOXED = given_facts(Facts(objects=SEVERAL), objects=("a", "b", "c"))


@pytest.mark.parametrize(
    ("task", "train", "test", "said"),
    [
        (Classification(), LABELLED, LABELLED, None),
        (Classification(), LABELLED, BOXED, "no picture of the test data has a class (1 of 1 looked at)"),
        (Classification(), BOXED, LABELLED, "no picture of the training data has a class"),
        (Classification(), LABELLED, given_facts(Facts(label=0), classes=("emu",)), "does not have: emu"),
        (ObjectClass(), BOXED, BOXED, None),
        (ObjectClass(), LABELLED, BOXED, "no picture of the training data has a box with a class"),
        (ObjectClass(), BOXED, given_facts(Facts(objects=SEVERAL), objects=("a", "b", "d")), "does not have: d"),
        (Detection(), BOXED, LABELLED, "no picture of the test data has a box"),
        (Count(), LABELLED, LABELLED, "no picture of the test data has a number of objects"),
        (Distance(), BOXED, BOXED, "no picture of the training data has a distance of the nearest object"),
        (Action(), LABELLED, LABELLED, "no picture of the training data has a verb and a noun"),
    ],
)
def test_sources_that_do_not_fit(task, train, test, said):
    found = task.check(train, test)
    assert any(said in each for each in found) if said else found == []


def test_a_missing_library_is_told_before_anything_is_computed(monkeypatch):
    def absent() -> None:
        raise metrics.MissingLibrary("install it")

    monkeypatch.setattr(metrics, "coco_library", absent)
    assert Detection().check(BOXED, BOXED) == ["install it"]


def test_a_record_that_cannot_be_read_is_no_reason():
    assert Classification().check(Numbered(9, bad=tuple(range(8))), Numbered(9)) == []


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ([0, 1, 2], [0], None),
        ([0, 1, 1], [0], "of 1 of the 3 classes no training picture is used: owl"),
        ([1, 1], [1], "the class is the same in all of the training pictures"),
        ([], [1], "none of the training pictures that are used has a known class"),
        ([0, 1, 2], [], "none of the test pictures that are used has a known class"),
    ],
)
def test_pictures_that_do_not_do(train, test, said):
    task = Classification(classes=("cat", "dog", "owl"))
    found = task.lacking(*([Facts(label=label) for label in each] for each in (train, test)))
    assert any(said in each for each in found) if said else found == []


def test_few_objects_of_many_classes_will_do():
    few = [Facts(objects=Objects(SEVERAL.boxes[:2], np.array([0, 1])))]
    names = tuple(map(str, range(80)))
    assert ObjectClass(classes=names).lacking(few, few) == []
    assert Detection(classes=names).lacking(few, few) == []
    assert Detection(classes=names).lacking([Facts(objects=NONE)], few) == [
        "none of the training pictures that are used has a known box with a class"
    ]


def test_classes_without_names_go_by_number():
    facts = [Facts(label=2, verb=0, noun=3, objects=SEVERAL)]
    assert Classification().over(given_facts(*facts), facts).classes == ("0", "1", "2")
    assert Action().over(given_facts(*facts), facts).nouns == ("0", "1", "2", "3")


@pytest.mark.parametrize("task", ALONE.values(), ids=lambda task: task.name)
def test_a_task_that_was_told_nothing_says_so(task):
    assert isinstance(task, Task)
    facts = [Facts(label=0, objects=SEVERAL, count=3, distance=2.0, verb=0, noun=0)]
    with pytest.raises(ValueError, match="over"):
        task.questions(facts, np.random.default_rng(0))


# --- names ---


@pytest.mark.parametrize("name", SCENES)
def test_scenes_have_every_task(name):
    task, train, test = parse(name)
    if task.name == "detection":
        pytest.importorskip("faster_coco_eval", reason="average precision needs faster-coco-eval")
    sources = open_source(train), open_source(test)
    assert task.check(*sources) == []
    facts = [facts_of(sources[0].stored(i)) for i in range(60)]
    task = task.over(sources[0], facts)
    assert task.lacking(facts, facts) == []
    questions = task.questions(facts, np.random.default_rng(0))
    assert questions.tokens.max() < task.language(sources[0]).size
    assert task.over(sources[0], ()).language(sources[0]) == task.language(sources[0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_is_named_by_its_folder(name, tmp_path):
    _, train, test = parse(f"{name}:{tmp_path}/")
    (tmp_path / "train-00000.arrayrecord").touch()
    (tmp_path / f"{PUBLISHED[name].test}-00000.arrayrecord").touch()
    assert train == f"arrayrecord:{tmp_path}/train-*.arrayrecord"
    assert (check_spec(train), check_spec(test)) == (None, None)


def test_a_task_alone_has_no_data():
    assert parse("classification") == (Classification(), "", "")
    assert parse("scenes-count") == (Count(CLEVR_COUNTS), "scenes", "scenes:test")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("food11:/data", "did you mean food101:/data?"),
        ("Clevr_Count:/data", "did you mean clevr-count:/data?"),
        ("food101", "food101:DIR"),
        ("food101:", "food101:DIR"),
        ("scenes-count:/data", "takes no folder: write scenes-count"),
        ("count:/data", "--train and --test"),
        ("nonsense", "there are classification, objects"),
        ("", "there are classification"),
    ],
)
def test_a_name_that_is_none(text, said):
    with pytest.raises(TaskError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_no_distance():
    assert Distance(CLEVR_DISTANCES).questions([Facts(distance=math.nan)], None).tokens.shape == (0, 3)
