"""docs/step.md: every shape and number that it gives of a step is that of a step."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pages import CODE, DOCS, rows

from abx import boxes, train
from abx.data import specs
from abx.data.streams import views_per_step
from recipes import load


@pytest.fixture(scope="module")
def step():
    """Shapes and numbers of a step of AB-SimCLR's smoke preset. Nothing is trained."""
    recipe = load("ab_simclr").PRESETS["smoke"]
    method, data = recipe.method, recipe.data
    picture = specs.open_source(data.value)[0].image
    views = data.value_views(picture, np.random.default_rng(0))
    tx, key, shape = recipe.optim.build(recipe.steps), jax.random.key(0), jax.eval_shape
    batch = shape(lambda: jax.tree.map(jnp.asarray, data.blank()))
    state = shape(lambda batch: train.init(method, tx, recipe.seed, batch), batch)
    model, target, carry = state.model, state.target, state.carry
    annotated = shape(method.base.prepare, batch.reward, key)
    encoded = shape(method.base.encode, model.base, annotated)
    p = shape(method.predict, model, target, carry, batch, key)
    q = shape(lambda model, p: model.value.logits(p.phi, p.psi), model, p)
    y = shape(method.value_target, target, p, carry.step)
    decoder, backbone = method.decoder, method.base.backbone
    arrays = {
        "picture": picture,
        "boxes of one picture": views.boxes,
        "views of one picture": views.images,
        "batch.reward.images": batch.reward.images,
        "batch.reward.boxes": batch.reward.boxes,
        "batch.value.images": batch.value.images,
        "batch.value.boxes": batch.value.boxes,
        "actions": p.actions,
        "action tokens": shape(partial(boxes.quantize, bins=decoder.bins), p.actions),
        "annotated views": annotated.images,
        "patches of one view": shape(lambda model, x: model.backbone.embed(x[0, 0]), model, batch.value.images),
        "first views": encoded.features,
        "annotations": encoded.annotations,
        "tokens": p.tokens,
        "target tokens": p.tokens,
        "embedded first views": shape(lambda model, x: model.base.head(x), model, encoded.features),
        "base loss": p.reward_loss,
        "reward": p.reward,
        "phi": p.phi,
        "psi": p.psi,
        "q": q,
        "target phi": p.target_phi,
        "target psi": p.target_psi,
        "target": y,
        "value loss": shape(method.value_loss, model, p, y),
        "loss": shape(method.loss, model, target, carry, batch, key)[0],
    }
    size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    chance = 2 * data.reward_batch - 1
    warm = next(s for s in range(recipe.steps) if recipe.optim.learning_rate(recipe.steps)(s) == recipe.optim.lr)
    numbers = {
        "reward images in a step": data.reward_batch,
        "views of each": data.reward_views.n,
        "value images in a step": data.value_batch,
        "views of each, n": data.value_views.n,
        "views that a step trains on": views_per_step(data),
        "moves from view to view, b n²": p.actions.size // 4,
        "parameters of the online network": size(model),
        "of these the backbone, which is kept": size(model.backbone),
        "SimCLR's head": size(model.base.head),
        "the value head: decoder, its own heads, scale and bias": size(model.value),
        "numbers in the gradient": size(model),
        "numbers that Adam remembers: two for each parameter, and three counters": size(state.opt),
    }
    said = {
        f"[{decoder.low:g}, {decoder.high:g}]",
        f"patches of {backbone.patch} x {backbone.patch} pixels; each patch, {3 * backbone.patch**2} numbers",
        {2: "two", 3: "three", 4: "four"}[backbone.depth] + " blocks and a norm",
        f"{chance} candidates, so a guess costs ln {chance} = {np.log(chance):.2f}",
        f"so there are {len(p.psi)}.",
        {1: "once", 2: "twice"}[decoder.depth] + " over, and their mean",
        f"gamma rises from 0 to {method.gamma} over the first {method.gamma_warmup} steps",
        f"loss = {method.reward_weight:g} x base loss + {method.value_weight:g} x value loss",
        f"rises from {recipe.optim.lr_start:g} to {recipe.optim.lr} over the first {warm} steps",
        f"to {recipe.optim.lr_end:g} at step {recipe.steps}",
        f"Weight decay, {recipe.optim.weight_decay}, is",
        f"tau = {recipe.ema.tau} on",
        f"every {recipe.log.every} steps",
        f"{views_per_step(load('ab_simclr').PRESETS['paper'].data)} views a step",
    }
    assert recipe.ema.shape == "constant"
    assert recipe.optim.weight_decay == recipe.optim.weight_decay_end
    assert size(state.opt) == 2 * size(model) + 3
    return arrays, numbers, said


def test_the_shapes_of_the_step_are_those_of_a_step(step):
    found = {name.strip("`"): (shape, kind) for name, _, shape, kind, _ in rows("step.md", "name")}
    assert found == {name: (" ".join(map(str, x.shape)), str(x.dtype)) for name, x in step[0].items()}


def test_its_axes_are_as_many_as_its_shapes_have_numbers():
    for name, axes, shape, *_ in rows("step.md", "name"):
        assert len(axes.split()) == len(shape.split()), name


def test_its_numbers_are_those_of_a_step(step):
    assert dict(rows("step.md", "number")) == {name: f"{x:,}" for name, x in step[1].items()}


def test_no_other_number_stands_in_its_text(step):
    """A number is in a table that is checked, in code that runs, or in a sentence that is made from the preset."""
    text = re.sub(r"\s+", " ", re.sub(CODE, "", re.sub(r"^\|.*$", "", (DOCS / "step.md").read_text(), flags=re.M)))
    for sentence in step[2]:
        assert sentence in text, sentence
        text = text.replace(sentence, "")
    left = re.findall(r"(?<![\w/-])-?\d[\d.,]*\b", text)
    # A view in its own frame, boxes of a picture, a softmax's sum; and a part of formulas and of words.
    assert set(left) <= {"0", "1", "0, 0, 1, 1"} | {"0,", "1,", "1."}, left
