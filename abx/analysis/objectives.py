"""What a method trains on, judged: has its loss come away from guessing, and do its targets tell pictures apart?

Every pair of metrics X/loss and X/chance is judged alike, whatever the method.
"""

import math
from collections.abc import Iterator

from abx.analysis.figures import EARLY, Facts, Figures, Finding, Mark

LOSSES = {
    "reward": "the reward loss",
    "ssl": "the self-supervised loss",
    "mae": "the error of the pixels of removed patches",
    "ijepa": "the error of the hidden tokens' features",
}
"""What X of X/loss and X/chance is called; others by their name."""


def _trained(f: Figures, facts: Facts) -> Iterator[str]:
    """Each X of which there is X/loss and X/chance. (value/chance is a share, not a loss: see `_value`.)"""
    for name in f.names:
        kind, _, what = name.rpartition("/")
        if what == "loss" and kind not in ("value", *facts.off) and f.usable(name, f"{kind}/chance"):
            yield kind


def losses(f: Figures, facts: Facts) -> Iterator[Finding]:
    """How far each loss has come, from what guessing gives to the least that it can be."""
    for kind in _trained(f, facts):
        loss, chance = f.late(f"{kind}/loss"), f.late(f"{kind}/chance")
        text = f"{LOSSES.get(kind, f'the loss of {kind}')} is {loss:.2f}; guessing gives {chance:.2f}"
        least, names = 0.0, f"{kind}/loss, {kind}/chance"
        if f.usable(f"{kind}/target_entropy"):
            # Its targets are distributions: naming them exactly still costs their entropy.
            least = f.late(f"{kind}/target_entropy")
            text, names = f"{text}, saying exactly the targets {least:.2f}", f"{names}, {kind}/target_entropy"
        text += f" [{names}]"
        # Where no target says more than guessing does there is no way to go.
        come = (chance - loss) / (chance - least) if chance - least > 0.01 * chance else 0.0
        if come > 0.2:
            yield Finding("good", text, learns=not _alike(f, kind))
        elif come > 0.03:
            yield Finding("watch", text + ": it falls, but has not come far", "more --steps; --optim.lr")
        else:
            mark: Mark = "bad" if facts.step > EARLY else "watch"
            yield Finding(mark, text + ": no better than guessing", _where_to_look(kind, facts))


def _where_to_look(kind: str, facts: Facts) -> str:
    """The views first: that there is nothing to be learnt from them, no other setting mends."""
    where, asked = "views.png", "do two crops of a picture share anything?"
    if kind in ("mae", "ijepa"):
        asked = "is there anything to see?"
    elif kind == "reward" and any(flag.endswith("text.kind") for flag in facts.flags):
        where, asked = "abx data inspect of the pictures with texts", "is what they say to be seen?"
    return f"{where}: {asked} then --optim.lr, and the scale of the crops: {_scales(kind, facts)}".removesuffix(": ")


def _scales(kind: str, facts: Facts) -> str:
    """The flags for the crops' scale that matter to this loss."""
    others = ("--data.value-views", "--data.pairs-views" if kind == "ssl" else "--data.images-views")
    found = [x for x in facts.flags if x.startswith("--data.") and x.endswith(".scale") and not x.startswith(others)]
    return ", ".join(found)


def _alike(f: Figures, kind: str) -> bool:
    """Whether all pictures have the same target, so that a loss may fall without anything being learnt."""
    if f.usable(f"{kind}/target_std"):
        return f.late(f"{kind}/target_std") < 0.05
    if f.usable(f"{kind}/target_entropy", f"{kind}/mean_target_entropy"):
        return f.late(f"{kind}/mean_target_entropy") < f.late(f"{kind}/target_entropy") + 0.05
    return False


def targets(f: Figures, facts: Facts) -> Iterator[Finding]:
    """Whether the targets that a network makes for itself tell pictures apart."""
    bad: Mark = "bad" if facts.step > EARLY else "watch"
    for kind in _trained(f, facts):
        if f.usable(f"{kind}/target_entropy", f"{kind}/mean_target_entropy"):
            own, together = f.late(f"{kind}/target_entropy"), f.late(f"{kind}/mean_target_entropy")
            most = f.late(f"{kind}/chance")
            text = (
                f"a target is spread over {_spread(own)} of {_spread(most)} prototypes, all those of a batch over "
                f"{_spread(together)} [{kind}/target_entropy, {kind}/mean_target_entropy]"
            )
            temperature = facts.flag("teacher-temperature", "temperature of the target network")
            if together < math.log(2):
                center = facts.flag("center-momentum", "share of the old center")
                yield Finding(bad, text + ": they have collapsed to one", f"a higher {temperature}, a lower {center}")
            elif own > 0.98 * most:
                yield Finding(bad, text + ": they are flat and say nothing", f"a lower {temperature}")
            elif _alike(f, kind):
                yield Finding(bad, text + ": of all pictures alike", f"eval/feature_rank; {temperature}, --ema.tau")
            else:
                yield Finding("good", text)
        if f.usable(f"{kind}/target_std"):
            std = f.late(f"{kind}/target_std")
            text = f"the features to be predicted differ by {std:.2f} (0 = all alike, 1 = most) [{kind}/target_std]"
            if _alike(f, kind):
                yield Finding(bad, text + ": they have collapsed", "a lower --ema.tau, a lower --optim.lr")
            elif std < 0.2:
                yield Finding("watch", text + ": little", f"{kind}/target_std in metrics.jsonl: does it rise?")
            else:
                yield Finding("good", text)


def _spread(entropy: float) -> str:
    """How many equally likely things have this entropy."""
    count = math.exp(min(entropy, 50.0))
    return f"{count:,.0f}" if count >= 10 else f"{count:.1f}"
