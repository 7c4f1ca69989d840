"""Checkpoints of the train state: written in the background, whole or not at all, checked when they are read, the last
few and the best kept."""

import errno
import json
import math
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding

from abx import hosts
from abx.agreed import agreed
from abx.checksum import by_path, checksums
from abx.keep import Keep
from abx.manager import Manager, hush

PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of a file system that say nothing about what is written there."""


class CheckpointError(Exception):
    """A checkpoint cannot be written or read; one sentence with the folder and the reason."""


class Damaged(Exception):
    """What was read is not what was saved."""


class Checkpoints:
    """The folder `checkpoints/` of a run: one sub-folder per step, and beside the state a little `meta` in JSON.

    A save that was cut off leaves a temporary folder, which is ignored, and removed at the next start. Orbax does not
    notice when the bytes of an array change on disk; what is read is compared with the checksums of what was saved.
    """

    def __init__(
        self, folder: Path, keep: int = 2, keep_best: bool = True, keep_every: int = 0, *, read_only: bool = False
    ):
        """`keep`: how many of the newest to keep; `keep_best`: and the one with the highest score; `keep_every`: and
        those whose step is a multiple of this (0 = none).

        `read_only`: for a look at a run that may be going on; nothing in the folder is made, moved or removed.
        """
        if folder.exists() and not folder.is_dir():
            raise CheckpointError(f"{folder} cannot hold checkpoints: it is a file")
        hush()
        self.folder, self.read_only, self.keep = folder, read_only, Keep(keep, keep_best, keep_every)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self.keep,
            enable_async_checkpointing=True,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
        try:
            # Orbax rejects relative paths
            self.manager = Manager(folder.resolve(), item_handlers=handlers, options=options)
        except OSError as wrong:
            raise CheckpointError(f"{folder} cannot hold checkpoints ({_short(wrong)})") from wrong
        for step in self._steps_of_all():
            with suppress(Exception):  # a broken one has no score; what is wrong with it is said when it is wanted
                score = self._content(step)["score"]
                if score is not None:
                    self.keep.scores[step] = score
        self.keep.scores |= self._rated()

    def steps(self) -> list[int]:
        """Steps of the checkpoints that were finished, ascending."""
        return [int(s) for s in self.manager.all_steps()]

    def latest(self) -> int | None:
        """Step of the newest."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """Step of the one with the highest score, among those that have one."""
        return self.keep.best_of(self.steps())

    def save(self, step: int, state: Any, meta: Mapping[str, Any], score: float | None = None) -> None:
        """Start saving; returns as soon as the arrays are safe to be donated. `score`: higher is better, for keep-best.

        Every process of a run has to save: each writes its part, and together they make the checksums.
        A step that is there already is left as it is. Raises: CheckpointError, also for the save before this one.
        """
        if step in self.steps():
            return
        self.wait()
        if score is not None and math.isfinite(score):
            self.keep.scores[step] = score
        content = {"score": self.keep.scores.get(step), "meta": dict(meta), "checksums": checksums(state)}
        content["crc32"] = _crc32(content)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(content))
        with self._writing():
            self.manager.save(step, args=args, force=True)

    def rate(self, step: int, score: float) -> None:
        """A score for a step that may be saved already; as in `save`."""
        if step not in self.steps() or not math.isfinite(score):
            return
        self.keep.scores[step] = score
        if jax.process_index() == 0:
            rated = {str(k): v for k, v in self._rated().items() if k in self.steps()} | {str(step): score}
            beside = self.folder / "scores.json.tmp"
            beside.write_text(json.dumps(rated) + "\n")
            beside.replace(self.folder / "scores.json")

    def _rated(self) -> dict[int, float]:
        try:
            return {int(step): float(x) for step, x in json.loads((self.folder / "scores.json").read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):  # a score is not worth a run
            return {}

    def _steps_of_all(self) -> list[int]:
        """What process 0 sees, for all: a network's file system can show a folder to each as it was at another time."""
        found: list[int] = json.loads(hosts.from_first(json.dumps(self.steps())))
        return found

    def restore(self, step: int, like: Any, shardings: Any) -> tuple[Any, dict[str, Any]]:
        """The state and meta of a step. `like`: any state of the right shapes, abstract ones included.

        `shardings`: where each array goes, or one for all: any mesh, whatever it was saved from.

        Shardings are ours, never the saved ones: a template without them restores onto the old machine's devices.
        Raises: CheckpointError when it is not whole, is not what was saved, or holds arrays of other names, shapes or
        types than `like`.
        """
        self.wait()
        where = self.folder / str(step)
        one = isinstance(shardings, NamedSharding)
        where_to = jax.tree.map(lambda _: shardings, like) if one else shardings
        place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        abstract = jax.tree.map(place, like, where_to)
        try:
            saved = agreed(lambda: self.manager.item_metadata(step)["state"].tree)
            found = _differences(_leaves(saved), _leaves(like))
            content = self._content(step)
            if not found:
                state = self._read(step, state=ocp.args.StandardRestore(abstract))["state"]
        except Damaged as wrong:
            raise CheckpointError(f"{where} is damaged: {wrong}") from wrong
        except Exception as wrong:  # Orbax raises some twenty kinds for a file that is missing or short
            raise CheckpointError(f"{where} is not whole ({_short(wrong)})") from wrong
        if found:
            raise CheckpointError(f"{where} is of another model: {found}")
        if "checksums" in content:  # not in those of older versions
            now, before = checksums(state), content["checksums"]
            if changed := [name for name in now if now[name] != before.get(name)]:
                more = f", nor are {len(changed) - 1} more" if len(changed) > 1 else ""
                raise CheckpointError(f"{where} is damaged: {changed[0]} is not what was saved{more}")
        return state, content["meta"]

    def restore_newest(self, like: Any, shardings: Any) -> tuple[Any, dict[str, Any]] | None:
        """The state and meta of the newest checkpoint that can be read; None when there is no checkpoint at all.

        Newer ones that are not whole are put aside as `broken-STEP`, with a sentence on stderr. Where it is the disk
        or the network that fails, it is asked once more.
        Raises: CheckpointError when none can be read, or when one may be whole but the disk does not give it.
        """
        failed: dict[int, CheckpointError] = {}
        for step in reversed(self._steps_of_all()):
            try:
                try:
                    found = self.restore(step, like, shardings)
                except CheckpointError as wrong:
                    if not _of_disk(wrong):
                        raise
                    time.sleep(1)
                    found = self.restore(step, like, shardings)
            except CheckpointError as wrong:
                if _of_disk(wrong):
                    raise
                failed[step] = wrong
                continue
            for broken, why in failed.items():
                print(f"{why}; going on from step {step}", file=sys.stderr, flush=True)
                self._put_aside(broken)
            return found
        if failed:
            raise next(iter(failed.values()))
        return None

    def _put_aside(self, step: int) -> None:
        """Out of the way of the next save of this step, but not thrown away: the fault may be the disk's."""
        if self.read_only:
            return
        # First, for one that has come to another end, as that the disk does not answer, to keep the others from this.
        hosts.barrier(f"putting aside {step}")
        names = (f"broken-{step}{suffix}" for suffix in ("", *(f".{i}" for i in range(1, 1000))))
        aside = next((self.folder / name for name in names if not (self.folder / name).exists()), None)
        if jax.process_index() == 0 and aside is not None:
            (self.folder / str(step)).rename(aside)
        # Else some processes of a run would find the step still there, and wait for ever for the others to save it.
        hosts.barrier(f"put aside {step}")
        self.keep.scores.pop(step, None)
        self.manager.reload()

    def _content(self, step: int) -> dict[str, Any]:
        """What lies beside the state. Raises: Damaged."""
        content = self._read(step, meta=ocp.args.JsonRestore())["meta"]
        # Older versions wrote neither; the name of one of them may be what is damaged.
        if {"crc32", "checksums"} & content.keys() and content.pop("crc32", None) != _crc32(content):
            raise Damaged("meta is not what was saved")
        return content

    def _read(self, step: int, **items: Any) -> Any:
        """Orbax's restore, at whose end processes wait for each other."""
        read = lambda: self.manager.restore(step, args=ocp.args.Composite(**items))
        return agreed(read, instead=lambda: ocp.multihost.sync_global_processes("_Checkpointer:restore"))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as wrong:
            self.manager.failed = wrong  # for Orbax a save that could not begin is in progress for ever
            raise CheckpointError(f"a checkpoint could not be written to {self.folder} ({_short(wrong)})") from wrong

    def wait(self) -> None:
        """Until everything started is on disk. Raises: CheckpointError."""
        with self._writing():
            while self.manager.is_saving_in_progress():
                if self.manager.failed is not None:
                    raise self.manager.failed
                time.sleep(0.002)
            self.manager.wait_until_finished()

    def close(self) -> None:
        with self._writing():
            self.manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits for the save under way, whatever happened. A failure of it does not hide the error that came first."""
        if error is not None and jax.process_count() > 1:
            return  # the others may be gone, and a save that all take part in will not end
        try:
            self.close()
        except CheckpointError as also:
            if error is None or error is also:
                raise
            print(f"error: {also}", file=sys.stderr, flush=True)


def _of_disk(wrong: BaseException | None) -> bool:
    """Whether it is for a reason that may pass and says nothing about what is written there."""
    if wrong is None:
        return False
    return (isinstance(wrong, OSError) and wrong.errno in PASSING) or _of_disk(wrong.__cause__)


def _leaves(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each array by its path."""
    return {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in by_path(tree).items()}


def _crc32(content: Any) -> int:
    """Of JSON, whatever the order in which it is written."""
    as_read = json.loads(json.dumps(content))
    return zlib.crc32(json.dumps(as_read, sort_keys=True).encode())


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What the first of the differing arrays is; empty when there is none."""
    names = [n for n in sorted(saved.keys() | wanted.keys()) if saved.get(n) != wanted.get(n)]
    if not names:
        return ""
    say = lambda found: f"{found[1]}{list(found[0])}" if found else "absent"
    first = f"{names[0]} is {say(saved.get(names[0]))} there and {say(wanted.get(names[0]))} here"
    return first + (f", and {len(names) - 1} more differ" if len(names) > 1 else "")


def _short(wrong: Exception) -> str:
    """The beginning of a message, which may be pages."""
    line = (str(wrong).strip().splitlines() or [""])[0].partition(" See full TensorStore details")[0]
    return f"{type(wrong).__name__}: {line[:160]}"
