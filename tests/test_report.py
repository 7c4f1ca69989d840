"""The report in plain words, on made-up figures: a healthy run and everything that can go wrong with one."""

import math
import re

import pytest

from abx.analysis.report import Facts, findings, healthy, report
from abx.experiment.cli import flags
from recipes import NAMES, load

AB, SIMCLR = Facts("AB", 400, 400, 96), Facts("SimCLR", 400, 400, 96)
DINO = Facts("DINO", 400, 400, 96, flags=("--data.views.globals.scale", "--method.teacher-temperature"))

STEP = {
    "loss": 9.0,
    "grad_norm": 1.0,
    "reward/loss": 2.4,
    "reward/chance": 4.84,
    "data/rejected": 0.0,
    "data/read": 1e4,
}
STEP |= {"speed/data_wait_fraction": 0.02, "speed/views_per_second": 800.0}
PROBES = {"eval/knn_top1": 0.35, "eval/attentive_top1": 0.4, "eval/chance": 0.12}
SPREAD = {"eval/feature_rank": 9.0, "eval/feature_std": 0.71}
VALUE = {"value/explained": 0.63, "value/accuracy": 0.3, "value/copy_accuracy": 0.33, "value/chance": 1 / 64}
VALUE |= {"value/rotated_rise": 0.14, "value/sum_q": 1.27, "value/sum_y": 1.25, "value/gradient_ratio": 0.05}
OTHERS = STEP.keys() - {"reward/loss", "reward/chance"}
DISTILLED = {name: STEP[name] for name in sorted(OTHERS)}
DISTILLED |= {"reward/loss": 3.2, "reward/chance": math.log(512), "reward/target_entropy": 1.9}
DISTILLED |= {"reward/mean_target_entropy": 5.1}
UNTRAINED = {"value/explained": -2.0, "value/accuracy": 0.02, "value/rotated_rise": 0.0, "value/sum_q": 4.9}


def rows(late: dict[str, float] | None = None, *, step: dict[str, float] = STEP, look: dict[str, float] | None = None):
    """A run whose last evaluation and steps have `late` among their figures."""
    look = PROBES | SPREAD | VALUE if look is None else look
    first = {name: UNTRAINED.get(name, value / 2 if name.endswith("top1") else value) for name, value in look.items()}
    late = late or {}
    over = lambda figures: figures | {k: v for k, v in late.items() if k in figures}
    training = [{"step": float(s), **over(step)} for s in range(20, 401, 20)]
    return [{"step": 0.0, **first}, *training, {"step": 400.0, **over(look)}]


def marks(found_rows, facts=AB) -> dict[str, str]:
    """Mark by the first metric that a finding names."""
    named = {}
    for found in findings(found_rows, facts):
        (name, *_) = re.findall(r"\[([\w/]+)", found.text) or [found.text]
        named[name] = found.mark
    return named


def test_a_healthy_run():
    assert set(marks(rows()).values()) == {"good"}
    assert healthy(rows(), AB)
    text = report(rows(), AB)
    assert text.startswith("AB, step 400 of 400: LEARNING.\n")
    assert "63% of what there is to learn" in text
    assert "look at" not in text


@pytest.mark.parametrize(
    ("late", "metric", "mark", "words"),
    [
        ({"eval/feature_rank": 1.2, "eval/feature_std": 0.01}, "eval/feature_rank", "bad", "collapsed"),
        ({"eval/feature_rank": 3.0}, "eval/feature_rank", "watch", "few"),
        ({"reward/loss": 4.8}, "reward/loss", "bad", "no better than guessing"),
        ({"reward/loss": 4.2}, "reward/loss", "watch", "more --steps"),
        ({"value/explained": 0.001}, "value/explained", "bad", "knows nothing"),
        ({"value/explained": -0.4}, "value/explained", "bad", "worse than giving every crop the average"),
        ({"value/explained": 0.1}, "value/explained", "watch", "a beginning"),
        ({"value/accuracy": 0.02}, "value/accuracy", "watch", "chance 1.6%"),
        ({"value/rotated_rise": 0.001}, "value/rotated_rise", "watch", "hardly looks at where it goes"),
        ({"value/rotated_rise": -0.2}, "value/rotated_rise", "watch", "-20%"),
        ({"value/gradient_ratio": 0.0008}, "value/gradient_ratio", "watch", "next to nothing"),
        ({"value/gradient_ratio": 40.0}, "value/gradient_ratio", "watch", "drowns"),
        ({"value/sum_q": 30.0}, "value/sum_q", "bad", "--method.value-bias"),
        ({"value/sum_q": 2.5}, "value/sum_q", "watch", "--method.gamma-warmup"),
        ({"value/sum_y": 0.0}, "value/sum_q", "bad", "their targets to 0.00"),
        ({"eval/knn_top1": 0.1}, "eval/knn_top1", "bad", "has made it worse"),
        ({"eval/knn_top1": 0.18}, "eval/knn_top1", "watch", "about where it began"),
        ({"eval/attentive_top1": 0.1}, "eval/attentive_top1", "watch", "has made it worse"),
        ({"speed/data_wait_fraction": 0.6}, "speed/data_wait_fraction", "watch", "--data.workers"),
        ({"data/rejected": 50.0}, "data/rejected", "watch", "rejected.jsonl"),
        ({"data/rejected": 2e4}, "data/rejected", "bad", "66.7%"),
    ],
)
def test_what_can_be_amiss(late, metric, mark, words):
    found = marks(rows(late))
    assert {name: m for name, m in found.items() if m != "good"} == {metric: mark}
    text = report(rows(late), AB)
    assert words in text
    assert "look at: " in text
    assert healthy(rows(late), AB) == (mark != "bad")
    assert ("SOMETHING IS WRONG: 1 of the" in text) == (mark == "bad")


def test_a_loss_that_is_no_number():
    broken = rows()
    for row in broken[-6:]:
        row |= {k: math.nan for k in row if k != "step"}
    text = report(broken, AB)
    assert "NOT LEARNING" in text
    assert "first at step 320" in text
    assert "nan" not in text
    assert not healthy(broken, AB)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0])
@pytest.mark.parametrize("name", sorted(STEP | PROBES | SPREAD | VALUE))
def test_no_figure_can_break_it(name, value):
    """Neither as the last value, nor as the first, nor as the only one, nor by its absence."""
    for broken in (rows({name: value}), [{"step": 400.0, name: value}]):
        text = report(broken, AB)
        assert not re.search(r"\b(nan|inf)\b", text)
        assert name in text or value == 0
    assert not re.search(r"\b(nan|inf)\b", report([{**rows()[0], name: value}, *rows()[1:]], AB))
    report([{k: v for k, v in row.items() if k != name} for row in rows()], AB)


def test_simclr_has_no_value_figures():
    found = rows(look=PROBES | SPREAD)
    text = report(found, SIMCLR)
    assert text.startswith("SimCLR, step 400 of 400: LEARNING.")
    assert "value" not in text
    assert healthy(found, SIMCLR)


def test_only_the_untrained_network_was_looked_at():
    found, facts = rows()[:1], AB._replace(step=0)
    text = report(found, facts)
    assert "TOO EARLY TO SAY" in text
    assert "bad" not in marks(found, facts).values()
    assert not healthy(found, facts)
    # Nor does an untrained network learn if its figures happen to be fine.
    assert not healthy([{"step": 0.0, **PROBES, **SPREAD, **VALUE, **STEP}], facts)


def test_a_few_steps_are_too_early():
    found = [
        {"step": 20.0, **STEP, "reward/loss": 4.8, "value/explained": -1.0, "value/sum_q": 60.0, "value/sum_y": 1.0}
    ]
    assert "TOO EARLY TO SAY" in report(found, AB._replace(step=20))
    assert "NOT LEARNING" in report(found, AB)


def test_pictures_without_labels():
    found = rows(look=SPREAD | VALUE)
    text = report(found, AB)
    assert "  - no k-NN and no probe" in text
    assert "--eval.test" in text
    assert healthy(found, AB)


def test_without_evaluation_or_figures():
    text = report(rows()[1:-1], SIMCLR)
    assert "  - no evaluation: --eval.every is 0" in text
    assert "LEARNING" in text
    assert "TOO EARLY TO SAY" in report([], AB._replace(step=0))


def test_every_sentence_names_its_metrics_and_every_hint_a_flag_or_file_that_exists():
    text = report(rows(), AB)
    said = {name for found in re.findall(r"\[([\w/, ]+)\]\n", text) for name in found.split(", ")}
    assert said <= (STEP | PROBES | SPREAD | VALUE).keys()
    assert all("[" in line for line in text.splitlines() if line.startswith(("  + the", "  ? ", "  ! ")))


@pytest.mark.parametrize(
    ("off", "late", "flag"),
    [
        ("value", {"value/explained": -3.0, "value/accuracy": 0.01, "value/sum_q": 40.0}, "--method.value-weight 0"),
        ("reward", {"reward/loss": 4.84, "value/gradient_ratio": 1e6}, "--method.reward-weight 0"),
        ("actions", {"value/rotated_rise": 0.0}, "--method.no-actions"),
    ],
)
def test_what_is_off_by_choice_is_no_fault(off, late, flag):
    text = report(rows(late), AB._replace(off=(off,)))
    assert ": LEARNING." in text
    assert f"by choice: {flag}" in text
    assert "look at" not in text


def test_targets_that_are_all_alike():
    text = report(rows({"value/explained": math.nan}), AB)
    assert "targets are all alike" in text
    assert "SOMETHING IS WRONG" in text


def test_a_healthy_distillation():
    found = rows(step=DISTILLED, look=PROBES | SPREAD)
    assert set(marks(found, DINO).values()) == {"good"}
    assert healthy(found, DINO)
    text = report(found, DINO)
    assert "the reward loss is 3.20; guessing gives 6.24, saying exactly the targets 1.90" in text
    assert "a target is spread over 6.7 of 512 prototypes, all those of a batch over 164" in text
    # Half of the way to the targets' entropy, which is a fifth of the way to nothing.
    near = {"reward/loss": 5.2, "reward/target_entropy": 4.2}
    assert marks(rows(near, step=DISTILLED, look=PROBES), DINO)["reward/loss"] == "good"


@pytest.mark.parametrize("kind", ["reward", "ssl"])
@pytest.mark.parametrize(
    ("late", "metric", "words"),
    [
        ({"loss": 6.2}, "loss", "no better than guessing"),
        ({"loss": 0.1, "target_entropy": 0.02, "mean_target_entropy": 0.03}, "target_entropy", "have collapsed to one"),
        (
            {"loss": 0.9, "target_entropy": 0.8, "mean_target_entropy": 0.82},
            "target_entropy",
            "of all pictures alike",
        ),
        ({"loss": 6.24, "target_entropy": 6.23, "mean_target_entropy": 6.24}, "target_entropy", "flat and say nothing"),
    ],
)
def test_what_can_be_amiss_with_a_distillation(kind, late, metric, words):
    rename = lambda figures: {name.replace("reward/", f"{kind}/"): value for name, value in figures.items()}
    figures = rename(DISTILLED)
    found = rows({f"{kind}/{name}": value for name, value in late.items()}, step=figures, look=SPREAD)
    assert marks(found, DINO)[f"{kind}/{metric}"] == "bad"
    text = report(found, DINO)
    assert "NOT LEARNING" in text
    assert words in text
    assert ("--data.views.globals.scale" if metric == "loss" else "--method.teacher-temperature") in text
    early = report([row for row in found if row["step"] <= 200], DINO._replace(step=200))
    assert "bad" not in early.split("\n\n")[1]


def loss_of(kind, loss, **more):
    figures = {name: STEP[name] for name in OTHERS} | {f"{kind}/loss": loss, f"{kind}/chance": 1.0}
    return rows(step=figures | {f"{kind}/{name}": value for name, value in more.items()}, look=SPREAD)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ssl", "the self-supervised loss is"),
        ("mae", "the error of the pixels of removed patches is"),
        ("ijepa", "the error of the hidden tokens' features is"),
        ("rotation", "the loss of rotation is"),
    ],
)
def test_every_loss_with_a_chance_is_judged_under_its_own_name(kind, words):
    for loss, mark in ((0.5, "good"), (0.9, "watch"), (0.99, "bad")):
        found, facts = loss_of(kind, loss), Facts("Some", 400, 400, 96)
        assert marks(found, facts)[f"{kind}/loss"] == mark
        assert f"{words} {loss:.2f}; guessing gives 1.00 [{kind}/loss, {kind}/chance]" in report(found, facts)
        assert healthy(found, facts) == (mark == "good")


def test_two_losses_are_judged_each_by_itself():
    figures = STEP | {"ssl/loss": 4.83, "ssl/chance": 4.84}
    assert {k: v for k, v in marks(rows(step=figures, look=SPREAD)).items() if v != "good"} == {"ssl/loss": "bad"}
    text = report(rows(step=figures, look=SPREAD), Facts("SLIP", 400, 400, 96, ("ssl",)))
    assert "by choice: --method.ssl-weight 0" in text
    assert "the self-supervised loss" not in text.replace("no self-supervised loss", "")


def test_predicted_features_that_are_all_alike_are_nothing_learnt():
    facts = Facts("IJEPA", 400, 400, 96)
    assert marks(loss_of("ijepa", 0.5, target_std=0.7), facts)["ijepa/target_std"] == "good"
    assert marks(loss_of("ijepa", 0.5, target_std=0.1), facts)["ijepa/target_std"] == "watch"
    alike = loss_of("ijepa", 0.5, target_std=0.01)
    assert marks(alike, facts)["ijepa/target_std"] == "bad"
    assert "NOT LEARNING" in report(alike, facts)


@pytest.mark.parametrize("name", NAMES)
def test_hints_name_only_flags_that_the_recipe_has(name):
    """With everything amiss that can be."""
    recipe = load(name).PRESETS["smoke"]
    ab = name.startswith("ab_")
    facts = Facts(type(recipe.method).__name__, 400, 400, 96, flags=tuple(flags(recipe)))
    kinds = {"mae": ["mae"], "ijepa": ["ijepa"], "slip": ["reward", "ssl"], "silc": ["reward", "ssl"]}
    step = {"step": 400.0, "loss": math.nan, "data/rejected": 9e4, "data/read": 1.0, "speed/data_wait_fraction": 1.0}
    for kind in kinds.get(name, ["reward"]):
        step |= {f"{kind}/loss": 1.0, f"{kind}/chance": 1.0}
        if "dino" in name or (name, kind) == ("silc", "ssl"):
            step |= {f"{kind}/target_entropy": 0.0, f"{kind}/mean_target_entropy": 0.0}
        if kind == "ijepa":
            step["ijepa/target_std"] = 0.0
    look = SPREAD | PROBES | {"eval/feature_rank": 1.0}
    worst = {key: 0.0 for key in VALUE} | {"value/sum_q": 9.0, "value/gradient_ratio": 99.0, "value/explained": -1.0}
    text = report(
        [{"step": 0.0, **PROBES, **step}, step | look | {"eval/knn_top1": 0.0} | (worst if ab else {})], facts
    )
    said = set(re.findall(r"--[a-z][\w.-]*\w", text))
    assert said - {*facts.flags} == set()
    assert any(flag.endswith(".scale") for flag in said)
