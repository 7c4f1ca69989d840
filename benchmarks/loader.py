#!/usr/bin/env python3
"""What one core makes of a source: images and views a second, beside a torch DataLoader with Pillow transforms.

Every variant is a process of its own on the same core, and they take turns, so that other work on the machine slows all
alike. What counts is processor time, not the clock's: the median over the rounds, and the best turn of each, which is
what to compare where the machine is not idle. A decoder takes D for a picture and a
resizer R for a view: expect (n D + n R) / (D + n R) times the speed of decoding per view.

  python benchmarks/loader.py                                         the built-in scenes; minutes
  python benchmarks/loader.py --data tar:ORIGINALS --n 4 --size 224   with JPEGs
  python benchmarks/loader.py ... --workers 2                         two worker processes on two cores, against one
  python benchmarks/loader.py ... --accuracy                          pixels, against Pillow's full decode and bilinear
  python benchmarks/loader.py ... --soak 60                           read for an hour and watch the memory

Variants: default (Pillow alone, whatever is installed) and fast (simplejpeg and fast-bilinear); of a torch DataLoader
without workers, torch (decodes for every view), torch-float (the same, and ToTensor, as most recipes have it) and
torch-once (decodes once per image). But for torch-float the views stay uint8, "h w c".

Stages, ms of processor time a view: read, decode (with the header), place (drawing boxes), crop (and resize, written
to the batch), collate (of the boxes: nothing else is left); transfer and augment are JAX's, on its default device: on
a CPU that is the same core. The last line is JSON.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import tyro
from PIL import Image

from abx import boxes
from abx.data import images
from abx.data.images import BadImage, Picture
from abx.data.loader import batches
from abx.data.resizing import Resize
from abx.data.sources import Source, SpecError
from abx.data.specs import open_source
from abx.data.views import RandomCrops
from abx.data.workers import stream
from abx.experiment.cli import fail

VARIANTS = ("default", "fast", "torch", "torch-float", "torch-once")
TORCH = VARIANTS[2:]
STAGES = ("read", "decode", "place", "crop", "collate", "transfer", "augment")
EXTRAS = ("simplejpeg", "cv2")


@dataclass(frozen=True)
class Bench:
    data: tuple[str, ...] = ("scenes",)
    """Sources, as for a recipe."""
    n: tuple[int, ...] = (2, 4, 8)
    """Views per image."""
    size: tuple[int, ...] = (96, 224)
    """Sides of a view, in pixels."""
    batch: int = 32
    """Images in a batch."""
    seconds: float = 2.0
    """Length of a variant's turn."""
    rounds: int = 7
    """Turns of each variant."""
    variants: tuple[str, ...] = VARIANTS
    """Which of them; what is not installed is left out."""
    stages: bool = True
    """Also time the stages one by one."""
    workers: int = 0
    """Compare so many worker processes with one, instead; they use as many cores."""
    accuracy: bool = False
    """Compare pixels instead."""
    soak: float = 0.0
    """Minutes to read on and watch the memory, instead."""
    out: Path | None = None
    """A file for the last line, too."""


class Turn(NamedTuple):
    views: int
    processor: float
    """Seconds, of all threads of the process."""


def installed(variant: str) -> bool:
    from importlib.util import find_spec

    needs = {"default": (), "fast": EXTRAS}.get(variant, ("torch",))
    return all(find_spec(module) for module in needs)


# --- the variants ---


def loaded(source: Source, n: int, size: int, resize: Resize, batch: int) -> Iterator[int]:
    """Views in each batch of the package's own loader."""
    with stream(batches(source, RandomCrops(n=n, size=size, resize=resize), batch, seed=0), 0, 0) as made:
        for each in made:
            yield each.batch.images[..., 0, 0, 0].size


def torch_loaded(source: Source, n: int, size: int, batch: int, variant: str) -> Iterator[int]:
    """Views in each batch of a DataLoader, of as many views as ours; torchvision's RandomResizedCrop, box for box."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(1)
    once = variant == "torch-once"
    rng = np.random.default_rng(0)

    def picture(i: int) -> Image.Image:
        stored = source.stored(i).image
        return Image.open(BytesIO(stored)).convert("RGB") if isinstance(stored, bytes) else Image.fromarray(stored)

    def view(image: Image.Image) -> Any:
        hw = (image.height, image.width)
        y0, x0, y1, x1 = np.rint(boxes.random_box(rng, hw) * np.array(hw * 2)).tolist()
        crop = image.crop((x0, y0, x1, y1)).resize((size, size), Image.Resampling.BILINEAR)
        found = torch.from_numpy(np.array(crop))
        if variant == "torch-float":  # as torchvision's ToTensor does it
            return found.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return found

    class Views(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(source) if once else n * len(source)

        def __getitem__(self, i: int) -> Any:
            if not once:
                return view(picture(i // n))
            image = picture(i)
            return torch.stack([view(image) for _ in range(n)])

    loader = DataLoader(Views(), batch_size=batch if once else batch * n, shuffle=True, drop_last=True)
    while True:
        for made in loader:
            yield made.numel() // (3 * size * size)


def take_turns(pipe: Connection, variant: str, bench: Bench, spec: str, n: int, size: int, core: int) -> None:
    """In a process of its own: says "ready", then works for every number of seconds it is sent and says what it did."""
    os.sched_setaffinity(0, {core})
    if variant != "fast":
        sys.modules.update(dict.fromkeys(EXTRAS))  # as if they were not installed
    source = open_source(spec)
    if variant.startswith("torch"):
        made = torch_loaded(source, n, size, bench.batch, variant)
    else:
        made = loaded(source, n, size, "fast-bilinear" if variant == "fast" else "bilinear", bench.batch)
    next(made)
    pipe.send("ready")
    before = time.process_time()
    for seconds in iter(pipe.recv, None):
        views, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            views += next(made)
        # From the end of the turn before: a batch that was made ahead between two turns must be paid for, too.
        now = time.process_time()
        pipe.send(Turn(views, now - before))
        before = now


def race(bench: Bench, spec: str, n: int, size: int) -> list[dict[str, Any]]:
    core = max(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    racers: dict[str, tuple[Connection, Any]] = {}
    for variant in filter(installed, bench.variants):
        ours, theirs = context.Pipe()
        process = context.Process(target=take_turns, args=(theirs, variant, bench, spec, n, size, core), daemon=True)
        process.start()
        theirs.close()
        ours.recv()
        racers[variant] = (ours, process)
    turns: dict[str, list[Turn]] = {variant: [] for variant in racers}
    for _ in range(bench.rounds):
        for variant, (pipe, _) in racers.items():
            pipe.send(bench.seconds)
            turns[variant].append(Turn(*pipe.recv()))
    for _, process in racers.values():
        process.terminate()
        process.join()
    rates = {variant: [turn.views / turn.processor for turn in taken] for variant, taken in turns.items()}
    rows = []
    for variant, found in rates.items():
        row = {"data": spec, "n": n, "size": size, "variant": variant, "views_per_second": median(found)}
        row |= {"images_per_second": median(found) / n, "best_views_per_second": max(found)}
        for other in TORCH:
            if other in rates and not variant.startswith("torch"):
                row["x_" + other] = median(a / b for a, b in zip(found, rates[other], strict=True))
                row["best_x_" + other] = max(found) / max(rates[other])
        rows.append(row)
    return rows


# --- the stages ---


def time_stages(pipe: Connection, variant: str, bench: Bench, spec: str, n: int, size: int, core: int) -> None:
    """In a process of its own: sends milliseconds a view by stage."""
    os.sched_setaffinity(0, {core})
    if variant != "fast":
        sys.modules.update(dict.fromkeys(EXTRAS))
    import jax

    from abx.augment import Photometric

    spent = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.process_time()
            try:
                return call(*args)
            finally:
                spent[stage] += time.process_time() - start

        return run

    source = open_source(spec)
    crops = RandomCrops(n=n, size=size, resize="fast-bilinear" if variant == "fast" else "bilinear")
    read, place = timed("read", source.stored), timed("place", crops.place)
    collate, transfer = (
        timed("collate", np.stack),
        timed("transfer", lambda x: jax.block_until_ready(jax.device_put(x))),
    )
    cut = timed("decode", lambda picture, placed, out: picture.crops(placed, size, crops.resize, out))
    augment = jax.jit(Photometric().batch)
    augment_timed = timed("augment", lambda x, key: jax.block_until_ready(augment(x, key)))
    # Within `Picture.crops` what is no resizing is decoding.
    images.squares = timed("crop", images.squares)  # type: ignore[attr-defined]
    rng, keys = np.random.default_rng(0), iter(jax.random.split(jax.random.key(0), 1000))
    made, start = 0, 0.0
    while not made or time.perf_counter() - start < 3 * bench.seconds:
        batch = np.empty((bench.batch, n, size, size, 3), np.uint8)
        found: list[Any] = []
        while len(found) < bench.batch:
            record = read(int(rng.integers(len(source))))
            try:
                picture = timed("decode", Picture)(record.image)
                placed = place((picture.height, picture.width), rng)
                cut(picture, placed, batch[len(found)])
            except BadImage:
                continue
            found.append(placed)
        collate(found)
        augment_timed(transfer(batch), next(keys))
        if not start:  # the first batch warmed up
            spent.update(dict.fromkeys(STAGES, 0.0))
            start = time.perf_counter()
        else:
            made += n * bench.batch
    spent["decode"] -= spent["crop"]
    pipe.send({stage: 1e3 * seconds / made for stage, seconds in spent.items()})


def stages(bench: Bench, spec: str, n: int, size: int, variant: str) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    core = max(os.sched_getaffinity(0))
    process = context.Process(target=time_stages, args=(theirs, variant, bench, spec, n, size, core))
    process.start()
    theirs.close()
    found: dict[str, float] = ours.recv()
    process.join()
    return found


# --- workers, accuracy, memory ---


def scaling(bench: Bench, spec: str, n: int, size: int, resize: Resize) -> dict[str, Any]:
    """Views a second by the clock of one and of several worker processes, in turns."""
    source = open_source(spec)
    made = batches(source, RandomCrops(n=n, size=size, resize=resize), bench.batch, seed=0)
    rates: dict[int, list[float]] = {1: [], bench.workers: []}
    for _ in range(bench.rounds):
        for workers, found in rates.items():
            with stream(made, 0, workers) as taken:
                for _ in range(2 * workers):  # those that were made while nobody was waiting
                    next(taken)
                views, start = 0, time.perf_counter()
                while (spent := time.perf_counter() - start) < 2 * bench.seconds or views == 0:
                    views += next(taken).batch.images[..., 0, 0, 0].size
                found.append(views / spent)
    ratios = [many / one for one, many in zip(rates[1], rates[bench.workers], strict=True)]
    row: dict[str, Any] = {"data": spec, "n": n, "size": size, "resize": resize, "workers": bench.workers}
    return row | {"one": median(rates[1]), "all": median(rates[bench.workers]), "speedup": median(ratios)}


def accuracy(bench: Bench, spec: str, n: int, size: int) -> dict[str, Any]:
    """Mean and largest difference of a view, in grey levels, from Pillow's bilinear of the full picture."""
    source, crops = open_source(spec), RandomCrops(n=n, size=size)
    rng, scales = np.random.default_rng(0), images.SCALES
    apart: dict[str, list[float]] = {"bilinear": [], "fast-bilinear": []}
    smaller = []
    for i in range(min(len(source), 1000)):
        try:
            picture = Picture(source.stored(i).image)
            placed = crops.place((picture.height, picture.width), rng)
            images.SCALES = ()  # type: ignore[assignment]
            reference = picture.crops(placed, size).astype(np.int16)
        except BadImage:
            continue
        finally:
            images.SCALES = scales
        for resize, found in apart.items():
            if resize == "bilinear" or installed("fast"):
                views = picture.crops(placed, size, resize)  # type: ignore[arg-type]
                found += np.abs(views - reference).mean((1, 2, 3)).tolist()
        smaller += [any(apart["bilinear"][-n:])] * n
    row: dict[str, Any] = {"data": spec, "n": n, "size": size, "decoded_smaller": float(np.mean(smaller))}
    for resize, found in apart.items():
        if found:
            row |= {f"{resize} mean": float(np.mean(found)), f"{resize} max": max(found)}
    if any(smaller):
        row["decoded_smaller mean"] = float(
            np.mean([d for d, is_so in zip(apart["bilinear"], smaller, strict=True) if is_so])
        )
    return row


def soak(bench: Bench, spec: str, n: int, size: int) -> dict[str, Any]:
    """Resident memory while reading on, in MiB: after a tenth of the time, and the most after that."""
    rate = loaded(open_source(spec), n, size, "fast-bilinear" if installed("fast") else "bilinear", bench.batch)
    start, views, settled, most = time.perf_counter(), 0, 0.0, 0.0
    while (spent := time.perf_counter() - start) < 60 * bench.soak:
        views += next(rate)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        settled, most = (resident, resident) if spent < 6 * bench.soak else (settled, max(most, resident))
    return {"data": spec, "n": n, "size": size, "views": views, "settled": settled, "most": most, "last": resident}


def main(bench: Bench) -> None:
    problems = [f"--n, --size and --workers must be positive, not {v}" for v in (*bench.n, *bench.size) if v < 1]
    problems += [f"there is no variant {v}: {', '.join(VARIANTS)}" for v in bench.variants if v not in VARIANTS]
    for spec in bench.data:
        try:
            open_source(spec)
        except SpecError as wrong:
            problems.append(str(wrong))
    if problems:
        fail(problems)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    rows: list[dict[str, Any]] = []
    for spec, n, size in ((spec, n, size) for spec in bench.data for n in bench.n for size in bench.size):
        if bench.soak:
            found = [soak(bench, spec, n, size)]
        elif bench.accuracy:
            found = [accuracy(bench, spec, n, size)]
        elif bench.workers:
            found = [scaling(bench, spec, n, size, "bilinear")]
            found += [scaling(bench, spec, n, size, "fast-bilinear")] if installed("fast") else []
        else:
            found = race(bench, spec, n, size)
            for row in found:
                if bench.stages and not row["variant"].startswith("torch"):
                    row["ms_a_view"] = stages(bench, spec, n, size, row["variant"])
        for row in found:
            print(line(row), flush=True)
        rows += found
    said = json.dumps(rows)
    if bench.out:
        bench.out.write_text(said + "\n")
    print(said)


def line(row: dict[str, Any]) -> str:
    words = []
    for key, value in row.items():
        if isinstance(value, dict):
            words += [f"{k}={v:.3f}" for k, v in value.items()]
        else:
            words.append(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}")
    return " ".join(words)


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
