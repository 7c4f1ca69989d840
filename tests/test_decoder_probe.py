"""The decoder probe learns to say what is in the features, and where nothing is in them nothing."""

import numpy as np
import optax
import pytest
from oracles import ASKED, BINS, CLASSES, SLOTS, TINY, batches, figure
from probing import trained

from abx.probes.decoder import DecoderProbe, answer
from abx.probes.questions import Language
from abx.probes.tasks import Detection


def learnt(asked, steps, **how):
    tx = optax.adamw(optax.cosine_decay_schedule(5e-3, steps), weight_decay=1e-4)
    return trained(asked.probe, batches(asked.task, **how), steps, tx)[0].model


def needs_a_library(name):
    if name == "detection":
        pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")


@pytest.mark.parametrize("name", ASKED)
def test_an_oracle_is_read(name):
    """Pictures that were never seen before, and with the same probe noise: the probe measures features, not itself."""
    needs_a_library(name)
    asked = ASKED[name]
    model = learnt(asked, asked.steps)
    assert figure(asked, model) > (0.9 if name == "detection" else 0.95)
    assert figure(asked, model, blind=True) < asked.chance


@pytest.mark.parametrize("name", ["classification", "detection"])
def test_noise_teaches_nothing(name):
    needs_a_library(name)
    asked = ASKED[name]
    assert figure(asked, learnt(asked, 60, blind=True), blind=True) < asked.chance


def test_shuffled_labels_are_learnt_by_heart_and_tell_nothing():
    """All of a tiny set is learnt, and chance is all there is on others."""
    asked = ASKED["classification"]
    batch = batches(asked.task, 32)(0)
    batch.questions[:, 1] = np.random.default_rng(1).permutation(batch.questions[:, 1])
    state, metrics = trained(asked.probe, lambda _: batch, 150, optax.adam(5e-3))
    found = answer(state.model, batch.tokens, batch.questions[:, :1], asked.probe.language, (1,))
    assert (found.tokens[:, 0] == batch.questions[:, 1]).all()
    assert metrics["probe/token_top1"] == pytest.approx(1)
    assert figure(asked, state.model) < asked.chance


def test_the_end_may_be_written_in_place_of_an_object():
    """For a task that says EOS after the last object and not "fake" after it."""
    task = Detection(CLASSES, SLOTS, noise=False, bins=BINS)
    probe = DecoderProbe(Language(5, BINS), TINY, smoothing=0.0)
    batch = batches(task, 8)(0)
    model = trained(probe, lambda _: batch, 150, optax.adam(5e-3))[0].model
    found = answer(model, batch.tokens, batch.questions[:, :1], probe.language, task.places)
    single = batch.questions[:, 6] == 1
    assert single.any()
    assert not single.all()
    np.testing.assert_array_equal(found.tokens[:, 5] == 1, single)
