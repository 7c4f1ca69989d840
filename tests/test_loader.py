"""The stream: a pure function of (seed, step), however it is made and wherever it starts; no more of it than needed."""

import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from pictures import Numbered, encoded, smooth, write_tar

from abx.data.layouts import ABData, PairData
from abx.data.loader import STREAM, TRIES, Host, Loaded, batches, central, side_by_side
from abx.data.sources import BadRecord, SpecError
from abx.data.streams import open_sources, stream_seed, views_per_step
from abx.data.texts import Texts
from abx.data.views import RandomCrops
from abx.data.workers import stream
from abx.types import ABBatch

CROPS = RandomCrops(n=2, size=6)


def leaves(loaded: Loaded) -> list[np.ndarray]:
    streams = list(loaded.batch) if len(loaded.records) == 2 else [loaded.batch]
    known = (loaded.records, loaded.rejected, loaded.reasons)
    return [*itertools.chain.from_iterable(streams), *(array for each in known for array in each.values())]


def equal(a: Loaded, b: Loaded) -> bool:
    """Bit for bit, with the records that rows came from and those that were refused."""
    same = [p.dtype == q.dtype and np.array_equal(p, q) for p, q in zip(leaves(a), leaves(b), strict=True)]
    return all(same) and a.records.keys() == b.records.keys() == a.rejected.keys() == b.rejected.keys()


def both(source: Numbered, seed: int = 0):
    """Reward and value stream of the same data."""
    data = ABData(reward_batch=4, value_batch=3, reward_views=CROPS, value_views=RandomCrops(n=3, size=6))
    return data.batches({"reward": source, "value": source}, seed)


# --- a pure function of (seed, step) ---


def test_a_batch_is_what_its_name_says():
    loaded = batches(Numbered(10), CROPS, 4, seed=0, name="train")[5]
    assert loaded.batch.images.shape == (4, 2, 6, 6, 3)
    assert loaded.batch.boxes.shape == (4, 2, 4)
    assert loaded.batch.boxes.dtype == np.float32
    assert loaded.records.keys() == loaded.rejected.keys() == {"train"}
    np.testing.assert_array_equal(loaded.batch.images.min((1, 2, 3, 4)), loaded.records["train"])
    np.testing.assert_array_equal(loaded.batch.images.max((1, 2, 3, 4)), loaded.records["train"])


def test_the_batch_of_a_step_does_not_depend_on_what_was_asked_before():
    source = Numbered(11, bad=(2, 5))
    want = [both(source)[s] for s in range(9)]
    ds = both(source)
    for s in (8, 0, 3, 3, 7, 1):
        assert equal(ds[s], want[s])
    assert not equal(want[0], want[1])


def test_golden_stream():
    """Order, boxes and texts of some steps, over the end of an epoch, for good: numpy promises no such thing. Whoever
    has a reason to change them raises `STREAM`, so that no run goes on with other data than it began with."""
    ds = batches(Told(40, bad=(3,)), RandomCrops(n=2, size=4), 16, seed=7, texts=Texts(length=8))
    digest = sha256()
    for step in (0, 1, 2, 1_000_003):
        loaded = ds[step]
        for array in (loaded.records["train"], loaded.rejected["train"], loaded.batch.views.boxes, loaded.batch.text):
            digest.update(array.tobytes())
    assert (STREAM, digest.hexdigest()[:16]) == (2, "2bab7526adc1d521")


def test_seeds_differ():
    first, second = (batches(Numbered(1000), CROPS, 8, seed=seed)[0] for seed in (0, 1))
    assert first.records["train"].tolist() != second.records["train"].tolist()
    assert not np.array_equal(first.batch.boxes, second.batch.boxes)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_make_the_same_stream(threads: int):
    want = [both(Numbered(11, (2, 5)))[s] for s in range(4, 12)]
    with stream(both(Numbered(11, (2, 5))), 4, threads, "thread") as made:
        assert all(map(equal, itertools.islice(made, 8), want))
    assert multiprocessing.active_children() == []
    assert soon(lambda: not prefetching())


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_the_stream_is_the_same_however_many_make_it(workers: int, tmp_path: Path):
    """With bad records, over the end of an epoch, each number of workers from another start. To start processes takes
    seconds, so the same streams show that no more than two batches a worker wait, and that closing leaves nothing."""
    source, start, steps = Numbered(11, (2, 5), str(tmp_path / "log")), {0: 0, 1: 3, 2: 1, 4: 6}[workers], 7
    want = [both(Numbered(11, (2, 5)))[s] for s in range(start, start + steps)]
    with stream(both(source), start, workers) as made:
        got = list(itertools.islice(made, steps))
        rows = settled(source)
        assert all(map(equal, got, want))
    assert steps * 7 <= rows <= (steps + 2 * max(workers, 1)) * 7
    assert rows == source.reads()
    assert multiprocessing.active_children() == []
    shared = {leaf.shm.name for loaded in got for leaf in leaves(loaded) if hasattr(leaf, "shm")}
    assert bool(shared) == bool(workers)
    del got
    assert soon(lambda: not (shared & set(os.listdir("/dev/shm")) or prefetching()))


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "prefetch" in thread.name]


def soon(true: Callable[[], bool]) -> bool:
    """Grain lets go of threads and memory in the background."""
    end = time.monotonic() + 5
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def settled(source: Numbered) -> int:
    """Records read, once there have been no more for a while."""
    before, now = -1, source.reads()
    while before != now:
        time.sleep(0.5)
        before, now = now, source.reads()
    return now


@pytest.mark.parametrize("start", [0, 1, 5, 1_000_003])
def test_a_stream_can_start_anywhere(start: int):
    ds = both(Numbered(11, bad=(2, 5)))
    with stream(ds, start, 0) as made:
        for s, loaded in enumerate(itertools.islice(made, 3), start):
            assert equal(loaded, ds[s]), s


# --- hosts ---


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_together_make_the_batch_of_one(hosts: int):
    """With bad records, texts and over the end of an epoch; rows in the order of the hosts."""
    source, texts = Told(11, bad=(2, 5)), Texts(length=8)
    whole = batches(source, CROPS, 8, seed=3, texts=texts)
    shares = [batches(source, CROPS, 8, seed=3, texts=texts, host=Host(h, hosts)) for h in range(hosts)]
    for s in (0, 1, 5):
        made = [share[s] for share in shares]
        assert all(len(loaded.records["train"]) == 8 // hosts for loaded in made)
        parts = [[*loaded.batch.views, loaded.batch.text, *loaded.records.values()] for loaded in made]
        joined = [np.concatenate(each) for each in zip(*parts, strict=True)]
        want = [*whole[s].batch.views, whole[s].batch.text, *whole[s].records.values()]
        assert all(map(np.array_equal, joined, want))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="a batch of 6 cannot be shared by 4 hosts"):
        batches(Numbered(5), CROPS, 6, seed=0, host=Host(1, 4))


class Told(Numbered):
    """`Numbered` with two captions each but every third, which has none."""

    def stored(self, i: int):
        return super().stored(i)._replace(captions=() if i % 3 == 2 else (f"{i} a", f"{i} b"))


def test_one_caption_is_drawn_for_each_image_at_each_step():
    texts = Texts(length=8)
    ds = batches(Told(9), CROPS, 6, seed=0, texts=texts)
    drawn: dict[int, set[str]] = {}
    for s in range(20):
        loaded = ds[s]
        assert (loaded.batch.text.shape, loaded.batch.text.dtype) == ((6, 8), np.int32)
        for record, text in zip(loaded.records["train"].tolist(), loaded.batch.text, strict=True):
            drawn.setdefault(record, set()).add(texts.decode(text))
        assert all(i % 3 == 2 for i in loaded.rejected["train"])
    assert drawn == {i: {f"{i} a", f"{i} b"} for i in (0, 1, 3, 4, 6, 7)}


def test_streams_have_seeds_of_their_own():
    """Equal ones give the same pictures; either can be changed without the other; the run's changes both."""
    source = Numbered(50)

    def records(seed: int = 0, **seeds: int) -> list[list[int]]:
        data = ABData(reward_batch=8, value_batch=8, reward_views=CROPS, value_views=CROPS, **seeds)
        loaded = data.batches({"reward": source, "value": source}, seed)[0]
        return [loaded.records[name].tolist() for name in ("reward", "value")]

    reward, value = records()
    assert reward != value
    assert records(value_seed=0) == [reward, reward]
    assert records(reward_seed=5)[1] == value
    assert records(reward_seed=5)[0] != reward
    assert all(a != b for a, b in zip(records(seed=1), (reward, value), strict=True))


def test_every_pair_of_seeds_is_another_stream():
    assert len({stream_seed(run, stream) for run in range(50) for stream in range(50)}) == 2500


# --- epochs ---


@pytest.mark.parametrize(("length", "batch"), [(12, 4), (10, 4), (3, 7), (1, 2)])
def test_every_epoch_visits_every_record_once(length: int, batch: int):
    """Batches run on over the ends of epochs, so it is the flattened stream that has epochs."""
    epochs = 5
    ds = batches(Numbered(length), CROPS, batch, seed=3)
    seen = np.concatenate([ds[s].records["train"] for s in range(-(-epochs * length // batch))])[: epochs * length]
    orders = seen.reshape(epochs, length)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(length), (epochs, 1)))


def test_every_epoch_has_a_new_order_and_new_crops():
    length, epochs = 24, 6
    ds = batches(Numbered(length), CROPS, length, seed=0)
    loaded = [ds[s] for s in range(epochs)]
    assert len({tuple(x.records["train"].tolist()) for x in loaded}) == epochs
    placed = np.stack([x.batch.boxes[np.argsort(x.records["train"])] for x in loaded])  # epoch record view 4
    for record in range(length):
        assert len(np.unique(placed[:, record].reshape(-1, 4), axis=0)) > 2 * epochs - 3, record


# --- two streams ---


def test_two_streams_of_the_same_data_are_independent():
    """Rows at the same place show the same record only as often as chance has it."""
    length, steps = 50, 40
    data = ABData(reward_batch=10, value_batch=10, reward_views=CROPS, value_views=CROPS)
    source = Numbered(length)
    loaded = [data.batches({"reward": source, "value": source}, 0)[s] for s in range(steps)]
    reward, value = (np.concatenate([x.records[name] for x in loaded]) for name in ("reward", "value"))
    assert 0 < (reward == value).sum() < 4 * len(reward) / length
    assert not np.isin(loaded[0].batch.reward.boxes, loaded[0].batch.value.boxes).all()


def test_two_streams_keep_their_own_data_crops_and_sizes():
    reward, value = Numbered(5), Numbered(200)
    data = ABData(reward_batch=3, value_batch=4, reward_views=CROPS, value_views=RandomCrops(n=5, size=8))
    loaded = data.batches({"reward": reward, "value": value}, 7)[11]
    assert loaded.batch.reward.images.shape == (3, 2, 6, 6, 3)
    assert loaded.batch.value.images.shape == (4, 5, 8, 8, 3)
    alone = batches(value, RandomCrops(n=5, size=8), 4, stream_seed(7, 1), "value")[11]
    np.testing.assert_array_equal(loaded.batch.value.images, alone.batch.images)
    np.testing.assert_array_equal(loaded.records["value"], alone.records["value"])


def test_side_by_side_is_each_alone():
    reward, value = (batches(Numbered(9), CROPS, b, b, name) for b, name in ((2, "reward"), (5, "value")))
    pair = side_by_side({"reward": reward, "value": value}, lambda parts: ABBatch(**parts))[4]
    for name, alone in (("reward", reward), ("value", value)):
        parts = [{name: found[name]} for found in (pair.records, pair.rejected, pair.reasons)]
        assert equal(Loaded(getattr(pair.batch, name), *parts), alone[4])


# --- bad records ---


def test_a_bad_record_gives_way_to_a_good_one_and_is_counted():
    """Over whole epochs: each refusal is reported, rows are full, and only good records are in them."""
    length, bad = 12, (1, 4, 10)
    ds = batches(Numbered(length, bad=bad), CROPS, length, seed=0)
    for s in range(6):
        loaded = ds[s]
        assert not set(loaded.records["train"].tolist()) & set(bad)
        assert (loaded.batch.images[:, 0, 0, 0, 0] == loaded.records["train"]).all()
        refused = loaded.rejected["train"].tolist()
        assert set(refused) == set(bad)
        sound = batches(Numbered(length), CROPS, length, seed=0)[s].records["train"]
        changed = np.isin(sound, bad)
        np.testing.assert_array_equal(loaded.records["train"][~changed], sound[~changed])
        assert len(refused) >= changed.sum() == len(bad)


def test_replacements_are_spread_over_the_good():
    ds = batches(Numbered(20, bad=tuple(range(10))), CROPS, 20, seed=0)
    used = np.concatenate([ds[s].records["train"] for s in range(30)])
    counts = np.bincount(used, minlength=20)[10:]
    assert counts.sum() == 600
    assert counts.min() > 35


def test_data_without_a_good_record_is_given_up():
    ds = batches(Numbered(50, bad=tuple(range(50))), CROPS, 2, seed=0)
    with pytest.raises(
        BadRecord, match=rf"^{TRIES} records in a row could not be used; the last, numbered/\d+: cracked$"
    ):
        ds[0]
    with stream(ds, 0, 0) as made, pytest.raises(BadRecord, match="records in a row"):
        next(made)


def test_a_worker_that_gives_up_says_so_here():
    with (
        stream(batches(Numbered(50, bad=tuple(range(50))), CROPS, 2, seed=0), 0, 1) as made,
        pytest.raises(
            BadRecord, match=rf"^{TRIES} records in a row could not be used; the last, numbered/\d+: cracked$"
        ),
    ):
        next(made)
    assert multiprocessing.active_children() == []


def test_the_last_try_counts():
    """TRIES - 1 refusals and then a good record is a good record."""

    class Grudging(Numbered):
        def stored(self, i: int):
            left.append(i)
            if len(left) < TRIES:
                raise BadRecord("not yet")
            return super().stored(i)

    left: list[int] = []
    loaded = batches(Grudging(100), CROPS, 1, seed=0)[7]
    assert [*loaded.rejected["train"], *loaded.records["train"]] == left
    assert len(left) == TRIES


def test_a_stream_that_nobody_reads_stops_at_two_batches(tmp_path: Path):
    """And after each batch that is taken, one is made."""
    source, size = Numbered(1000, log=str(tmp_path / "log")), 5
    with stream(batches(source, CROPS, size, seed=0), 0, 0) as made:
        next(made)
        first = settled(source)
        assert first <= 3 * size
        for _ in range(4):
            next(made)
        assert settled(source) == first + 4 * size


def test_closing_is_clean_when_the_reader_fails():
    def fail(batch: Loaded) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), stream(batches(Numbered(9), CROPS, 2, seed=0), 0, 0) as made:
        fail(next(made))
    assert list(made) == []
    assert soon(lambda: not prefetching())


# --- evaluation pictures ---


def test_central_crops_are_a_fixed_choice():
    images, labels = central(Numbered(30, bad=(3, 4)), 10, 8, labelled=False)
    again, _ = central(Numbered(30, bad=(3, 4)), 10, 8, labelled=False)
    numbers = images[:, 0, 0, 0].tolist()
    np.testing.assert_array_equal(images, again)
    assert len(set(numbers)) == 10
    assert not {3, 4} & set(numbers)
    assert labels.tolist() == [n % 3 for n in numbers]
    assert numbers != central(Numbered(30), 10, 8, labelled=False, seed=1)[0][:, 0, 0, 0].tolist()


def test_central_crops_give_what_there_is():
    assert len(central(Numbered(5, bad=(0,)), 10, 8, labelled=False)[0]) == 4
    for source, labelled in ((Numbered(3, bad=(0, 1, 2)), False), (Numbered(3), True)):  # no good ones; no classes
        images, labels = central(source, 10, 8, labelled=labelled)
        assert (images.shape, labels.shape) == ((0, 8, 8, 3), (0,))


# --- what a person chooses ---


def test_sound_data_has_no_problems(tmp_path: Path):
    write_tar(tmp_path / "s.tar", {"x.png": encoded(smooth(), "PNG")})
    assert PairData().problems() == []
    assert ABData(reward=f"folder:{tmp_path}", value=f"tar:{tmp_path}/s.tar").problems() == []


def test_every_problem_at_once_by_its_flag():
    bad = ABData(
        reward="scene",
        value="folder:x",
        reward_batch=0,
        value_batch=-1,
        reward_views=RandomCrops(n=3),
        value_views=RandomCrops(n=0, size=0),
        workers=-1,
    )
    starts = [
        "reward: data is ",
        "reward_batch must",
        "reward_views.n must be 2",
        "value: folder:",
        "value_batch must",
        "value_views.n must be at least 1",
        "value_views.size must",
        "workers must be at least 0",
    ]
    for problem, start in zip(bad.problems(), starts, strict=True):
        assert problem.startswith(f"--data.{start}")
    (problem,) = PairData(views=RandomCrops(n=4)).problems()
    assert problem == "--data.views.n must be 2 here, not 4"


def test_views_per_step_counts_each_crop_once():
    assert views_per_step(PairData(batch=10)) == 20
    assert views_per_step(ABData(reward_batch=10, value_batch=5)) == 40


def test_sources_are_opened_once_and_looked_into(tmp_path: Path):
    opened = open_sources(ABData(reward="scenes:test", value="scenes:test"))
    assert opened["reward"] is opened["value"]
    opened = open_sources(ABData(reward="scenes:test", value="scenes"))
    assert opened["reward"] is not opened["value"]
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(SpecError, match=r"none of the first 1 images could be read; the first: .*a\.jpg: not a JPEG"):
        open_sources(PairData(train=f"folder:{tmp_path}"))
