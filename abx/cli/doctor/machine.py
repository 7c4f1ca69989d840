"""Cores, memory, disks, limits and the environment's variables."""

import os
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from abx.cli.doctor.findings import GIB, Finding, gib, within

ANSWER = 3.0
"""Seconds that a file system has to answer."""
PREFIXES = ("JAX_", "XLA_", "TF_CPP_", "LIBTPU_", "TPU_", "CUDA_VISIBLE_DEVICES", "NCCL_", "NPROC", "ABX_")
"""Of variables that change what runs do."""
CHANGE = {
    "JAX_DISABLE_JIT": "nothing is compiled, and everything slow",
    "JAX_ENABLE_X64": "some arrays become float64, and a run is not what it is without",
    "JAX_DEBUG_NANS": "every operation waits until its result was looked at, and is slow",
}
"""Of those what hurts, and how."""
OFF = ("", "0", "false", "no", "off")


class Disk(NamedTuple):
    what: str
    """What is kept there."""
    folder: Path
    free: int | None
    """Bytes; None where nothing is answered."""
    writable: bool = True


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes this process may use: the machine's, or less where its group has a limit."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    said = limit.read_text().strip() if limit.is_file() else ""
    return min(machine, int(said)) if said.isdigit() else machine


def disk(what: str, folder: Path) -> Disk:
    """Of a folder that may not be there yet: of the nearest one above that is."""

    def look() -> Disk:
        there = folder.absolute()
        while not there.is_dir() and there != there.parent:
            there = there.parent
        return Disk(what, folder, shutil.disk_usage(there).free, os.access(there, os.W_OK | os.X_OK))

    try:
        return within(ANSWER, look) or Disk(what, folder, None)
    except OSError:
        return Disk(what, folder, None)


def shared_memory() -> int | None:
    """Bytes of /dev/shm; None where there is none."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def open_files() -> tuple[int, int]:
    """How many files a process may have open, and how far it may raise that."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def check_power(count: int, size: int) -> list[Finding]:
    what = f"{count} CPU core{'s' if count > 1 else ''}, {gib(size)} of memory"
    if size < 4 * GIB:
        fix = "give this machine or container more: JAX, a compiled step and data workers take some GiB"
        return [Finding("WRONG", what, fix)]
    return [Finding("ok", what)]


def check_disk(found: Disk) -> Finding:
    where = f"{found.what}, {found.folder}"
    if found.free is None:
        return Finding("WRONG", f"{where}: the file system does not answer", "see whether it is mounted")
    if not found.writable:
        fix = "set ABX_CACHE to a folder that can be written" if found.what == "cache" else "go to another folder"
        return Finding("WRONG", f"{where}: nothing may be written there", fix)
    what = f"{where}: {gib(found.free)} free"
    if found.free < GIB:
        fix = "make room: a checkpoint of ViT-S/16 takes 0.4 GiB, and three are there at a time"
        return Finding("WRONG", what, fix)
    if found.free < 10 * GIB:
        return Finding("note", what, "--dry-run says what a run takes")
    return Finding("ok", what)


def check_shared_memory(size: int | None) -> Finding:
    """Batches of worker processes go through it."""
    threads = "--data.worker thread needs none"
    fix = f"docker run --shm-size 16g; {threads}"
    if size is None:
        return Finding("WRONG", "no shared memory (/dev/shm), which data workers hand batches over in", threads)
    what = f"{gib(size)} of shared memory (/dev/shm)"
    if size <= 64 * 2**20:
        return Finding("WRONG", f"{what}: a container's default, too little for data workers", fix)
    if size < 2 * GIB:
        return Finding("note", f"{what}: large batches take more, two a worker", fix)
    return Finding("ok", what)


def check_open_files(limit: int, most: int) -> Finding:
    """Shards are kept open."""
    what = f"{limit:,} files may be open" if limit != resource.RLIM_INFINITY else "any number of files may be open"
    if limit == resource.RLIM_INFINITY or limit >= 1024:
        return Finding("ok", what)
    may = "" if most == resource.RLIM_INFINITY or most >= 1024 else ", which takes an administrator here"
    return Finding("WRONG", what, f"ulimit -n 4096{may}")


def check_environment(environ: Mapping[str, str]) -> list[Finding]:
    found = []
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIXES):
            continue
        harm = CHANGE.get(name, "") if value.lower() not in OFF else ""
        what = f"{name}={value}"
        found.append(Finding("note", f"{what}: {harm}", f"unset {name}") if harm else Finding("ok", what))
    return found
