"""Zero-shot classification: the towers that a run trained, whatever wraps them, and names made sentences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import BACKBONE, METHODS, ab

from abx.data.schemes.scenes import Scenes
from abx.data.sources import SpecError
from abx.data.texts import Texts
from abx.methods import CLIP, SLIP
from abx.methods.siglip import SigLIP
from abx.nn import TextConfig, unit
from abx.probes import towers as module
from abx.probes.towers import Towers, towers_of
from abx.probes.zeroshot import SENTENCES, ZeroShot, nameless, spoken

TEXT = TextConfig(vocab=512, length=12, width=24, depth=1, heads=2, mlp=48)
SPOKEN = CLIP(BACKBONE, TEXT, embed=20)
TEXTS = Texts(length=12)
CLASSES = Scenes.classes


@pytest.fixture(scope="module")
def towers() -> Towers:
    found = towers_of(SPOKEN.init(jax.random.key(0))[0], TEXTS)
    assert found is not None
    return found


def pooled_at(towers: Towers, embeddings: np.ndarray) -> np.ndarray:
    """Features that the head puts at these embeddings."""
    return embeddings @ np.linalg.pinv(np.asarray(towers.clip.head.weight))


# Whose towers


WITH_TEXT = ("clip", "siglip", "clip_aug", "slip", "silc", "ab_clip", "ab_siglip")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_towers_or_has_not(name):
    method = METHODS[name].method
    model = jax.eval_shape(lambda: method.init(jax.random.key(0))[0])
    assert (towers_of(model, TEXTS) is not None) == (name in WITH_TEXT)
    assert towers_of(model, None) is None


@pytest.mark.parametrize(
    "method", [SigLIP(BACKBONE, TEXT, 20), SLIP(BACKBONE, TEXT, 20, ssl_hidden=16, ssl_embed=8), ab(SPOKEN)]
)
def test_what_wraps_the_towers_changes_nothing(method):
    """The embedding of pictures and texts is what the method's own CLIP part computes."""
    model, _ = method.init(jax.random.key(1))
    clip = getattr(model, "clip", getattr(model, "base", model))
    found = towers_of(model, TEXTS)
    features = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    np.testing.assert_allclose(found.pictures(features), unit(clip.head(jnp.asarray(features))), atol=1e-6)
    tokens, _ = found.tokens(["a field", "two red rings"])
    alone = np.stack([np.asarray(unit(clip.text_head(clip.text(row)))) for row in tokens])
    np.testing.assert_allclose(found.sentences(tokens), alone, atol=1e-5)


def test_many_texts_are_embedded_as_few(towers, monkeypatch):
    sentences = [f"a {name} of {other}" for name in CLASSES for other in CLASSES]
    tokens, places = towers.tokens(sentences)
    assert places.tolist() == list(range(144))
    whole = towers.sentences(tokens)
    assert len(np.unique(whole.round(5), axis=0)) == 144
    monkeypatch.setattr(module, "CHUNK", 50)
    np.testing.assert_allclose(towers.sentences(tokens), whole, atol=1e-6)
    np.testing.assert_allclose(towers.sentences(tokens[[7, 143]]), whole[[7, 143]], atol=1e-6)


# What is said of a class


def test_a_class_is_the_mean_of_what_is_said_of_it(towers):
    found = ZeroShot().classifier(towers, CLASSES)
    for i in (0, 5):
        tokens, _ = towers.tokens([s.replace("{}", CLASSES[i]) for s in SENTENCES])
        mean = towers.sentences(tokens).mean(0)
        np.testing.assert_allclose(found[i], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_a_run_that_learnt_from_lists_is_asked_with_bare_names(towers):
    lists = towers._replace(texts=Texts("boxes", length=12))
    bare = ZeroShot(("{}",)).classifier(towers, CLASSES)
    np.testing.assert_array_equal(ZeroShot().classifier(lists, CLASSES), bare)
    assert not np.allclose(ZeroShot().classifier(towers, CLASSES), bare)
    said = ZeroShot(("no {} here",))
    np.testing.assert_array_equal(said.classifier(lists, CLASSES), said.classifier(towers, CLASSES))


def test_names_are_said_as_words():
    assert spoken("golden_retriever") == "golden retriever"
    assert spoken("tench, Tinca tinca") == "tench"
    assert nameless(CLASSES) is None
    assert nameless(("abbey", "airplane_cabin", "3D printer")) is None


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ((), "the data has none"),
        (("n01440764", "n01443537", "dog"), "2 of 3 have none, such as 'n01440764'"),
        (("0", "1"), "2 of 2 have none, such as '0'"),
    ],
)
def test_names_that_are_no_words_are_refused(towers, classes, said):
    with pytest.raises(SpecError, match=said):
        ZeroShot().classifier(towers, classes)


def test_templates_without_a_place_are_refused():
    (sentence,) = ZeroShot(("a photo of a {}.", "a photo")).problems()
    assert sentence.startswith("templates must have one {}")
    assert "'a photo'" in sentence
    assert ZeroShot().problems() == []
    assert all(template.count("{}") == 1 for template in SENTENCES)


# Figures


def test_pictures_at_their_class_are_all_right_and_at_the_next_all_wrong(towers):
    classes = ZeroShot().classifier(towers, CLASSES)
    labels = np.array([0, 3, 3, 11, 5, -1])
    at = pooled_at(towers, classes[labels])
    found = ZeroShot().results(towers, at, labels, CLASSES)
    assert found == {"top1": 1.0, "top5": 1.0, "mean_per_class": 1.0, "n_test": 5}
    # One of the two of class 3 elsewhere: 4 of 5 pictures, and 3.5 of 4 classes.
    labels[2] = 7
    found = ZeroShot().results(towers, at, labels, CLASSES)
    assert (found["top1"], found["n_test"]) == (0.8, 5)
    labels[2] = 3
    at[2] = at[0]
    found = ZeroShot().results(towers, at, labels, CLASSES)
    assert (found["top1"], found["mean_per_class"]) == (0.8, 0.875)


def test_the_first_five_of_five_say_nothing(towers):
    found = ZeroShot().results(towers, np.ones((3, 32), np.float32), np.arange(3), CLASSES[:5])
    assert found.keys() == {"top1", "mean_per_class", "n_test"}


def test_features_that_say_nothing_score_chance(towers):
    labels = np.repeat(np.arange(12), 50)
    noise = np.random.default_rng(0).standard_normal((600, 32)).astype(np.float32)
    found = ZeroShot().results(towers, noise, labels, CLASSES)
    assert found["top1"] == pytest.approx(1 / 12, abs=0.05)
    assert found["top5"] == pytest.approx(5 / 12, abs=0.08)
    same = ZeroShot().results(towers, np.ones((600, 32), np.float32), labels, CLASSES)
    assert same["top1"] == pytest.approx(1 / 12)


def test_no_labels_is_one_sentence(towers):
    with pytest.raises(SpecError, match="needs pictures with a class"):
        ZeroShot().results(towers, np.zeros((2, 32), np.float32), np.array([-1, -1]), CLASSES)
