"""Several processes that train together: how they find each other, agree, and end together.

The engine is JAX's own (`jax.distributed`). With one process everything here is the identity.
"""

import os
import re
import socket
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed  # the coordination service's store of keys, which has no public name
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from abx import parallel

Tree = TypeVar("Tree")

POLL = 0.5
"""Seconds between two looks at whether another process has said that it failed."""
LOST = 13
"""Exit code of a process that ends because another one was lost or failed."""
LEAVING = 60
"""Seconds that processes wait for each other at the end."""


def start(coordinator: str = "", processes: int = 0, process: int = 0, heartbeat: int = 20, joining: int = 300) -> None:
    """Join the other processes, if there are any; before anything asks JAX for its devices.

    Only process 0 says something on stdout from here on.

    Args:
        coordinator: HOST:PORT of process 0; "auto" = JAX asks the cluster; "none" = alone, whatever a launcher says;
            "" = what it `announced`.
        processes, process: how many there are and which this is; for HOST:PORT.
        heartbeat: seconds without a sign of life after which a process counts as lost.
        joining: seconds to wait for the others; then the process ends, with a line that says so.

    Raises: RuntimeError when they do not find each other.
    """
    if coordinator == "none" or not (coordinator or announced(os.environ)):
        return
    # JAX would take SIGTERM for itself, and nobody would heed one that comes before the first step.
    jax.config.update("jax_enable_preemption_service", False)
    given: dict[str, Any] = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process}
    # Inside srun JAX would complete even what is given here, by a single device for each process.
    given["cluster_detection_method"] = "deactivate"
    visible = {name: jax.config.read(name) for name in ("jax_cuda_visible_devices", "jax_rocm_visible_devices")}
    # JAX, when its time is over, aborts with a page.
    late = threading.Timer(joining, _late, [joining])
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            **(given if coordinator not in ("", "auto") else {}),
            initialization_timeout=joining + 30,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=LEAVING,
        )
    finally:
        late.cancel()
    if one_each(os.environ):  # JAX takes one device for each process, as if there were as many as devices
        for name, devices in visible.items():
            jax.config.update(name, devices)
    if not first():
        # The descriptor and not only Python's file: Gloo says something, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def announced(environ: Mapping[str, str]) -> bool:
    """Whether a launcher has started several processes and says so: SLURM (srun), Open MPI, a TPU slice."""
    counts = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    several = any(environ.get(name, "").isdigit() and int(environ[name]) > 1 for name in counts)
    return several or "," in environ.get("TPU_WORKER_HOSTNAMES", "")


def one_each(environ: Mapping[str, str]) -> bool:
    """Whether SLURM or Open MPI says that each machine has one process, whose then all the machine's devices are."""
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # as in 1(x4), or 2,1(x3)
    alike = bool(tasks) and {re.sub(r"\(x\d+\)", "", each) for each in tasks.split(",")} == {"1"}
    return alike or environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"


def several() -> bool:
    return jax.process_count() > 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def machines() -> int:
    """On how many machines the processes are. All must ask."""
    if not several():
        return 1
    mine = np.uint32(zlib.crc32(socket.gethostname().encode()))
    return len(np.unique(multihost_utils.process_allgather(mine)))


def total(numbers: Mapping[str, int]) -> dict[str, int]:
    """Of all processes together; each must ask, with the same names."""
    if not several():
        return dict(numbers)
    names = sorted(numbers)
    everyone = multihost_utils.process_allgather(np.array([numbers[name] for name in names], np.int32))
    return dict(zip(names, np.asarray(everyone).sum(0).tolist(), strict=True))


def barrier(name: str) -> None:
    """Until all are here."""
    if several():
        multihost_utils.sync_global_devices(name)


def from_first(text: str) -> str:
    """What process 0 says, on all of them."""
    if not several():
        return text
    mine = np.frombuffer(text.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(mine))))
    theirs = multihost_utils.broadcast_one_to_all(np.resize(mine, length))
    return bytes(np.asarray(theirs)).decode()


def where(true: bool) -> list[int]:
    """The processes of which something is true; all ask, and all get the same."""
    return np.flatnonzero(multihost_utils.process_allgather(np.asarray(true))).tolist()


class Agreement:
    """A number that every process names and all then know: the largest.

    `ask` only begins to find it, so that the host need not wait for the devices; `int` of what it returns is it.
    """

    def __init__(self, mesh: Mesh):
        self.rows = parallel.batched(mesh)
        self.largest = jax.jit(jnp.max, out_shardings=parallel.replicated(mesh))

    def ask(self, number: int) -> Any:
        if not several():
            return number
        here = len(self.rows.mesh.local_devices)
        found = self.largest(parallel.place(np.full(here, number, np.int32), self.rows))
        # A CPU may begin the next program before this one has ended, and the processes' messages would be mixed up.
        return jax.block_until_ready(found) if jax.default_backend() == "cpu" else found


def own(tree: Tree, mesh: Mesh) -> Tree:
    """The arrays of a tree, whole, on this process's devices alone; all processes must ask."""
    if not several() and parallel.SHARDS not in mesh.axis_names:
        return tree
    whole = jax.jit(lambda x: x, out_shardings=parallel.replicated(mesh))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), whole)


@contextmanager
def together() -> Iterator[None]:
    """If what is inside fails, all processes end: within a moment of each other and with one clear line.

    Left to itself, one that fails waits for the others, which wait for it, all for minutes: where they wait for its
    part of a checkpoint, no connection breaks that would tell them. Alone, a process fails as usual.
    """
    ending, over = threading.Lock(), threading.Event()  # the lock is for whoever says how it ended
    watch = threading.Thread(target=_watch, args=(ending, over), daemon=True)
    if several():
        watch.start()
    try:
        yield
    except BaseException as wrong:
        if not several():
            raise
        ending.acquire()
        me = f"process {jax.process_index()} of {jax.process_count()}"
        code = wrong.code if isinstance(wrong, SystemExit) else 1
        if of_another(wrong):
            why = str(wrong).strip().partition("\n")[0][:200]
            print(f"error: {me}: another process was lost; the same command goes on from the last checkpoint ({why})",
                  file=sys.stderr)  # fmt: skip
            code = LOST
        elif isinstance(wrong, KeyboardInterrupt):
            print(f"{me} was interrupted, and with it all", file=sys.stderr)
            code = 130
        elif not isinstance(wrong, SystemExit):  # who raises that has said why
            if not type(wrong).__module__.startswith("abx."):  # ours say in a sentence what there is to say
                traceback.print_exception(wrong)
            print(f"error: {me} failed, and with it all: {wrong}", file=sys.stderr)
        if code != LOST:
            with suppress(Exception):
                _store().key_value_set(FAILED, me, allow_overwrite=True)
            time.sleep(3 * POLL if first() else 0)  # the store ends with process 0
        _exit(code if isinstance(code, int) else 1)
    if several():
        over.set()
        watch.join()  # Python would end it in the middle of a call, and with it the process


FAILED = "abx/failed"


def _store() -> Any:
    """Where the processes leave word for each other."""
    return distributed.global_state.client


def _watch(ending: threading.Lock, over: threading.Event) -> None:
    """Until another process says that it has failed, which ends this one, or until it is over."""
    while not over.wait(POLL):
        try:
            who = _store().key_value_try_get(FAILED)
        except Exception:  # nobody has, or the store is gone, which those notice who wait for something
            continue
        # The main thread may see it for itself at this moment.
        if ending.acquire(blocking=False):
            me = f"process {jax.process_index()} of {jax.process_count()}"
            print(f"error: {me}: another process was lost; the same command goes on from the last checkpoint "
                  f"({who} failed, and says why)", file=sys.stderr)  # fmt: skip
            _exit(LOST)
        return


def _late(seconds: int) -> None:
    print(f"error: not all processes came within {seconds} s; the same command, once they do, goes on", file=sys.stderr)
    _exit(LOST)


def _exit(code: int) -> None:
    """Not sys.exit: JAX would wait for the others on the way out."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def of_another(wrong: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that a process on the other end is gone. JAX has no type for it."""
    if wrong is None:
        return False
    signs = ("Gloo", "closed by peer", "reset by peer", "heartbeat", "coordination", "NCCL")
    # A ValueError, where an array is asked for that will never be.
    lost = isinstance(wrong, RuntimeError | ValueError) and any(sign in str(wrong) for sign in signs)
    return lost or of_another(wrong.__cause__)
