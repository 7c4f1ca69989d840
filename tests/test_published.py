"""Readers of published data sets: what is in their official layouts, and what a damaged one is answered."""

import errno
import importlib
import io
import json
import os
import pickle
import pkgutil
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import published as lay
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pictures import write_tar
from published import packed, picture, write
from scipy.io import savemat

from abx.data.prepare import archives, devkit, published, reading, units
from abx.data.prepare.base import LayoutError, Published, Split, Unit
from abx.data.prepare.published import (
    cc12m,
    clevr,
    coco,
    epic_kitchens,
    food101,
    imagenet,
    pets,
    resisc45,
    sun397,
    visor,
    webdataset,
)
from abx.data.prepare.shard import PrepareError
from abx.data.prepare.write import prepare
from abx.types import CROWD, TRUNCATED, Record

Find = Callable[[str], Published]
LAYOUTS: dict[str, tuple[Find, Callable[[Path], Path]]] = {
    "imagenet-folders": (imagenet.find, lay.imagenet_folders),
    "imagenet-tars": (imagenet.find, lay.imagenet_tars),
    "imagenet-kaggle": (imagenet.find, lay.imagenet_kaggle),
    "cc12m": (cc12m.find, lay.cc12m),
    "webdataset": (webdataset.find, lay.cc12m),
    "coco": (coco.find, lay.coco),
    "epic-tars": (epic_kitchens.find, lambda root: lay.epic_kitchens(root, tars=True)),
    "epic-folders": (epic_kitchens.find, lambda root: lay.epic_kitchens(root, tars=False)),
    "visor-zips": (visor.find, lambda root: lay.visor(root, zipped=True)),
    "visor-folders": (visor.find, lambda root: lay.visor(root, zipped=False)),
    "clevr": (clevr.find, lay.clevr),
    "food101": (food101.find, lay.food101),
    "pets": (pets.find, lay.pets),
    "resisc45": (resisc45.find, lay.resisc45),
    "sun397": (sun397.find, lay.sun397),
}


def read(data: Published, split: str) -> dict[str, Record]:
    (found,) = [each for each in data.splits if each.name == split]
    records = [pair for unit in found.units for pair in unit]
    assert len(dict(records)) == len(records), "a key comes twice"
    return dict(records)


def same(a: dict[str, Record], b: dict[str, Record]) -> bool:
    """Whether all is equal, in the same order; NaN equals itself here."""
    return repr(list(a.items())) == repr(list(b.items()))


def expected(data: Published) -> dict[str, int | None]:
    return {split.name: split.expected for split in data.splits}


# --- all of them ---


@pytest.mark.parametrize("name", LAYOUTS)
def test_units_pickle_small_and_read_the_same_again(name: str, tmp_path: Path):
    find, build = LAYOUTS[name]
    data = find(str(build(tmp_path)))
    assert data.licence
    for split in data.splits:
        names = [unit.name for unit in split.units]
        assert len(set(names)) == len(names) > 0
        for unit in split.units:
            assert isinstance(unit, Unit)
            stored = pickle.dumps(unit)
            assert len(stored) < 4000
            assert repr(list(unit)) == repr(list(unit)) == repr(list(pickle.loads(stored)))
        for key, record in read(data, split.name).items():
            assert key.isprintable()
            assert reading.inside(key)
            assert record.image == picture(_base(key), "PNG" if key.endswith("png") else "JPEG")


def _base(key: str) -> str:
    """The name that the picture of a key was made from."""
    base = key.rpartition("/")[2]
    if "_frame_" in base and base[1] == "_":  # a segment's frame
        return base[2:] + ".jpg"
    return base if "." in base else f"{base}.jpg"


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_through_fsspec(name: str, tmp_path: Path):
    find, build = LAYOUTS[name]
    root = build(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(f"{root}/", f"/{name}/", recursive=True)
    try:
        near, far = find(str(root)), find(f"memory://{name}")
        assert near[1:] == far[1:]
        assert expected(near) == expected(far)
        for split in near.splits:
            assert same(read(near, split.name), read(far, split.name))
    finally:
        memory.rm(f"/{name}", recursive=True)


def test_every_module_tells_its_layout_and_the_terms():
    for _, name, _ in pkgutil.iter_modules(published.__path__):
        module = importlib.import_module(f"{published.__name__}.{name}")
        assert "Terms:" in module.ABOUT or name == "any"
        assert max(map(len, module.ABOUT.splitlines())) <= 120


@pytest.mark.parametrize(
    "find", list(dict.fromkeys(find for find, _ in LAYOUTS.values())), ids=lambda find: find.__module__[-9:]
)
def test_a_folder_with_something_else_is_one_sentence(find: Find, tmp_path: Path):
    write(tmp_path / "holiday.txt", "x")
    for src in (
        str(tmp_path),
        str(tmp_path / "missing"),
        str(tmp_path / "holiday.txt"),
        "nope://x",
        "memory://nothing",
    ):
        with pytest.raises(LayoutError) as error:
            find(src)
        assert str(error.value).isprintable()
    with pytest.raises(LayoutError, match="has no"):
        find(str(tmp_path))


# --- ImageNet ---


@pytest.mark.parametrize("build", [lay.imagenet_folders, lay.imagenet_tars, lay.imagenet_kaggle])
def test_imagenet_is_the_same_in_every_layout(build: Callable[[Path], Path], tmp_path: Path):
    data = imagenet.find(str(build(tmp_path)))
    assert data.classes == lay.WORDS
    assert expected(data) == {"train": 1_281_167, "val": 50_000}
    assert read(data, "train") == {
        f"{wnid}/{name}": Record(picture(name), label)
        for label, wnid in enumerate(lay.WNIDS)
        for name in lay.train_names(wnid)
    }
    val = [Record(picture(name), label) for name, label in zip(lay.VAL_NAMES, lay.VAL_LABELS, strict=True)]
    assert list(read(data, "val").items()) == list(zip(lay.VAL_NAMES, val, strict=True))


def test_imagenet_is_numbered_by_its_folders_when_nothing_names_them(tmp_path: Path):
    lay.imagenet_folders(tmp_path)
    os.remove(tmp_path / "LOC_synset_mapping.txt")
    data = imagenet.find(str(tmp_path))
    assert data.classes == lay.WNIDS
    assert {record.label for record in read(data, "train").values()} == {0, 1, 2}


def test_imagenet_of_val_alone_is_numbered_by_its_labels(tmp_path: Path):
    lay.imagenet_kaggle(tmp_path)
    os.remove(tmp_path / "LOC_synset_mapping.txt")
    shutil.rmtree(tmp_path / "ILSVRC/Data/CLS-LOC/train")
    data = imagenet.find(str(tmp_path))
    assert data.classes == lay.WNIDS
    assert tuple(record.label for record in read(data, "val").values()) == lay.VAL_LABELS


def test_imagenet_of_some_classes_does_not_guess_the_numbers_of_others(tmp_path: Path):
    lay.imagenet_kaggle(tmp_path)
    os.remove(tmp_path / "LOC_synset_mapping.txt")
    shutil.rmtree(tmp_path / "ILSVRC/Data/CLS-LOC/train/n01440764")
    with pytest.raises(LayoutError, match="pictures of n01440764, which is none of the 2 classes: add the devkit"):
        imagenet.find(str(tmp_path))


def test_imagenet_reads_the_tars_of_the_classes(tmp_path: Path):
    for wnid in lay.WNIDS:
        write(tmp_path / f"train/{wnid}.tar", lay.tar_of(lay.train_names(wnid)))
    lay.imagenet_folders(tmp_path / "folders")
    assert read(imagenet.find(str(tmp_path)), "train") == read(imagenet.find(str(tmp_path / "folders")), "train")


def test_imagenet_needs_the_labels_of_a_flat_val(tmp_path: Path):
    lay.imagenet_kaggle(tmp_path)
    os.remove(tmp_path / "LOC_val_solution.csv")
    with pytest.raises(
        LayoutError, match=r"no ILSVRC2012_devkit_t12\.tar\.gz or LOC_val_solution\.csv; there is: ILSVRC/"
    ):
        imagenet.find(str(tmp_path))
    write(tmp_path / "LOC_val_solution.csv", "ImageId,Label\na,b\n")
    with pytest.raises(LayoutError, match="has no column PredictionString"):
        imagenet.find(str(tmp_path))


def test_imagenet_refuses_what_it_cannot_number(tmp_path: Path):
    lay.imagenet_folders(tmp_path)
    for split in ("val", "train"):
        lay.put(tmp_path, f"{split}/n99999999/a.JPEG")
        with pytest.raises(LayoutError, match="n99999999, which is none of the 3 classes"):
            imagenet.find(str(tmp_path))
        shutil.rmtree(tmp_path / f"{split}/n99999999")


def test_imagenet_takes_an_unpacked_devkit_too(tmp_path: Path):
    lay.imagenet_kaggle(tmp_path)
    for name in ("LOC_val_solution.csv", "LOC_synset_mapping.txt"):
        os.remove(tmp_path / name)
    for name, data in lay.devkit().items():
        write(tmp_path / "ILSVRC2012_devkit_t12" / name, data)
    data = imagenet.find(str(tmp_path))
    assert data.classes == lay.WORDS
    assert tuple(record.label for record in read(data, "val").values()) == lay.VAL_LABELS


def bomb() -> bytes:
    """Few bytes that unpack to many, and else as they should be."""
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": lay.synsets(), "more": np.zeros(devkit.MAX_META, np.uint8)}, do_compression=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "meta", [b"MATLAB 5.0 MAT-file" + bytes(200), b"", lay.devkit()["data/meta.mat"][:500], bomb()]
)
def test_imagenet_with_a_broken_devkit(meta: bytes, tmp_path: Path):
    lay.imagenet_tars(tmp_path)
    files = {**lay.devkit(), "data/meta.mat": meta}
    members = [(f"ILSVRC2012_devkit_t12/{name}", data) for name, data in files.items()]
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(packed(members, "w:gz"))
    with pytest.raises(LayoutError, match=r"meta\.mat cannot be read: download it again"):
        imagenet.find(str(tmp_path))


def test_imagenet_gives_what_is_whole_of_a_cut_off_download(tmp_path: Path):
    lay.imagenet_tars(tmp_path)
    train = tmp_path / "ILSVRC2012_img_train.tar"
    first = len(lay.tar_of(lay.train_names(lay.WNIDS[2])))
    os.truncate(train, 512 + first + 512 + 2200)  # inside the second picture of the second class
    found = read(imagenet.find(str(tmp_path)), "train")
    assert {key: record.image for key, record in found.items()} == {
        "n01443537/n01443537_10026.JPEG": picture("n01443537_10026.JPEG"),
        "train/n01443537: cut off or damaged after member 1": b"",
        **{f"n01484850/{name}": picture(name) for name in lay.train_names("n01484850")},
    }
    val = tmp_path / "ILSVRC2012_img_val.tar"
    os.truncate(val, 4 * 512 + 100)  # inside the second picture
    images = [bool(record.image) for record in read(imagenet.find(str(tmp_path)), "val").values()]
    assert images.count(False) == 1


# --- captions ---


def test_cc12m_takes_the_caption_from_the_text_else_the_json(tmp_path: Path):
    data = cc12m.find(str(lay.cc12m(tmp_path)))
    assert expected(data) == {"train": None}
    assert {key: record.captions for key, record in read(data, "train").items()} == {
        "00000/000000000": ("a picture, 000000000",),
        "00000/000000001": ("a picture, 000000001",),
        "00001/000010000": ("caption 000010000",),
        "00001/000010001": ("caption 000010001",),
    }


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_compressed_tars_are_read_too(suffix: str, tmp_path: Path):
    plain = cc12m.find(str(lay.cc12m(tmp_path / "plain")))
    mode = {"g": "w:gz", "b": "w:bz2", "x": "w:xz"}[suffix.split(".")[-1].removeprefix("t")[0]]
    members = [(name, data) for name, data in _members(tmp_path / "plain/00000.tar")]
    write(tmp_path / f"packed/00000{suffix}", packed(members, mode))
    found = read(cc12m.find(str(tmp_path / "packed")), "train")
    assert same(found, {key: value for key, value in read(plain, "train").items() if key.startswith("00000/")})


def _members(path: Path) -> list[tuple[str, bytes]]:
    with path.open("rb") as file:
        return [(m.name, m.data) for m in archives.entries(file, lambda name: 1 << 20) if isinstance(m, archives.Entry)]


def test_webdataset_carries_every_annotation_and_the_splits(tmp_path: Path):
    told = {
        "boxes": [[0.1, 0.2, 0.5, 1.0]],
        "labels": [3],
        "iscrowd": [1],
        "count": 4,
        "distance": 2.5,
        "verb": 1,
        "noun": 2,
    }
    members = [
        ("./a/one.JPG", picture("one.JPG")),
        ("./a/one.cls", b"1\n"),
        ("./a/one.txt", b"first\n\nsecond \xff\n"),
        ("./a/one.json", json.dumps(told).encode()),
        ("two.png", picture("two.png", "PNG")),
        ("two.cls", b"cat"),
        ("four.jpg", picture("four.jpg")),
        ("four.json", b"{"),
        ("three.txt", b"no picture"),
        ("two.png", b"again"),
    ]
    write(tmp_path / "train/s.tar", packed(members))
    write(tmp_path / "val/s.tar", packed(members[:1]))
    write(tmp_path / "classes.txt", "0\tn01440764\ttench\n1\tgoldfish\n")
    data = webdataset.find(str(tmp_path))
    assert data.classes == ("tench", "goldfish")
    found = read(data, "train")
    two, four = "s/two: its class is no number from 0 to 999999: b'cat'", "s/four: its .json cannot be parsed"
    assert list(found) == ["s/a/one", two, four, "s/three", "s/two"]
    one = found["s/a/one"]
    assert (one.label, one.captions, one.count, one.distance, one.verb, one.noun) == (
        1,
        ("first", "second \N{REPLACEMENT CHARACTER}"),
        4,
        2.5,
        1,
        2,
    )
    np.testing.assert_allclose(one.objects.boxes, [[0.1, 0.2, 0.5, 1.0]], atol=1e-6)
    assert (one.objects.labels.tolist(), one.objects.flags.tolist()) == ([3], [CROWD])
    assert [key for key, record in found.items() if not record.image] == [two, four, "s/three"]
    assert len(read(data, "val")) == 1


def test_hostile_tars_are_counted_and_go_nowhere(tmp_path: Path):
    members = [
        ("../../out.jpg", picture("out.jpg")),
        ("/etc/out.jpg", picture("out.jpg")),
        ("a/../../b.jpg", picture("out.jpg")),
        ("good.jpg", picture("good.jpg")),
    ]
    write(tmp_path / "0.tar", packed(members))
    write(tmp_path / "1.tar", b"not a tar" * 100)
    write(tmp_path / "2.tar", b"")
    write(tmp_path / "3.tar", packed(members[3:])[:1000])
    write(tmp_path / "4.tar", packed([members[3], ("late.jpg", b"x" * 600)])[:2000])
    write(tmp_path / "5.tar.gz", packed(members[3:] * 50, "w:gz")[:-50])
    found = read(webdataset.find(str(tmp_path)), "train")
    refused = [key for key, record in found.items() if not record.image]
    assert [key.split(",")[0] for key in refused[:3]] == [f"0/member {i} refused" for i in (1, 2, 3)]
    assert [key.split("/")[0] for key in refused[3:]] == ["1", "2", "3", "4", "5"]
    assert [key for key, record in found.items() if record.image][:2] == ["0/good", "4/good"]


def test_links_and_enormous_members_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("link.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert read(webdataset.find(str(tmp_path)), "train") == {}
    monkeypatch.setitem(webdataset.LIMITS, "image", 10)
    write(tmp_path / "0.tar", packed([("large.jpg", picture("large.jpg")), ("small.jpg", b"0123456789")]))
    found = read(webdataset.find(str(tmp_path)), "train")
    assert {key: record.image for key, record in found.items()} == {"0/large": b"", "0/small": b"0123456789"}


def test_a_name_that_would_fill_the_memory_ends_the_tar(tmp_path: Path):
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
    data = picture("good.jpg")
    whole = packed([("good.jpg", data)])[: 512 + 512 * -(-len(data) // 512)]
    write(tmp_path / "0.tar", whole + long.tobuf() + b"x" * (2 << 20) + packed([("late.jpg", data)]))
    found = read(webdataset.find(str(tmp_path)), "train")
    assert [(key, record.image) for key, record in found.items()] == [
        ("0/good", data),
        ("0/cut off or damaged after member 1", b""),
    ]


def test_names_without_end_do_not_end_the_work(tmp_path: Path):
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 512
    write(tmp_path / "0.tar", (long.tobuf() + b"x" * 512) * 5000)
    (only,) = read(webdataset.find(str(tmp_path)), "train").items()
    assert only[0].startswith("0/no readable tar, maximum recursion depth exceeded")


# --- COCO ---


def test_coco_boxes_flags_and_captions(tmp_path: Path):
    data = coco.find(str(lay.coco(tmp_path)))
    assert expected(data) == {"train": 118_287, "val": 5_000}
    assert data.vocabulary.objects == ("person", "dog", "bottle")
    found = read(data, "train")
    assert list(found) == ["000000000009.jpg", "000000000139.jpg", "000000000285.jpg"]
    nine = found["000000000009.jpg"]
    np.testing.assert_allclose(
        nine.objects.boxes, [[400.25 / 480, 600.5 / 640, 1.0, 1.0], [0.1, 0.1, 0.3, 0.3]], atol=1e-6
    )
    assert nine.objects.labels.tolist() == [0, 1]
    assert nine.objects.flags.tolist() == [CROWD, 0]
    assert nine.captions == ("A dog.", "A dog and a person.")
    assert (nine.label, nine.count) == (-1, -1)
    assert found["000000000139.jpg"].objects.boxes.tolist() == [[0, 0, 1, 1]]
    empty = found["000000000285.jpg"]
    assert (empty.objects.boxes.shape, empty.objects.flags.shape, empty.captions) == ((0, 4), (0,), ())


def test_coco_without_captions_or_with_images_folder(tmp_path: Path):
    lay.coco(tmp_path)
    os.remove(tmp_path / "annotations/captions_train2017.json")
    (tmp_path / "images").mkdir()
    (tmp_path / "train2017").rename(tmp_path / "images/train2017")
    found = read(coco.find(str(tmp_path)), "train")
    assert all(record.image and not record.captions for record in found.values())
    os.remove(tmp_path / "images/train2017/000000000139.jpg")
    found = read(coco.find(str(tmp_path)), "train")
    assert [key for key, record in found.items() if not record.image] == ["000000000139.jpg"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.pop("images"), "is not as COCO writes it: KeyError"),
        (lambda table: table["annotations"][0].update(bbox=[1, 2, 3]), "is not as COCO writes it"),
        (lambda table: table["annotations"][0].update(category_id=5), "is not as COCO writes it"),
        (lambda table: table["images"][1].update(height=0), "is not as COCO writes it: ZeroDivisionError"),
        (lambda table: table["annotations"].append(None), "is not as COCO writes it"),
        (lambda table: table["categories"].append({"id": 90, "name": "toothbrush"}), "do not have the same categories"),
    ],
)
def test_coco_with_a_damaged_table_is_one_sentence(change: Callable, said: str, tmp_path: Path):
    lay.coco(tmp_path)
    table, _ = lay.coco_tables()
    change(table)
    write(tmp_path / "annotations/instances_val2017.json", json.dumps(table))
    with pytest.raises(LayoutError, match=said) as error:
        coco.find(str(tmp_path))
    assert str(error.value).isprintable()


def test_coco_that_is_half_there_says_what_is_missing(tmp_path: Path):
    lay.coco(tmp_path)
    write(tmp_path / "annotations/instances_val2017.json", '{"images": [')
    with pytest.raises(LayoutError, match=r"instances_val2017\.json cannot be parsed as JSON"):
        coco.find(str(tmp_path))
    os.remove(tmp_path / "annotations/instances_val2017.json")
    with pytest.raises(
        LayoutError, match=r"has no annotations/instances_val2017\.json; in annotations there is: captions_train2017"
    ):
        coco.find(str(tmp_path))


def test_a_table_cannot_point_out_of_the_folder(tmp_path: Path):
    lay.put(tmp_path, "secret.jpg")
    lay.coco(tmp_path / "data")
    table, _ = lay.coco_tables()
    table["images"][0]["file_name"] = "../../secret.jpg"
    write(tmp_path / "data/annotations/instances_val2017.json", json.dumps(table))
    assert (tmp_path / "data/val2017/../../secret.jpg").is_file()
    found = read(coco.find(str(tmp_path / "data")), "val")
    assert [key for key, record in found.items() if not record.image] == ["picture 0 refused, its path leads out"]


# --- kitchens ---


@pytest.mark.parametrize("tars", [False, True])
def test_epic_kitchens_takes_frames_of_every_segment(tars: bool, tmp_path: Path):
    data = epic_kitchens.find(str(lay.epic_kitchens(tmp_path, tars)))
    assert expected(data) == {"train": 268_868, "val": 9_668}
    assert (data.vocabulary.verbs, data.vocabulary.nouns) == (("take", "open"), ("tap", "plate", "door"))
    found = read(data, "train")
    frames = [8 + 194 // 8, 8 + 3 * 194 // 8, 8 + 5 * 194 // 8, 8 + 7 * 194 // 8]
    assert [key for key in found if key.startswith("P01_01_0")] == [
        f"P01_01_0/{k}_frame_{n:010d}" for k, n in enumerate(frames)
    ]
    assert len([key for key in found if key.startswith("P01_01_1")]) == 4
    first = found["P01_01_0/0_frame_0000000032"]
    assert (first.verb, first.noun, first.captions) == (1, 2, ("open door, slowly",))
    assert first.image == picture("frame_0000000032.jpg")
    assert found["P01_01_1/0_frame_0000000100"].captions == ()
    assert list(read(data, "val")) == ["P01_11_0/0_frame_0000000057"]


def test_epic_kitchens_counts_missing_frames(tmp_path: Path):
    for tars in (True, False):
        root = lay.epic_kitchens(tmp_path / str(tars), tars)
        if tars:
            write(root / "P01/rgb_frames/P01_01.tar", lay.tar_of([f"frame_{i:010d}.jpg" for i in range(1, 50)]))
        else:
            for i in range(50, 210):
                os.remove(root / f"P01/rgb_frames/P01_01/frame_{i:010d}.jpg")
        found = read(epic_kitchens.find(str(root)), "train")
        assert [key for key, record in found.items() if record.image] == ["P01_01_0/0_frame_0000000032"]
        assert len(found) == 8


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("start_frame", "start", "has no column start_frame"),
        (",8,202,", ",eight,202,", "line 2: start_frame is no number: eight"),
        (",8,202,", ",208,202,", "line 2: the frames are not in order"),
        ("P01,P01_01", "P01,../P01_01", "line 2: no such film"),
        (",v,1,n", ",v,97,n", "lack 97"),
        (",n,2,\"['a', 'b']\",\"[0, 1]\"", "", "line 2: it ends early"),
    ],
)
def test_epic_kitchens_with_a_damaged_table_is_one_sentence(old: str, new: str, said: str, tmp_path: Path):
    table = lay.epic_kitchens(tmp_path, tars=False) / "EPIC_100_train.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(LayoutError, match=said) as error:
        epic_kitchens.find(str(tmp_path))
    assert str(error.value).isprintable()


@pytest.mark.parametrize("zipped", [False, True])
def test_visor_boxes_are_the_extents_of_outlines(zipped: bool, tmp_path: Path):
    data = visor.find(str(lay.visor(tmp_path, zipped)))
    assert expected(data) == {"train": 32_857, "val": 7_747}
    names = data.vocabulary.objects
    assert (len(names), names[1], names[300], names[299]) == (301, "spoon", "hand:left", "299")
    found = read(data, "train")
    assert list(found) == [f"P01_01/P01_01_frame_{i:010d}.jpg" for i in (98, 140)]
    objects = found["P01_01/P01_01_frame_0000000140.jpg"].objects
    np.testing.assert_allclose(objects.boxes, [[0.1, 0.1, 0.5, 970 / 1920], [0, 0, 1, 1]], atol=1e-6)
    assert (objects.labels.tolist(), objects.flags) == ([300, 1], None)
    assert found["P01_01/P01_01_frame_0000000098.jpg"].objects.boxes.shape == (0, 4)


def test_visor_counts_what_it_cannot_use(tmp_path: Path):
    base = lay.visor(tmp_path, zipped=True) / "GroundTruth-SparseAnnotations"
    write(base / "annotations/train/P03_03.json", "{")
    frames = [
        ({"name": "../P01_01_frame_0000000098.jpg"}, []),
        ({"name": "P02_107_frame_0000000098.jpg"}, [{"class_id": 1000, "segments": []}]),
        ({"name": "P02_107_frame_0000000140.jpg"}, [{"class_id": 1, "segments": [[1, 2, 3]]}]),
        ({"name": "missing.jpg"}, []),
    ]
    table = {"video_annotations": [{"image": image, "annotations": found} for image, found in frames]}
    write(base / "annotations/val/P02_107.json", json.dumps(table))
    (base / "rgb_frames/train/P01/P01_01.zip").write_bytes(b"PK\x03\x04 not a zip")
    data = visor.find(str(tmp_path))
    train, val = read(data, "train"), read(data, "val")
    assert not any(record.image for record in [*train.values(), *val.values()])
    assert (len(train), len(val)) == (3, 4)
    assert all(map(reading.inside, [*train, *val]))
    assert "train/P03_03.json refused, it is not as VISOR writes it: LayoutError" in train


# --- the transfer sets ---


def test_clevr_counts_and_distances(tmp_path: Path):
    data = clevr.find(str(lay.clevr(tmp_path)))
    assert expected(data) == {"train": 70_000, "val": 15_000, "test": 15_000}
    found = read(data, "train")
    assert [(key, record.count, record.distance) for key, record in found.items()] == [
        ("CLEVR_train_000000.png", 3, 7.25),
        ("CLEVR_train_000001.png", 4, 8.0),
    ]
    test = read(data, "test").values()
    assert all(record.image and record.count == -1 and np.isnan(record.distance) for record in test)
    assert same(read(clevr.find(str(tmp_path / "CLEVR_v1.0")), "val"), read(data, "val"))


def test_clevr_with_damaged_scenes(tmp_path: Path):
    scenes = lay.clevr(tmp_path) / "CLEVR_v1.0/scenes/CLEVR_val_scenes.json"
    for content, said in (
        ('{"scenes": [{"objects": []}]}', "is not as CLEVR writes it: KeyError"),
        ('{"scenes": [{"image_filename": "a.png", "objects": [{"pixel_coords": [1]}]}]}', "not as CLEVR writes it"),
        ("", "cannot be parsed as JSON"),
        ("[" * 100_000, "cannot be parsed as JSON"),
    ):
        scenes.write_text(content)
        with pytest.raises(LayoutError, match=said):
            clevr.find(str(tmp_path))


def test_food101(tmp_path: Path):
    data = food101.find(str(lay.food101(tmp_path)))
    assert data.classes == ("apple_pie", "baklava")
    assert expected(data) == {"train": 75_750, "test": 25_250}
    assert {key: record.label for key, record in read(data, "train").items()} == {
        "apple_pie/1005649.jpg": 0,
        "baklava/77.jpg": 1,
    }
    write(tmp_path / "food-101/meta/test.txt", "curry/1\n")
    with pytest.raises(LayoutError, match="names curry/1"):
        food101.find(str(tmp_path))


def test_pets_classes_and_heads(tmp_path: Path):
    data = pets.find(str(lay.pets(tmp_path)))
    assert data.classes == ("Abyssinian", "great_pyrenees")
    assert data.vocabulary.objects == ("head",)
    assert expected(data) == {"train": 3_680, "test": 3_669}
    train, test = read(data, "train"), read(data, "test")
    assert {key: record.label for key, record in test.items()} == {"Abyssinian_201.jpg": 0, "great_pyrenees_201.jpg": 1}
    head = train["Abyssinian_100.jpg"].objects
    np.testing.assert_allclose(head.boxes, [[0.1, 0.25, 0.5, 0.75]], atol=1e-6)
    assert (head.labels.tolist(), head.flags.tolist()) == ([0], [TRUNCATED])
    assert train["great_pyrenees_2.jpg"].objects is None


def test_pets_with_damaged_annotations(tmp_path: Path):
    root = lay.pets(tmp_path)
    xml = (root / "annotations/xmls/Abyssinian_100.xml").read_text()
    bomb = '<!DOCTYPE x [<!ENTITY a "1">]>' + xml.replace("<truncated>1", "<truncated>&a;")
    for xml in (bomb, "<annotation>", "<annotation/>", "", "<annotation><size><width>x</width></size></annotation>"):
        write(root / "annotations/xmls/Abyssinian_100.xml", xml)
        found = read(pets.find(str(root)), "train")["Abyssinian_100.jpg"]
        assert (found.image, found.objects) == (picture("Abyssinian_100.jpg"), None)
    write(root / "annotations/test.txt", "Abyssinian_201 2 1 1\n")
    with pytest.raises(LayoutError, match="class 2 is both great_pyrenees and Abyssinian"):
        pets.find(str(root))
    write(root / "annotations/test.txt", "Abyssinian_201\n")
    with pytest.raises(LayoutError, match="not such as Abyssinian_1 1 1 1"):
        pets.find(str(root))


def test_resisc45_is_split_by_number(tmp_path: Path):
    data = resisc45.find(str(lay.resisc45(tmp_path)))
    assert data.classes == ("airplane", "basketball_court")
    assert expected(data) == {"train": 18_900, "val": 6_300, "test": 6_300}
    numbers = {split.name: [int(key[-7:-4]) for key in read(data, split.name)] for split in data.splits}
    assert numbers == {"train": [1, 2, 3, 6, 7, 8] * 2, "val": [4, 9] * 2, "test": [5, 10] * 2}
    assert {(key.split("/")[0], record.label) for key, record in read(data, "val").items()} == {
        ("airplane", 0),
        ("basketball_court", 1),
    }


def test_sun397_reads_the_first_partition(tmp_path: Path):
    data = sun397.find(str(lay.sun397(tmp_path)))
    assert data.classes == ("abbey", "apartment_building/outdoor", "youth_hostel")
    assert expected(data) == {"train": 19_850, "test": 19_850}
    found = read(data, "train")
    assert {key: record.label for key, record in found.items()} == {
        "a/abbey/sun_a.jpg": 0,
        "a/apartment_building/outdoor/sun_b.jpg": 1,
        "y/youth_hostel/sun_c.jpg": 2,
    }
    write(tmp_path / "Partitions/Testing_01.txt", "/a/abbey/../../../x.jpg\n")
    with pytest.raises(LayoutError, match="of no class"):
        sun397.find(str(tmp_path))


@pytest.mark.parametrize("where", ["SUN397", "SUN397/Partitions", ".", "Partitions"])
def test_sun397_finds_each_table_by_itself(where: str, tmp_path: Path):
    root = lay.sun397(tmp_path)
    want = read(sun397.find(str(root)), "train")
    for table in ("SUN397/ClassName.txt", "Partitions/Training_01.txt"):
        place = root / where / Path(table).name
        place.parent.mkdir(exist_ok=True)
        (root / table).rename(place)
        assert same(read(sun397.find(str(root)), "train"), want)
        place.rename(root / table)
    (root / "Partitions/Training_01.txt").unlink()
    with pytest.raises(LayoutError, match=r"SUN397 has no Training_01\.txt or Partitions/Training_01\.txt"):
        sun397.find(str(root))


# --- reading ---


class Flaky(MemoryFileSystem):
    """Far away: for a moment it gives errors."""

    error: Exception | None = None

    def cat_file(self, path, start=None, end=None, **options):
        if self.error:
            raise self.error
        return super().cat_file(path, start, end, **options)


@pytest.mark.parametrize("error", [TimeoutError(), OSError("503"), PermissionError("rate"), RuntimeError("their own")])
def test_a_moment_without_the_store_is_no_picture_lost(error: Exception, tmp_path: Path):
    store = Flaky()
    store.pipe({f"/flaky/{name}.jpg": picture("a.jpg") for name in "ab"})
    try:
        (unit,) = units.in_units("train", reading.AnyFolder(store, "/flaky"), [units.Item("a", "a.jpg")])
        data = Published((Split("train", (unit,), 1),))
        store.error = error
        options = {"name": "n", "source": "s", "short_side": 0, "quality": 95, "workers": 1}
        with pytest.raises(PrepareError, match=r"the first: train/00000: /flaky/a\.jpg cannot be read: ."):
            prepare(data, tmp_path, **options)
        store.error = None
        assert prepare(data, tmp_path, **options).splits["train"].pictures == 1
        store.rm("/flaky/a.jpg")
        assert [record.image for _, record in unit] == [b""]
    finally:
        store.rm("/flaky", recursive=True)


def test_a_picture_that_may_not_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a.jpg", b"x")
    folder = reading.open_folder(str(tmp_path))

    def refuse(error: OSError) -> bytes:
        def cat_file(self, path, start=None, end=None):
            raise error

        monkeypatch.setattr(type(folder.fs), "cat_file", cat_file)
        return folder.picture("a.jpg")

    assert refuse(PermissionError(errno.EACCES, "no")) == b""
    with pytest.raises(OSError, match=r"a\.jpg cannot be read: .*broken disk"):
        refuse(OSError(errno.EIO, "broken disk"))
    assert [folder.picture(name) for name in ("a\0b.jpg", "a" * 300, "a.jpg/b")] == [b""] * 3


def test_a_tar_that_cannot_be_read_for_a_moment_is_not_cut_off(tmp_path: Path):
    """Whatever a file system's own library raises then."""

    class File(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 10_000:
                raise RuntimeError("connection reset")
            return super().read(size)

    with pytest.raises(OSError, match="connection reset"):
        list(archives.entries(File(packed([(f"{i}.jpg", bytes(600)) for i in range(30)])), lambda name: 1000))


def test_keys_of_a_class_tar_come_once(tmp_path: Path):
    names = [f"{i}/{lay.WNIDS[0]}_1.JPEG" for i in range(3)] + [f"{lay.WNIDS[0]}_1.JPEG#2"]
    write(tmp_path / f"train/{lay.WNIDS[0]}.tar", packed([(name, picture(name)) for name in names]))
    key = f"{lay.WNIDS[0]}/{lay.WNIDS[0]}_1.JPEG"
    assert list(read(imagenet.find(str(tmp_path)), "train")) == [key, f"{key}#2", f"{key}#3", f"{key}#2#2"]


def test_a_table_or_a_tar_that_is_a_pipe_is_not_waited_for(tmp_path: Path):
    lay.cc12m(tmp_path)
    os.mkfifo(tmp_path / "classes.txt")
    with pytest.raises(LayoutError, match=r"classes\.txt cannot be read: .*not a regular file"):
        webdataset.find(str(tmp_path))
    (tmp_path / "classes.txt").unlink()
    *_, unit = webdataset.find(str(tmp_path)).splits[0].units
    (tmp_path / "00001.tar").unlink()
    os.mkfifo(tmp_path / "00001.tar")
    with pytest.raises(OSError, match="not a regular file"):
        list(unit)


def test_a_picture_that_is_no_plain_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("nowhere", tmp_path / "link.jpg")
    (tmp_path / "folder.jpg").mkdir()
    write(tmp_path / "good.jpg", b"0123456789")
    os.symlink("good.jpg", tmp_path / "good-link.jpg")
    folder = reading.open_folder(str(tmp_path))
    assert [folder.picture(name) for name in ("pipe.jpg", "link.jpg", "folder.jpg", "gone.jpg")] == [b""] * 4
    assert [folder.picture(name) for name in ("good.jpg", "good-link.jpg")] == [b"0123456789"] * 2
    assert [folder.picture("good.jpg", 2, end) for end in (5, 11)] == [b"234", b""]
    assert folder.files() == ["good-link.jpg", "good.jpg", "link.jpg"]
    monkeypatch.setattr(reading, "MAX_BYTES", 9)
    assert folder.picture("good.jpg") == b""


@pytest.mark.parametrize("folders", [True, False], ids=["folder-entries", "files-alone"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_zip_need_not_be_unpacked(name: str, folders: bool, tmp_path: Path):
    """Of the folder, and of what is in it: which of them a publisher packs is his to choose."""
    find, build = LAYOUTS[name]
    build(tmp_path / "a" / "b")
    near = find(str(tmp_path / "a" / "b"))
    lay.zip_of(tmp_path / "a" / "b", tmp_path / "in.zip", folders)
    lay.zip_of(tmp_path / "a", tmp_path / "out.zip", folders)
    for src in (f"zip://::{tmp_path}/in.zip", f"zip://b::{tmp_path}/out.zip"):
        far = find(src)
        assert far[1:] == near[1:]
        assert [(split.name, len(split.units)) for split in far.splits] == [
            (split.name, len(split.units)) for split in near.splits
        ]
        for split in near.splits:
            assert same(read(near, split.name), read(far, split.name))


def test_a_zip_with_something_else_is_one_sentence(tmp_path: Path):
    write(tmp_path / "in" / "holiday.txt", "x")
    lay.zip_of(tmp_path / "in", tmp_path / "x.zip", folders=False)
    with pytest.raises(LayoutError, match=r"^the top folder has no .*; there is: holiday\.txt$"):
        clevr.find(f"zip://::{tmp_path}/x.zip")
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(LayoutError, match=r"x\.zip cannot be opened: File is not a zip file"):
        clevr.find(f"zip://::{tmp_path}/x.zip")


def test_a_table_in_a_zip_that_cannot_be_unpacked_is_one_sentence(tmp_path: Path):
    """Encrypted, say: zipfile raises a RuntimeError."""
    lay.food101(tmp_path / "in")
    data = bytearray(lay.zip_of(tmp_path / "in", tmp_path / "x.zip", folders=False).read_bytes())
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(LayoutError, match=r"meta/classes\.txt cannot be read: .*encrypted"):
        food101.find(f"zip://::{tmp_path}/x.zip")


def test_damage_in_a_zip_costs_the_picture_that_it_hits(tmp_path: Path):
    shutil.make_archive(str(tmp_path / "food"), "zip", lay.food101(tmp_path / "unpacked"))
    data = (tmp_path / "food.zip").read_bytes()
    picture_at = data.index(b"\xff\xd8") + 300 if b"\xff\xd8" in data else data.index(b"1005649.jpg") + 100
    (tmp_path / "food.zip").write_bytes(data[:picture_at] + b"damage" + data[picture_at + 6 :])
    damaged = [record.image for record in read(food101.find(f"zip://::{tmp_path}/food.zip"), "train").values()]
    assert damaged.count(b"") == 1


class Store(MemoryFileSystem):
    """Lists a folder in itself, as object stores may."""

    def ls(self, path, detail=True, **options):
        return [
            {"name": path.rstrip("/") + "/", "size": 0, "type": "file"},
            *super().ls(path, detail=detail, **options),
        ]


def test_a_folder_is_not_in_itself():
    store = Store()
    store.pipe("/store/photos/a.jpg", b"x")
    try:
        folder = reading.AnyFolder(store, "/store/photos")
        assert (folder.files(), folder.below("photos").files()) == (["a.jpg"], ["a.jpg"])
    finally:
        store.rm("/store", recursive=True)


def test_units_are_of_bounded_size_and_keys_come_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(units, "UNIT", 3)
    folder = reading.open_folder(str(tmp_path))
    found = units.in_units("train", folder, [units.Item(f"{i % 8}.jpg", "x") for i in range(10)])
    assert [(unit.name, len(unit.items)) for unit in found] == [
        ("train/00000", 3),
        ("train/00001", 3),
        ("train/00002", 2),
    ]
    assert [item.key for unit in found for item in unit.items] == [f"{i}.jpg" for i in range(8)]


def test_a_class_folder_that_is_gone_is_an_error(tmp_path: Path):
    data = imagenet.find(str(lay.imagenet_folders(tmp_path)))
    (tmp_path / "train/n01440764").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        list(data.splits[0].units[0])


def test_spans_of_a_tar(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", {"x/one.jpg": b"abc", "two.jpg": b"defgh"})
    with path.open("rb") as file:
        found = archives.spans(file, "a.tar")
        assert [(place.name, place.end - place.start) for place in found] == [("x/one.jpg", 3), ("two.jpg", 5)]
        part = archives.Stretch(file, found[1])
        assert [part.read(2), part.read(100), part.read(100)] == [b"de", b"fgh", b""]
    with pytest.raises(LayoutError, match="is no uncompressed tar"), (Path(__file__)).open("rb") as file:
        archives.spans(file, "b.tar")
