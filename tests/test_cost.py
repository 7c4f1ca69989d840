"""A step's FLOPs against METHODS section 6, and what they say about more views and more annotations."""

from dataclasses import replace

import pytest

from abx.analysis.cost import ab_flops, simclr_flops, step_flops
from abx.methods import AB, SimCLR

PAPER = AB(SimCLR())


def test_published_costs():
    """GFLOP per view at 224 pixels and the paper's batches: SimCLR 27.6, AB over SimCLR with 2048 annotations 35.9."""
    assert simclr_flops(SimCLR(), 4096, 224) / 8192 / 1e9 == pytest.approx(27.6, rel=5e-3)
    assert ab_flops(PAPER, 2048, 1024, 4, 224, 224) / 8192 / 1e9 == pytest.approx(35.9, rel=5e-3)


def test_step_flops_finds_the_sizes_of_each_method():
    assert step_flops(SimCLR(), {"train": 8}, {"train": 224}, 2) == simclr_flops(SimCLR(), 8, 224)
    sizes = {"reward": 224, "value": 96}
    assert step_flops(PAPER, {"reward": 8, "value": 4}, sizes, 4) == ab_flops(PAPER, 8, 4, 4, 224, 96)


def test_a_method_that_is_not_counted_has_no_cost():
    class Other:
        def init(self, key, batch=None): ...
        def loss(self, model, target, carry, batch, key, *, axis=None): ...
        def problems(self): ...

    assert step_flops(Other(), {"train": 8}, {"train": 224}, 2) is None


def test_pairs_are_cheap():
    """n² pairs: with twice the views of half the images, at 2048 annotations, a step costs less than a tenth more."""
    assert ab_flops(PAPER, 2048, 512, 8, 224, 224) < 1.1 * ab_flops(PAPER, 2048, 1024, 4, 224, 224)


def test_more_of_anything_costs_more():
    base = ab_flops(PAPER, 64, 32, 4, 224, 224)
    assert ab_flops(PAPER, 128, 32, 4, 224, 224) > base < ab_flops(PAPER, 64, 64, 4, 224, 224)
    assert ab_flops(PAPER, 64, 32, 8, 224, 224) > base < ab_flops(replace(PAPER, value_embed=512), 64, 32, 4, 224, 224)
    assert ab_flops(PAPER, 64, 32, 4, 96, 224) < base > ab_flops(PAPER, 64, 32, 4, 224, 96)
