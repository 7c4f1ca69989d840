#!/usr/bin/env python3
"""What opening tar shards costs: the first time, when they are indexed, and every time after.

Synthetic shards: a tiny picture, a caption and some metadata for every sample. The page cache is warm, so that the
reading of headers is measured and not the disk. Expected: about 10 µs of Python a member for the first, 44 bytes and
the key (9 here) a sample in memory.

  python benchmarks/tar_index.py                                     seconds
  python benchmarks/tar_index.py --shards 1000 --samples 1000        3.1 GB in the temporary folder, minutes

The last line is JSON.
"""

import io
import json
import os
import pickle
import resource
import tarfile
import tempfile
import time
from dataclasses import dataclass

import tyro

from abx.data.schemes.tar import Tar
from abx.data.webdataset.build import Built, build


@dataclass(frozen=True)
class Bench:
    shards: int = 20
    """Number of shards."""
    samples: int = 1000
    """Samples in each."""
    workers: int = 1
    """Processes that index."""


def main() -> None:
    bench = tyro.cli(Bench, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, f"{shard:06d}.tar") for shard in range(bench.shards)]
        for shard, path in enumerate(paths):
            write(path, shard * bench.samples, bench.samples)
        size = sum(map(os.path.getsize, paths))
        start = time.perf_counter()
        built = build(paths, bench.workers, _silent)
        cold = time.perf_counter() - start
        kept = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith(".abx-index"))
        before = memory()
        start = time.perf_counter()
        source = Tar(paths)
        warm = time.perf_counter() - start
        after = memory()
        start = time.perf_counter()
        reads = range(0, len(source), max(1, len(source) // 10_000))
        for i in reads:
            source.stored(i)
        read = (time.perf_counter() - start) / len(reads)
    assert len(source) == built.samples == bench.shards * bench.samples
    result = {
        "shards": bench.shards,
        "samples": len(source),
        "workers": bench.workers,
        "gigabytes": round(size / 1e9, 2),
        "cold_s": round(cold, 2),
        "cold_us_per_sample": round(cold / len(source) * 1e6, 1),
        "warm_s": round(warm, 3),
        "index_bytes_per_sample": round(kept / len(source), 1),
        "memory_bytes_per_sample": round((after - before) / len(source), 1),
        "pickle_bytes_per_sample": round(len(pickle.dumps(source)) / len(source), 1),
        "stored_us": round(read * 1e6, 1),
    }
    for key, value in result.items():
        print(f"{key:26} {value}")
    print(json.dumps(result))


def write(path: str, first: int, samples: int) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(first, first + samples):
            for extension, data in {
                "jpg": b"\xff\xd8\xff" + bytes(500),
                "txt": b"a picture of number %d" % number,
                "json": json.dumps({"key": f"{number:09d}", "url": "http://x/y.jpg", "width": 8, "height": 8}).encode(),
            }.items():
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def memory() -> int:
    """Bytes that this process has resident."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _silent(built: Built) -> None:
    """Nobody watches."""


if __name__ == "__main__":
    main()
