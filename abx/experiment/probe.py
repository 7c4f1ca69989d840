"""Probes of a network, from the command line to results.jsonl: several of them over one pass of features."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from abx.checkpoint import CheckpointError
from abx.complaints import parsed
from abx.data.sources import BadRecord, Source, SpecError
from abx.data.specs import open_for
from abx.experiment.cli import INTERRUPTED, fail, flags
from abx.experiment.entry import beside_paper, row_of
from abx.experiment.given import about as about_given
from abx.experiment.given import part_of, read_given, unlike
from abx.experiment.helping import arranged, parts
from abx.experiment.loading import Subject, config_of, load_subject, untrained
from abx.experiment.material import Material, Part
from abx.experiment.measuring import measure, needs
from abx.experiment.probing import (
    DRAWN_TEST,
    DRAWN_TRAIN,
    NO_TRAINING,
    PRESETS,
    TOKENS,
    Probe,
    heads_that_do_not_fit,
)
from abx.experiment.rows import FILE, Row, append, line, table
from abx.experiment.saved import to_json
from abx.nearest import hint, unknown
from abx.probes.cache import cache_folder, digest, digest_of_facts, identity, kept
from abx.probes.features import Look, some
from abx.probes.questions import renumbered
from abx.probes.tasks import Classification
from abx.probes.towers import Towers, towers_of
from abx.signals import end_on_interrupt

SAID_EVERY = 10.0
"""Seconds between lines of progress."""


def main(prog: str, doc: str, argv: Sequence[str] | None = None) -> None:
    """`PROG [PRESET] [--flags]`: parse, check, run. Exits with 2 and one sentence per problem when something cannot be,
    with 1 when a checkpoint cannot be written, with 128 + its number when a signal cut a training short."""
    args = list(sys.argv[1:] if argv is None else argv)
    preset = args.pop(0) if args and not args[0].startswith("-") else next(iter(PRESETS))
    if preset not in PRESETS:
        fail([f"there is no preset {preset!r}{hint(preset, PRESETS) or '; there are ' + ', '.join(PRESETS)}"])
    before, notes = parts(doc)
    usage = f"{before}\n\nThe defaults below are those of the preset {preset}; flags of daily use come first."
    chosen, prog = PRESETS[preset], f"{prog} {preset}"
    with arranged(notes):
        recipe, left = parsed(Probe, default=chosen, args=args, prog=prog, description=usage, return_unknown_args=True)
    if problems := unknown(left, flags(chosen), PRESETS) + recipe.problems():
        fail(problems)
    try:
        with end_on_interrupt(INTERRUPTED):
            rows = probe(recipe)
    except SpecError as wrong:
        fail([str(wrong)])
    except (CheckpointError, BadRecord) as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        raise SystemExit(1) from wrong
    if recipe.json:
        print(json.dumps({"results": rows}))


def probe(recipe: Probe) -> list[Row]:
    """The rows that it adds to results.jsonl; none for a dry run. `recipe` has no `problems`.

    Raises: SpecError for data and checkpoints that cannot be used, CheckpointError for those of probes that cannot be
    written. Exits with 2 when the task does not fit the data.
    """
    if recipe.features:
        return _of_files(recipe)
    named = recipe.named
    test = open_for("--test", named.test)
    train = open_for("--train", named.train) if recipe.trains else None
    asks = set(recipe.probes) != {"retrieval"}
    if asks and (found := named.task.check(test if train is None else train, test)):
        fail([f"--task {recipe.task}: {sentence}" for sentence in found])
    config = config_of(recipe.run, recipe.init, recipe.size, recipe.pool)
    assert config is not None
    look = Look(recipe.size or config.size, recipe.shows(named.task.name) if asks else "centre")
    chosen = {"test": some(test, _limit(recipe.test_images, test, DRAWN_TEST))}
    if train is not None:
        chosen["train"] = some(train, _limit(recipe.train_images, train, DRAWN_TRAIN))
    if recipe.dry_run:
        _say_plan(recipe, look, chosen)
        return []
    subject = _subject(recipe)
    towers = _towers(recipe, subject)
    frozen = digest(subject.backbone)

    def part(flag: str, source: Source, spec: str) -> Part:
        began, tokens = time.monotonic(), not TOKENS.isdisjoint(recipe.probes) and asks
        features, before = kept(
            subject.backbone,
            source,
            look,
            spec=spec,
            records=chosen[flag],
            tokens=tokens,
            folder=cache_folder() if recipe.cache else None,
            batch=recipe.batch,
            threads=recipe.threads,
            progress=_progress(flag),
        )
        left_out = f", {len(features.rejected):,} could not be read" if features.rejected else ""
        how = "features kept from before" if before else f"features made in {time.monotonic() - began:.0f} s"
        print(f"--{flag} {spec}: {len(features.names):,} pictures{left_out}; {how}", flush=True)
        return Part(source, spec, chosen[flag], features, features.facts)

    known = None if train is None else part("train", train, named.train)
    about = {} if known is None else identity(subject.backbone, known.source, look, known.spec, known.records)
    origin = {"network": subject.network, "step": subject.step, "run": subject.run}
    origin |= {"init": subject.init} if subject.init else {}
    asked = part("test", test, named.test)
    material = Material(recipe, subject.backbone, origin, look, named.task, None, known, asked, towers, about, frozen)
    rows = _measured(material)
    _say(recipe, rows, [beside_paper(row, subject) for row in rows])
    return rows


def _of_files(recipe: Probe) -> list[Row]:
    """Of features from elsewhere."""
    try:
        train, test = map(read_given, recipe.features)
    except SpecError as wrong:
        raise SpecError(f"--features: {wrong}") from wrong
    wanted = [kind for kind in recipe.probes if kind in TOKENS]
    if sentence := unlike(train.features, test.features, tokens=bool(wanted)):
        raise SpecError(f"--features: {sentence}")
    if wanted and train.features.tokens is None:
        raise SpecError(f"--probes {' '.join(wanted)}: these read tokens, which the files do not have")
    if "map" in wanted and train.features.tokens is not None:
        width = train.features.tokens.shape[-1]
        if sentence := heads_that_do_not_fit(recipe.map.heads, width):
            raise SpecError(sentence)
    task = Classification()
    if found := task.check(train.source, test.source):
        fail([f"--features: {sentence}" for sentence in found])
    train, test = part_of(train, recipe.train_images or 0), part_of(test, recipe.test_images or 0)
    if recipe.dry_run:
        counts, width = [len(given.features.names) for given in (train, test)], train.features.pooled.shape[1]
        print(f"features: {counts[0]:,} to train on, {counts[1]:,} to test on, of {width} numbers")
        return []
    known, asked = (
        Part(given.source, os.path.abspath(path), np.arange(len(given.source)), given.features, given.features.facts)
        for given, path in zip((train, test), recipe.features, strict=True)
    )
    origin = {"network": "online", "step": 0, "run": os.path.abspath(recipe.features[0])}
    rows = _measured(
        Material(recipe, None, origin, Look(), task, None, known, asked, None, about_given(train), train.sha256)
    )
    _say(recipe, rows, [""] * len(rows))
    return rows


def _measured(m: Material) -> list[Row]:
    """A row for each probe, kept as soon as there is one. The task of `m` need not know of its data yet.

    Exits with 2 when it does not fit them.
    """
    if m.train is not None:
        source, known = m.train.source, m.train.facts
        asked = m.test._replace(facts=renumbered(m.test.facts, m.test.source, source))
        task = m.task.over(source, known)
        if found := task.lacking(known, asked.facts):
            fail([f"--task {m.recipe.task}: {sentence}" for sentence in found])
        about = m.about | {"task": to_json(task), "facts": digest_of_facts(known)}
        m = m._replace(test=asked, task=task, language=task.language(source), about=about)
    if found := needs(m):
        fail(found)
    rows = []
    for kind in m.recipe.probes:
        began = time.monotonic()
        rows.append(row_of(m, kind, measure(kind, m), time.monotonic() - began))
        if m.backbone is not None and digest(m.backbone) != m.sha256:
            raise AssertionError("the backbone is not what it was before it was probed")
        print(line(rows[-1]), flush=True)
        file = m.recipe.folder / FILE
        try:
            append(file, rows[-1:])
        except OSError as wrong:
            raise SpecError(f"--out: {file} cannot be written: {wrong.strerror}") from wrong
    return rows


def _say(recipe: Probe, rows: list[Row], paper: list[str]) -> None:
    """All rows, with the paper's figures."""
    print(f"\n{table(rows, paper)}\nwritten: {recipe.folder / FILE}")


def _limit(given: int | None, source: Source, drawn: int) -> int:
    """How many pictures to use; 0 = all."""
    if given is not None:
        return given
    try:
        return 0 if isinstance(source.stored(0).image, bytes) else drawn
    except BadRecord:
        return 0


def _subject(recipe: Probe) -> Subject:
    if recipe.run == "none":
        subject = untrained(recipe.init, recipe.seed, recipe.size, recipe.pool, recipe.init_pixels, recipe.init_heads)
        if subject.said:
            print(subject.said, flush=True)
        return subject
    return load_subject(Path(recipe.run), recipe.network, recipe.step)


def _towers(recipe: Probe, subject: Subject) -> Towers | None:
    """The run's text tower and its tokens, if a probe asks for them."""
    wanted = [kind for kind in recipe.probes if kind in NO_TRAINING]
    if not wanted or subject.recipe is None:
        return None
    texts = [stream.texts for stream in subject.recipe.data.streams().values() if stream.texts is not None]
    for each in texts:
        if found := each.problems(f"--probes {' '.join(wanted)}: the run's data.text"):
            fail(found)
    towers = towers_of(subject.model, texts[0] if texts else None)
    if towers is None:
        name = type(subject.recipe.method).__name__
        fail([f"--probes {' '.join(wanted)}: {recipe.run} is a run of {name}, which has no text tower"])
    return towers


def _say_plan(recipe: Probe, look: Look, chosen: dict[str, Any]) -> None:
    print(f"network: {recipe.run if recipe.run != 'none' else f'of no run, {recipe.init}'}, {recipe.network}")
    for flag, records in chosen.items():
        print(f"--{flag}: {len(records):,} pictures, {look.size} pixels, {look.shows}")
    print(f"probes: {' '.join(recipe.probes)} of {recipe.task}; results go to {recipe.folder / FILE}")


def _progress(flag: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > SAID_EVERY:
            last = time.monotonic()
            print(f"--{flag}: {done:,} of {total:,} pictures", flush=True)

    return say
