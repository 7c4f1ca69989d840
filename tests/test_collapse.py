"""In 500 steps on drawn scenes the features of what could collapse do not fall together."""

from dataclasses import replace

import jax
import pytest
from small import BACKBONE, DECODER, METHODS, TEXT
from small import DINO_ as SMALL

from abx import train
from abx.augment import GENTLE
from abx.data.layouts import ABMultiCropData, ImageData, MultiCropData, SiLCData
from abx.data.loader import central
from abx.data.specs import open_source
from abx.data.streams import open_sources
from abx.data.texts import Texts
from abx.data.views import MultiCrops, RandomCrops
from abx.methods import AB, SiLC
from abx.optim import EMA, AdamW
from abx.probes import online

STEPS = 500
VIT = replace(BACKBONE, width=48, mlp=96, size=32)
SELF = {"prototypes": 256, "hidden": 96, "bottleneck": 32, "teacher_temperature": 0.04, "center_momentum": 0.9}
MILD = {"global1": GENTLE, "global2": GENTLE, "local": GENTLE}
CROPS = MultiCrops(RandomCrops(2, 32, (0.4, 1.0)), RandomCrops(2, 16, (0.1, 0.4)))
DINO_ = replace(SMALL, backbone=VIT, **SELF, **MILD)
SCENES = Texts(length=24)

CASES = {
    "dino": (DINO_, MultiCropData(batch=32, views=CROPS)),
    "ab_dino": (
        AB(DINO_, decoder=replace(DECODER, width=32), value_embed=32, reward_weight=1.0),
        ABMultiCropData(
            reward_batch=32, value_batch=16, reward_views=CROPS, value_views=RandomCrops(3, 32, (0.1, 0.5))
        ),
    ),
    "silc": (
        SiLC(VIT, text=replace(TEXT, vocab=512, length=24), embed=20, scale=5.0, **SELF, **MILD),
        SiLCData(
            pairs_batch=32,
            images_batch=32,
            pairs_views=RandomCrops(1, 32, (0.5, 1.0)),
            pairs_text=SCENES,
            images_views=CROPS,
        ),
    ),
    "ijepa": (
        replace(METHODS["ijepa"].method, backbone=replace(VIT, patch=4)),
        ImageData(batch=32, views=RandomCrops(1, 32, (0.3, 1.0))),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_features_do_not_collapse(name):
    method, data = CASES[name]
    ds = data.batches(open_sources(data), 0)
    tx = AdamW(lr=1e-3, warmup=0.1, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05, clip=1.0).build(STEPS)
    step = train.make_step(method, tx, EMA(tau=0.01, shape="constant").schedule(STEPS), 0)
    state = train.init(method, tx, 0, ds[0].batch)
    images, _ = central(open_source("scenes:test"), 500, 32, labelled=True)
    for i in range(STEPS):
        state, metrics = step(state, jax.device_put(ds[i].batch))
    found = online.spread(online.tokens_of(state.model.backbone, images)[1])
    assert found["eval/feature_rank"] > 8
    assert found["eval/feature_std"] > 0.3
    if name == "ijepa":
        # Each target differs from the others, and more of it is told than what all have in common.
        assert metrics["ijepa/target_std"] > 0.3
        assert metrics["ijepa/loss"] < 0.9 * metrics["ijepa/chance"]
        return
    # Targets differ between pictures: all together are spread over more prototypes than each is.
    part = "ssl/" if name == "silc" else "reward/"
    own, together = (float(metrics[f"{part}{kind}target_entropy"]) for kind in ("", "mean_"))
    assert together > own + 0.5
    assert metrics[f"{part}loss"] < 0.9 * metrics[f"{part}chance"]
