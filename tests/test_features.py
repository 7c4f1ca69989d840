"""Features: every picture once, in order, the same on any number of devices; what is kept of them, and when not."""

import json
import os

import jax
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from conftest import TINY
from pictures import encoded, smooth, write_tar

from abx import parallel
from abx.data.records import WRITER, pack
from abx.data.sources import BadRecord, Samples, SpecError, stamp
from abx.data.specs import open_source
from abx.nn import ViT
from abx.probes import cache, features
from abx.probes.features import Look, extract, some
from abx.types import CROWD, Objects, Record, Sample, Vocabulary

LOOK = Look(16)
ONE = lambda: parallel.mesh(jax.devices()[:1])


@pytest.fixture(scope="module")
def backbone():
    return ViT(TINY, key=jax.random.key(0))


def sample(i, rng):
    objects = Objects(rng.random((i % 3, 4)), np.arange(i % 3), np.full(i % 3, CROWD, np.uint8)) if i % 2 else None
    shape = (17 + i % 5, 20 + i % 7, 3)
    text = (f"picture\n{i} \u2028 ü",) * (i % 2)
    distance = float("nan") if i % 4 == 0 else i / 3
    return Sample(rng.integers(0, 256, shape, np.uint8), i % 4, text, objects, i, distance, i % 3, i % 5)


class Torn(Samples):
    """Some of its records cannot be read."""

    def __init__(self, samples, bad, **more):
        super().__init__(samples, **more)
        self.bad, self.seen = bad, []

    def stored(self, i):
        self.seen.append(i)
        if i in self.bad:
            raise BadRecord("is torn")
        return super().stored(i)


def source(count, bad=(), seed=0):
    rng = np.random.default_rng(seed)
    words = Vocabulary(("a", "b", "c"))
    return Torn([sample(i, rng) for i in range(count)], bad, classes=tuple("wxyz"), vocabulary=words)


def same(a, b):
    for x, y in zip(a.facts, b.facts, strict=True):
        for f, g in zip(x, y, strict=True):
            if isinstance(f, Objects):
                for p, q in zip(f, g, strict=True):
                    assert p.dtype == q.dtype
                    np.testing.assert_array_equal(p, q)
            else:
                np.testing.assert_equal(f, g)
    assert a.names == b.names
    assert a.rejected == b.rejected
    np.testing.assert_array_equal(a.places, b.places)


@pytest.mark.parametrize(("count", "batch", "bad"), [(1, 8, ()), (16, 8, ()), (37, 8, (0, 7, 36)), (20, 64, (3,))])
def test_every_picture_once_and_in_order(backbone, count, batch, bad):
    data = source(count, bad)
    found = extract(backbone, data, LOOK, batch=batch, threads=3)
    left = [i for i in range(count) if i not in bad]
    assert sorted(data.seen) == list(range(count))
    assert found.names == [f"sample {i}" for i in left]
    assert [fact.count for fact in found.facts] == left
    assert found.places.tolist() == left
    assert sorted(found.rejected) == sorted((f"sample {i}", "is torn") for i in bad)
    assert found.tokens is not None
    assert found.tokens.shape == (len(left), 4, 32)
    for row, i in enumerate(left):
        tokens = backbone(features.center_crop(data[i].image, 16))
        np.testing.assert_allclose(found.tokens[row], tokens, atol=4e-3)
        np.testing.assert_allclose(found.pooled[row], backbone.pool(tokens), atol=1e-5)


def test_eight_devices_equal_one_and_any_batch_size(backbone):
    data = source(29, (4,))
    many = extract(backbone, data, LOOK, batch=8)
    for batch in (1, 5, 64):
        one = extract(backbone, data, LOOK, batch=batch, mesh=ONE())
        np.testing.assert_allclose(one.pooled, many.pooled, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.tokens, many.tokens, atol=2e-3)
        same(one, many)
    np.testing.assert_allclose(extract(backbone, data, LOOK, tokens=False).pooled, many.pooled, rtol=1e-5, atol=1e-6)


def test_some_records_alone(backbone):
    data = source(40)
    chosen = some(data, 11)
    assert len(set(chosen.tolist())) == 11
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == some(data, 11).tolist() != list(range(11))
    assert some(data, 0).tolist() == some(data, 99).tolist() == list(range(40))
    found = extract(backbone, data, LOOK, records=chosen, tokens=False)
    assert found.names == [f"sample {i}" for i in chosen]
    assert found.tokens is None


def test_a_picture_whole_or_its_centre():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, :20], image[:, 40:] = (255, 0, 0), (0, 255, 0)
    record = Samples([Sample(image)]).stored(0)
    whole, centre = (Look(16, shows)(record).astype(int).mean((0, 1)) for shows in ("whole", "centre"))
    np.testing.assert_allclose(whole, [85, 85, 0], atol=3)
    np.testing.assert_allclose(centre, [0, 0, 0], atol=1)


def test_nothing_that_can_be_read(backbone):
    with pytest.raises(SpecError, match="none of the 3 pictures could be read; the first: sample 0: is torn"):
        extract(backbone, source(3, (0, 1, 2)), LOOK)


# --- the cache ---


@pytest.fixture
def passes(monkeypatch):
    """Pictures that went through a backbone."""
    seen, original = [], cache.extract
    monkeypatch.setattr(cache, "extract", lambda *a, **k: seen.append(1) or original(*a, **k))
    return seen


def kept(backbone, data, folder, tokens=True, look=LOOK, spec="folder:somewhere", records=None):
    records = np.arange(len(data)) if records is None else records
    return cache.kept(backbone, data, look, spec=spec, records=records, tokens=tokens, folder=folder, batch=8)


def test_kept_features_are_the_same_and_take_no_forward_pass(backbone, tmp_path, passes):
    data = source(13, (2,))
    first, before = kept(backbone, data, tmp_path)
    again, found = kept(backbone, data, tmp_path)
    assert (before, found, len(passes)) == (False, True, 1)
    same(first, again)
    assert again.tokens.dtype == np.float16
    assert again.tokens.tobytes() == first.tokens.tobytes()
    assert again.pooled.tobytes() == first.pooled.tobytes()
    # Who wants less takes the same; who wants more does not.
    assert kept(backbone, data, tmp_path, tokens=False)[1]
    fresh = tmp_path / "fresh"
    assert not kept(backbone, data, fresh, tokens=False)[1]
    assert kept(backbone, data, fresh, tokens=False)[1]
    assert not kept(backbone, data, fresh)[1]
    assert not kept(backbone, data, None)[1]


def test_another_network_or_other_data_is_another_entry(backbone, tmp_path, passes):
    data = source(13)
    kept(backbone, data, tmp_path, tokens=False)
    nudged = jax.tree.map(lambda x: x.at[(0,) * x.ndim].add(1e-3), backbone)
    relabelled = source(13)
    relabelled._samples = [s._replace(label=(s.label + 1) % 4) for s in relabelled._samples]
    renamed = source(13)
    renamed.classes = tuple("abcd")
    others = [
        kept(nudged, data, tmp_path, tokens=False),
        kept(backbone, source(13, seed=1), tmp_path, tokens=False),
        kept(backbone, source(12), tmp_path, tokens=False),
        kept(backbone, relabelled, tmp_path, tokens=False),
        kept(backbone, renamed, tmp_path, tokens=False),
        kept(backbone, data, tmp_path, tokens=False, look=Look(24)),
        kept(backbone, data, tmp_path, tokens=False, look=Look(16, "whole")),
        kept(backbone, data, tmp_path, tokens=False, spec="folder:elsewhere"),
        kept(backbone, data, tmp_path, tokens=False, records=np.arange(1, 13)),
    ]
    assert not any(found for _, found in others)
    assert kept(backbone, data, tmp_path, tokens=False)[1]
    assert len(passes) == 1 + len(others)


def labelled(path, labels):
    """A tar of one picture, again and again, with these classes of one digit."""
    picture = encoded(smooth(17, 20))
    named = (
        (f"{i:03d}.{end}", data)
        for i, label in enumerate(labels)
        for end, data in (("jpg", picture), ("cls", b"%d" % label))
    )
    return write_tar(path, list(named))


def test_labels_that_changed_under_the_same_names_are_noticed(backbone, tmp_path):
    """Of any record, not only of those whose bytes are looked at."""
    labels = np.arange(200) % 3
    path, folder = labelled(tmp_path / "a.tar", labels), tmp_path / "cache"
    first, _ = kept(backbone, open_source(f"tar:{path}"), folder, tokens=False)
    assert kept(backbone, open_source(f"tar:{path}"), folder, tokens=False)[1]
    labels[1] = 0
    labelled(path, labels)
    found, before = kept(backbone, open_source(f"tar:{path}"), folder, tokens=False)
    assert not before
    assert [fact.label for fact in found.facts] == labels.tolist()
    digests = [cache.digest_of_facts(each.facts) for each in (first, found)]
    assert digests[0] != digests[1] == cache.digest_of_facts(found.facts)


def in_files(kind, folder):
    """Two files of two records each, and the data string of all."""
    picture = encoded(smooth(17, 20))
    for name in "ab":
        if kind == "folder":
            for i in range(2):
                (folder / f"{name}{i}.jpg").write_bytes(picture)
        elif kind == "tar":
            labelled(folder / f"{name}.tar", (0, 1))
        elif kind == "parquet":
            arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
            table = arrow.table({"image": arrow.array([picture] * 2, arrow.binary())})
            pytest.importorskip("pyarrow.parquet").write_table(table, folder / f"{name}.parquet", row_group_size=1)
        else:
            writer = ArrayRecordWriter(str(folder / f"{name}.arrayrecord"), WRITER)
            for i in range(2):
                writer.write(pack(f"{i}", Record(picture)))
            writer.close()
    return f"folder:{folder}" if kind == "folder" else f"{kind}:{folder}/*.{kind}"


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", ["folder", "tar", "arrayrecord", "parquet"])
def test_a_stamp_is_of_the_files_that_records_are_in(tmp_path, kind, mixed):
    spec = in_files(kind, tmp_path)
    data = open_source(f"0.5*scenes + 0.5*{spec}" if mixed else spec)
    records = np.arange(len(data) - 4, len(data))
    for i, path in enumerate(sorted(tmp_path.iterdir()), 2):  # two files may be written in one tick of the clock
        os.utime(path, ns=(i, i))
    before, half = stamp(data, records), stamp(data, records[:2])
    assert len({before, half, stamp(data, records[2:])}) == 3
    last = sorted(tmp_path.iterdir())[-1]
    os.utime(last, ns=(1, 1))
    assert stamp(data, records) != before
    assert stamp(data, records[:2]) == half
    last.unlink()
    assert stamp(data, records[:2]) == half
    assert len(stamp(data, records)) == 64


@pytest.mark.parametrize("file", ["tokens", "pooled.npy", "places.npy", "facts.jsonl", "entry.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_damaged_entry_is_made_anew(backbone, tmp_path, file, how):
    data = source(9)
    first, _ = kept(backbone, data, tmp_path)
    tokens = first.tokens.tobytes()
    (entry,) = tmp_path.iterdir()
    path = entry / file
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    again, found = kept(backbone, data, tmp_path)
    assert not found or (file == "entry.json" and how == "changed")
    same(first, again)
    assert again.tokens.tobytes() == tokens
    assert kept(backbone, data, tmp_path)[1]
    assert [p.name for p in tmp_path.iterdir()] == [entry.name]


def test_what_is_cut_short_leaves_nothing(backbone, tmp_path, monkeypatch):
    data = source(9)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            kept(backbone, data, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(SpecError, match=r"No space left on device.*--no-cache"):
            kept(backbone, data, tmp_path)
    # A process that was killed could not tidy up; the next does, when it is certain to be gone.
    kept(backbone, data, tmp_path)
    (entry,) = tmp_path.iterdir()
    left = tmp_path / f"{entry.name}.dead"
    entry.rename(left)
    kept(backbone, data, tmp_path)
    assert left.exists()
    monkeypatch.setattr(cache, "LEFT", -1.0)
    (entry / "entry.json").unlink()
    kept(backbone, data, tmp_path)
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_none(backbone, tmp_path):
    (tmp_path / "file").write_text("")
    found, before = kept(backbone, source(5), tmp_path / "file" / "cache")
    assert not before
    assert len(found.names) == 5


def test_a_large_file_is_checked_by_its_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK", 10)
    monkeypatch.setattr(cache, "BLOCKS", 4)
    path = tmp_path / "file"
    content = bytearray(range(95))
    path.write_bytes(content)
    first = cache._sum(path)
    for at in (0, 9, 94):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        assert cache._sum(path) != first, at
    path.write_bytes(content[:-1])
    assert cache._sum(path) != first


def test_entries_say_what_they_are_of(backbone, tmp_path):
    kept(backbone, source(5), tmp_path, spec="folder:~/x")
    (entry,) = tmp_path.iterdir()
    about = json.loads((entry / "entry.json").read_text())["about"]
    assert about["backbone"] == cache.digest(backbone)
    assert about["data"].startswith("folder:/")
