"""Is this run learning? The figures of `metrics.jsonl` in plain words, each beside what makes it mean something.

The lines drawn here are rules of thumb from small runs, not laws: the figures stand beside them.
"""

import math
from collections.abc import Iterator, Sequence

from abx.analysis.figures import EARLY, Facts, Figures, Finding, Mark
from abx.analysis.objectives import losses, targets
from abx.log import Row

__all__ = ["Facts", "Finding", "findings", "healthy", "report"]


def findings(rows: Sequence[Row], facts: Facts) -> list[Finding]:
    """What the figures say, the decisive first."""
    f = Figures(rows)
    checks = {
        _numbers: (),
        losses: (),
        targets: (),
        _probes: (),
        _features: (),
        _value: ("value",),
        _boxes: ("value", "actions"),
        _scale: ("value",),
        _gradient: ("value", "reward"),
        _data: (),
    }
    wanted = [check for check, needs in checks.items() if not set(needs) & set(facts.off)]
    found = [finding for check in wanted for finding in check(f, facts)]
    return [x._replace(learns=x.learns and facts.step > 0) for x in found]


def healthy(rows: Sequence[Row], facts: Facts) -> bool:
    """Whether nothing is bad and something shows that it learns."""
    found = findings(rows, facts)
    return any(x.learns for x in found) and not any(x.mark == "bad" for x in found)


def report(rows: Sequence[Row], facts: Facts) -> str:
    """The text of `report.txt`: a verdict, what it rests on, and where to look if something is amiss."""
    found = findings(rows, facts)
    bad, learns = sum(x.mark == "bad" for x in found), any(x.learns for x in found)
    count = f"{bad} of the {len(found)} points below {'is' if bad == 1 else 'are'} bad"
    if bad and learns:
        verdict = f"SOMETHING IS WRONG: {count}."
    elif bad:
        verdict = f"NOT LEARNING: {count}, and none shows that it learns."
    elif learns:
        verdict = "LEARNING."
    else:
        verdict = "TOO EARLY TO SAY: nothing is bad, but nothing shows yet that it learns."
    lines = [f"{facts.method}, step {facts.step:,} of {facts.steps:,}: {verdict}", ""]
    signs = {"good": "+", "watch": "?", "bad": "!"}
    for x in found:
        lines.append(f"  {signs[x.mark]} {x.text}")
        if x.hint:
            lines.append(f"      look at: {x.hint}")
    lines += [f"  - {text}" for text in _missing(Figures(rows), facts)]
    lines += ["", "  + as it should be   ? watch it   ! bad   - not measured", "  [names] are those of metrics.jsonl"]
    return "\n".join(lines) + "\n"


OFF = {
    "reward": "no loss for the reward, by choice: --method.reward-weight 0",
    "ssl": "no self-supervised loss, by choice: --method.ssl-weight 0",
    "value": "no loss for the value head, by choice: --method.value-weight 0",
    "actions": "the value head is not told where it goes, by choice: --method.no-actions",
}


def _missing(f: Figures, facts: Facts) -> Iterator[str]:
    """What was not measured, and how it would be."""
    for part in facts.off:
        yield OFF[part]
    evaluated = any(name.startswith(("eval/", "value/explained")) for name in f.names)
    if not evaluated:
        yield "no evaluation: --eval.every is 0, or there was none yet"
    elif "eval/knn_top1" not in f.names:
        yield "no k-NN and no probe, as there are no labelled pictures to test on: see --eval.train and --eval.test"


def _numbers(f: Figures, facts: Facts) -> Iterator[Finding]:
    broken = [
        int(row["step"]) for row in f.rows if not all(math.isfinite(row.get(k, 0)) for k in ("loss", "grad_norm"))
    ]
    if broken:
        yield Finding(
            "bad",
            f"loss or gradient is not a finite number, first at step {broken[0]:,} [loss, grad_norm]",
            "a lower --optim.lr, a longer --optim.warmup, --optim.clip 1; the pictures in views.png",
        )
    others = [name for name in f.names if name not in ("loss", "grad_norm") and not f.usable(name)]
    if others and not broken:
        yield Finding("watch", f"not a finite number: {', '.join(others)}", "metrics.jsonl: since when?")


def _probes(f: Figures, facts: Facts) -> Iterator[Finding]:
    for name, words in {"eval/knn_top1": "k-NN", "eval/attentive_top1": "an attentive probe"}.items():
        if not f.usable(name, "eval/chance"):
            continue
        first, last, chance = f.first(name), f.last(name), f.last("eval/chance")
        text = f"{words} gets {last:.1%} of the test pictures right, naming always the commonest class {chance:.1%}"
        if len(f.all(name)) < 2 or not math.isfinite(first):
            yield Finding("watch", f"{text} [{name}]", "a second evaluation, to compare with")
            continue
        text += f"; at the first evaluation {first:.1%} [{name}]"
        if last > 1.1 * first:
            yield Finding("good", text, learns=facts.step > EARLY)  # before, it may be chance
        elif last >= 0.95 * first:
            yield Finding("watch", text + ": about where it began", "more --steps; eval/* in metrics.jsonl over time")
        else:
            hint = "eval/feature_rank; are the classes told apart by what the augmentation removes, e.g. colour?"
            mark: Mark = "bad" if name == "eval/knn_top1" and facts.step > EARLY else "watch"
            yield Finding(mark, text + ": training has made it worse", hint)


def _features(f: Figures, facts: Facts) -> Iterator[Finding]:
    if not f.usable("eval/feature_rank", "eval/feature_std"):
        return
    rank, std = f.last("eval/feature_rank"), f.last("eval/feature_std")
    text = (
        f"features fill about {rank:.0f} of {facts.width} dimensions (1 = collapsed), and differ between pictures by "
        f"{std:.2f} (0 = all alike, 1 = in all directions) [eval/feature_rank, eval/feature_std]"
    )
    if rank < 2 or std < 0.05:
        weight = facts.flag("value-weight", facts.flag("ssl-weight", ""))
        hint = f"{weight + ', ' if weight else ''}the temperature and --optim.lr may be too high or too low"
        yield Finding("bad", text + ": they have collapsed", hint)
    elif rank < 4:
        yield Finding("watch", text + ": few", "eval/feature_rank in metrics.jsonl: does it rise?")
    else:
        yield Finding("good", text)


def _value(f: Figures, facts: Facts) -> Iterator[Finding]:
    if "value/explained" in f.names and math.isnan(f.last("value/explained")):
        yield Finding(
            "bad" if facts.step > EARLY else "watch",
            "the value head's targets are all alike: there is nothing to tell apart [value/marginal_excess]",
            "views.png: are the pictures all one colour? eval/feature_rank: have the features collapsed?",
        )
        return
    if f.usable("value/explained"):
        explained = f.last("value/explained")
        text = (
            f"the value head has learnt {explained:.0%} of what there is to learn "
            "(0% = giving every crop the average value of each annotation, 100% = its targets) [value/explained]"
        )
        if explained <= 0:
            text = (
                "the value head is worse than giving every crop the average value of each annotation [value/explained]"
            )
        if explained > 0.3:
            yield Finding("good", text, learns=True)
        elif explained > 0.02:
            yield Finding("watch", text + ": a beginning", "more --steps; value/sum_q beside value/sum_y")
        else:
            mark: Mark = "bad" if facts.step > EARLY else "watch"
            yield Finding(mark, text + ": it knows nothing", "value/sum_q, value/bias, --method.value-bias, --ema.tau")
    if f.usable("value/accuracy", "value/copy_accuracy", "value/chance"):
        accuracy, copy, chance = (f.last(f"value/{k}") for k in ("accuracy", "copy_accuracy", "chance"))
        text = (
            f"which annotation fits another crop best, the value head says right in {accuracy:.1%} of cases; "
            f"chance {chance:.1%}, naming the one that fits its own crop {copy:.1%} "
            "[value/accuracy, value/chance, value/copy_accuracy]"
        )
        if accuracy > 3 * chance:
            yield Finding("good", text + (": not above its own crop's, as usual" if accuracy <= copy else ""))
        else:
            yield Finding("watch", text, "more --steps; value/explained")


def _boxes(f: Figures, facts: Facts) -> Iterator[Finding]:
    if not f.usable("value/rotated_rise"):
        return
    rise = f.last("value/rotated_rise")
    text = f"told the box of the wrong crop, the value head's error changes by {rise:+.0%} [value/rotated_rise]"
    if rise > 0.03:
        yield Finding("good", text + ": it uses the boxes")
    else:
        hint = "more --steps; is --method.actions on? value/accuracy_disjoint beside value/accuracy_near"
        yield Finding("watch", text + ": it hardly looks at where it goes", hint)


def _scale(f: Figures, facts: Facts) -> Iterator[Finding]:
    if not f.usable("value/sum_q", "value/sum_y"):
        return
    q, y = f.last("value/sum_q"), f.last("value/sum_y")
    text = f"values sum to {q:.2f} over the annotations, their targets to {y:.2f} [value/sum_q, value/sum_y]"
    if 0.67 * y < q < 1.5 * y:
        yield Finding("good", text)
    else:
        hint = (
            "--method.value-bias first-batch; --method.gamma-warmup, as an untrained value inflates the first targets"
        )
        yield Finding("watch" if 0.2 * y < q < 5 * y or facts.step <= EARLY else "bad", text, hint)


def _gradient(f: Figures, facts: Facts) -> Iterator[Finding]:
    if not f.usable("value/gradient_ratio"):
        return
    ratio = f.last("value/gradient_ratio")
    text = f"the value loss pulls the backbone {ratio:.2g} times as hard as the reward loss [value/gradient_ratio]"
    if ratio < 0.01:
        yield Finding(
            "watch", text + ": next to nothing", "--method.value-weight: the value loss shapes the head alone"
        )
    elif ratio > 10:
        yield Finding("watch", text + ": it drowns the reward", "--method.value-weight; value/sum_q beside value/sum_y")
    else:
        yield Finding("good", text)


def _data(f: Figures, facts: Facts) -> Iterator[Finding]:
    if f.usable("data/rejected") and (rejected := f.last("data/rejected")) > 0:
        read = f.last("data/read") if f.usable("data/read") else 0.0
        share = rejected / (read + rejected)
        text = f"{rejected:,.0f} times ({share:.1%}) another picture took the place of a bad one [data/rejected]"
        yield Finding("bad" if share > 0.5 else "watch", text, "rejected.jsonl: which, and why")
    if f.usable("speed/data_wait_fraction") and (wait := f.late("speed/data_wait_fraction")) > 0.3:
        text = f"{wait:.0%} of the time goes into waiting for pictures [speed/data_wait_fraction]"
        yield Finding("watch", text, "a higher --data.workers; smaller pictures; a faster disk")
