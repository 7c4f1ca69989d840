"""What every method promises beside its equalities (tests/test_train.py): protocols, gradients, settings."""

import dataclasses
import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from small import METHODS, VARIANTS, program

from abx.experiment.saved import from_json, to_json
from abx.methods import Method, Reward

ALL = METHODS | VARIANTS
BASES = ("clip", "siglip", "simclr", "dino")


def settings(config, path=()):
    """Every number and pair of numbers of a tree of dataclasses, by its path."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, (*path, field.name))
        elif isinstance(value, int | float | tuple) and not isinstance(value, bool):
            yield (*path, field.name), value


def changed(config, path, value):
    name, *rest = path
    return replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


def nonsense(value):
    return {int: -1, float: math.nan, tuple: (math.nan, math.nan)}[type(value)]


def named(method):
    """The fields that the sentences about a method begin with."""
    return [sentence.split()[0] for sentence in method.problems()]


@pytest.mark.parametrize("name", METHODS)
def test_protocols(name):
    method = METHODS[name].method
    assert isinstance(method, Method)
    assert isinstance(method, Reward) == (name in BASES)


@pytest.mark.parametrize("name", ALL)
def test_what_is_differentiated(name):
    """The online network alone: to the target network and to what is carried along no gradient ever flows."""
    p = program(name)
    state = p.state()

    @jax.jit
    def gradients(target, carry):
        loss = lambda t, c: p.case.method.loss(state.model, t, c, p.batch, jax.random.key(0))[0]
        return jax.grad(loss, (0, 1), allow_int=True)(target, carry)

    for leaf in jax.tree.leaves(gradients(state.target, state.carry)):
        assert leaf.dtype == jax.dtypes.float0 or not np.asarray(leaf).any()


# A range is one sentence about its two ends, which begins with the first.
ENDS = {"high": "low"}


@pytest.mark.parametrize("name", ALL)
def test_every_number_that_cannot_be_is_named(name):
    method = ALL[name].method
    assert method.problems() == []
    for path, value in settings(method):
        *parts, last = path
        sentences = named(changed(method, path, nonsense(value)))
        assert ".".join([*parts, ENDS.get(last, last)]) in sentences, path


@pytest.mark.parametrize("name", ALL)
def test_problems_are_named_all_at_once(name):
    """One of every part, and all of the method's own. I-JEPA's blocks can only be judged on a grid that can be."""
    wrong, wanted, seen = ALL[name].method, set(), set()
    for path, value in settings(wrong):
        *parts, last = path
        part = ".".join(parts)
        if last in ENDS or part == "masks" or (part and part in seen):
            continue
        seen.add(part)
        wrong = changed(wrong, path, nonsense(value))
        wanted.add(".".join(path))
    sentences = named(wrong)
    assert wanted <= set(sentences)
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize("name", ALL)
def test_a_method_is_a_value(name):
    """Frozen, hashable, and the same again after a trip through a file."""
    method = ALL[name].method
    again = from_json(json.loads(json.dumps(to_json(method))))
    assert again == method
    assert hash(again) == hash(method)
    assert repr(again) == repr(method)
    path, value = next(iter(settings(method)))
    assert changed(method, path, value + 1) != method
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(method, dataclasses.fields(method)[0].name, None)
