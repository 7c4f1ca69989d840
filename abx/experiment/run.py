"""A recipe becomes a folder: configuration, metrics, checkpoints, pictures, report, final figures."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from abx import hosts, train
from abx.boards import Boards
from abx.checkpoint import CheckpointError, Checkpoints
from abx.data import workers
from abx.data.loader import STREAM, Host
from abx.data.sources import BadRecord, Source, fingerprint
from abx.data.streams import open_sources, views_per_step
from abx.experiment import diverged
from abx.experiment.beginning import begin, biased, sha256
from abx.experiment.cli import fail
from abx.experiment.config import Recipe
from abx.experiment.drawing import MIDDLE, draw_first_views, draw_map
from abx.experiment.folder import locked, verdict
from abx.experiment.ledger import Ledger, TooManyRejected
from abx.experiment.monitor import Monitor
from abx.experiment.plan import plan
from abx.experiment.resuming import check_data, check_init, prepare, settle
from abx.experiment.saved import to_json, write_json
from abx.experiment.showing import add_boards, show
from abx.experiment.surroundings import environment, keep_compiled, write_environment
from abx.fit import Diverged, Pace, fit
from abx.log import MetricsLog, read_metrics
from abx.methods.ab import AB
from abx.probes.cache import digest
from abx.tracing import Tracer
from abx.train import TrainState

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, the quota used up, a file as long as one may be."""


def run(recipe: Recipe) -> TrainState | None:
    """Train as the recipe says, or go on where its folder stopped; None for a dry run, which exits with 2 where the
    run does not fit the devices or the disk.

    Raises: SpecError for data that cannot be opened and for a folder that cannot be written or that another process
    writes. Exits with 2 for what only the devices or the folder can tell, with 1 when a checkpoint cannot be written or
    read or too much of the data cannot be used, and with 128 + its number when a signal cut the run short (see `fit`).
    """
    if recipe.dry_run:
        planned = plan(recipe)
        print(planned.text, flush=True)
        if planned.problems:
            fail(planned.problems)
        return None
    with hosts.together():
        sources = open_sources(recipe.data)
        keep_compiled()
        mesh = _mesh(recipe)
        try:
            # Of several processes the first holds the folder for all.
            with locked(recipe.out) if hosts.first() else nullcontext(), Boards() as boards:
                state, cut = _run(recipe, sources, mesh, boards)
        except (CheckpointError, TooManyRejected, BadRecord, Diverged, OSError) as wrong:
            if hosts.of_another(wrong) or (isinstance(wrong, OSError) and wrong.errno not in FULL):
                raise
            if isinstance(wrong, TooManyRejected | BadRecord):
                (recipe.out / "report.txt").write_text(f"{wrong}\n")
            if hosts.first() or not isinstance(wrong, Diverged):  # which all have found at once
                print(f"error: {_sentence(recipe.out, wrong)}", file=sys.stderr)
            raise SystemExit(1) from wrong
    if cut:
        raise SystemExit(128 + cut)
    return state


def _run(recipe: Recipe, sources: dict[str, Source], mesh: Mesh, boards: Boards) -> tuple[TrainState, int]:
    """The last state, and the signal that cut the run short (0 = none)."""
    began, out = time.monotonic(), recipe.out
    surroundings, changed = environment(), list[str]()
    if recipe.init:
        surroundings["init_sha256"] = sha256(Path(recipe.init))
    if hosts.first():
        changed = prepare(recipe)
        write_environment(out / "environment.json", surroundings)
    hosts.barrier("folder")
    if not _appears(out / "config.json"):
        fail([f"--out {out} must be a folder that all processes share; what process 0 wrote there is not here"])
    monitor = Monitor.open(recipe, sources) if recipe.eval.every else None
    tx = recipe.optim.build(recipe.steps)
    ds = recipe.data.batches(sources, recipe.seed, Host(jax.process_index(), jax.process_count()))
    # What the state begins with depends on the whole batch, whoever has which rows.
    first = recipe.data.batches(sources, recipe.seed)[0]
    fingerprints = _fingerprints(recipe, sources)
    ledger = Ledger(recipe.data, sources, out / "rejected.jsonl", writes=hosts.first())
    ckpt = recipe.ckpt
    begun_with = surroundings.get("init_sha256", "")
    with Checkpoints(out / "checkpoints", ckpt.keep, ckpt.keep_best, ckpt.keep_every) as checkpoints:
        state, begun_with = _state(recipe, tx, mesh, first.batch, checkpoints, ledger, fingerprints, begun_with)
        if hosts.first():
            settle(recipe, changed)
            draw_first_views(out / "views.png", recipe.data, sources, first)
        start, took = int(state.step), time.monotonic() - began
        print(f"{out}: step {start} of {recipe.steps}, {_describe(recipe, state)}, ready in {took:.0f} s", flush=True)
        per_step, log_every, eval_every = views_per_step(recipe.data), recipe.log.every, recipe.eval.every
        pace = Pace(recipe.steps, log_every, eval_every, ckpt.every, per_step, recipe.guard.spike)
        add_boards(boards, recipe, start)
        figures = MetricsLog(out / "metrics.jsonl", start, writes=hosts.first(), boards=boards)
        with figures as log, _kept(recipe):
            state, cut = fit(
                train.make_step(recipe.method, tx, recipe.ema.schedule(recipe.steps), recipe.seed, mesh),
                state,
                lambda step: workers.stream(ds, step, recipe.data.workers, recipe.data.worker),
                mesh=mesh,
                pace=pace,
                log=log,
                checkpoints=checkpoints,
                evaluate=monitor.evaluate if monitor else None,
                watch=ledger,
                meta=lambda: {
                    "config": to_json(recipe),
                    "data": fingerprints,
                    "stream": STREAM,
                    "init": begun_with,
                    "rejected": ledger.saved(),
                    "environment": surroundings,
                },
                tracer=Tracer(out / "profile", recipe.profile) if recipe.profile and hosts.first() else None,
            )
    whole = hosts.own(state._replace(opt=None), mesh)
    if hosts.first():
        # A picture of the last step is there already where only this end was missing.
        again = start == recipe.steps and (out / "value_map.png").exists()
        _finish(recipe, whole, monitor or Monitor(recipe, sources), ledger, complete=not cut)
        if isinstance(recipe.method, AB) and not cut:
            show(boards, recipe.steps, out / "value_map.png", again=again)
    hosts.barrier("finished")  # who leaves waits for the others for a minute and no longer
    return state, cut


def _appears(path: Path) -> bool:
    """A network's file system may show what another machine has written up to a minute later."""
    until = time.monotonic() + 60
    while not path.exists():
        if not hosts.several() or time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


@contextmanager
def _kept(recipe: Recipe) -> Iterator[None]:
    """If a step is refused inside, what is needed to look into it is kept."""
    try:
        yield
    except Diverged as wrong:
        diverged.keep(recipe.out, wrong, recipe)
        raise


def _sentence(out: Path, wrong: Exception) -> str:
    """What has ended the run, and what can be done."""
    if isinstance(wrong, OSError):
        return f"{out} cannot be written: {wrong.strerror}; with more room, the same command goes on"
    if not isinstance(wrong, Diverged):
        return str(wrong)
    return (
        f"{wrong}; that step was not taken. State, batch and key are in {diverged.newest(out)}: abx replay {out} says "
        f"where it comes from. The last checkpoint is from before; --force goes on from it with other settings, as a "
        f"lower --optim.lr"
    )


def _fingerprints(recipe: Recipe, sources: dict[str, Source]) -> dict[str, list[Any]]:
    """What each stream is made from: its pictures, and the tokenizer of its texts."""
    texts = {name: stream.texts for name, stream in recipe.data.streams().items()}
    return {name: [*fingerprint(x), *([t.fingerprint] if (t := texts[name]) else [])] for name, x in sources.items()}


def _mesh(recipe: Recipe) -> Mesh:
    """Exits with 2 where the devices cannot share the work."""
    devices = jax.device_count()
    fail_on = [
        f"{recipe.data.flag(name, 'batch')} {stream.batch} must be a multiple of the {devices} devices"
        for name, stream in recipe.data.streams().items()
        if stream.batch % devices
    ]
    try:
        mesh = recipe.mesh.build()
    except ValueError as wrong:
        fail_on.append(f"--mesh.copies: {wrong}")
    if fail_on:
        fail(fail_on)
    return mesh


def _state(
    recipe: Recipe,
    tx: Any,
    mesh: Mesh,
    batch: Any,
    checkpoints: Checkpoints,
    ledger: Ledger,
    data: dict[str, list[Any]],
    init_sha256: str,
) -> tuple[TrainState, str]:
    """A fresh state, or that of the newest checkpoint; and the sha256 of the file of weights that it began with, "" for
    none."""
    init = lambda batch: train.init(recipe.method, tx, recipe.seed, batch)
    like = jax.eval_shape(init, batch)
    shardings = train.shardings(like, mesh)
    found = checkpoints.restore_newest(like, shardings)
    if found is None:
        fresh: TrainState = jax.jit(init, out_shardings=shardings)(batch)
        if recipe.init and recipe.backbone is not None:
            fresh, said = begin(fresh, recipe.init, recipe.init_pixels, recipe.backbone)
            if isinstance(recipe.method, AB) and recipe.method.value_bias == "first-batch":
                fresh = biased(fresh, recipe.method, recipe.seed, batch)
            if hosts.first():
                print(said, flush=True)
        return fresh, init_sha256
    state, meta = found
    if meta.get("stream") != STREAM:
        fail([f"--out {recipe.out} was begun by another version of abx, whose batches are others; give another --out"])
    check_data(recipe, meta["data"], data)
    before = meta.get("init", "")
    check_init(recipe, before, init_sha256)
    ledger.restore(int(state.step), meta["rejected"])
    return TrainState(*state), before


def _finish(recipe: Recipe, state: TrainState, monitor: Monitor, ledger: Ledger, complete: bool) -> None:
    out = recipe.out
    text = "\n\n".join([verdict(out), *ledger.reports()])
    (out / "report.txt").write_text(text)
    if isinstance(recipe.method, AB) and complete:  # who was told to stop does not linger over pictures
        loaded = monitor.batch(0)
        texts = recipe.data.streams()["reward"].texts
        picture = monitor.sources["value"][int(loaded.records["value"][0])].image
        draw_map(out / "value_map.png", recipe.method, state.model, state.carry, picture, MIDDLE, loaded.batch, texts)
    if complete:
        last: dict[str, Any] = {}
        for row in read_metrics(out / "metrics.jsonl"):
            last |= row
        last.pop("step", None)
        final = {"step": int(state.step), "params_sha256": digests(state), "metrics": _finite(last)}
        write_json(out / "final.json", final)
    print(text)
    names = [
        n for n in ("report.txt", "views.png", "value_map.png", "metrics.jsonl", "final.json") if (out / n).exists()
    ]
    print("written: " + "  ".join(str(out / n) for n in names))


def digests(state: TrainState) -> dict[str, str]:
    """sha256 over the bytes of all parameters in path order, of the online and of the target network."""
    return {"online": digest(state.model), "target": digest(state.target)}


def _describe(recipe: Recipe, state: TrainState) -> str:
    count = sum(x.size for x in jax.tree.leaves(state.model))
    devices = jax.devices()
    processes = f" in {jax.process_count()} processes" if hosts.several() else ""
    return f"{count / 1e6:.1f} M parameters, {len(devices)} x {devices[0].device_kind}{processes}"


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    return {k: v if np.isfinite(v) else None for k, v in metrics.items()}
