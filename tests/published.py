"""Tiny data sets, each laid out as its publisher lays it out. Every picture is told by its name: see `picture`."""

import io
import json
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from pictures import encoded, write_tar
from scipy.io import savemat

WNIDS = ("n01440764", "n01443537", "n01484850")
WORDS = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark")
DEVKIT = {3: 0, 1: 1, 2: 2}
"""The devkit's numbers of the classes are not their places."""
TRUTH = (1, 3, 2, 1)
VAL_LABELS = (1, 0, 2, 1)


def picture(name: str, form: str = "JPEG") -> bytes:
    """A picture for every base name, and always the same."""
    level = zlib.crc32(name.rpartition("/")[2].encode()) % 256
    return encoded(np.full((9, 12, 3), level, np.uint8), form)


def put(root: Path, *names: str) -> None:
    for name in names:
        write(root / name, picture(name, "PNG" if name.endswith(".png") else "JPEG"))


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def zip_of(root: Path, target: Path, folders: bool) -> Path:
    """All below a folder, as many tools pack it, with an entry for each folder; others write none."""
    with zipfile.ZipFile(target, "w") as pack:
        for path in sorted(root.rglob("*")):
            if path.is_file() or folders:
                pack.write(path, path.relative_to(root))
    return target


def tar_of(names: list[str], prefix: str = "") -> bytes:
    return packed([(prefix + name, picture(name)) for name in names])


def packed(members: list[tuple[str, bytes]], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# --- ImageNet ---


def train_names(wnid: str) -> list[str]:
    return [f"{wnid}_{i}.JPEG" for i in (10026, 10027, 3)]


VAL_NAMES = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2, 3, 4)]


def imagenet_folders(root: Path) -> Path:
    """As most people have unpacked it."""
    for wnid in WNIDS:
        put(root, *(f"train/{wnid}/{name}" for name in train_names(wnid)))
    put(root, *(f"val/{WNIDS[label]}/{name}" for name, label in zip(VAL_NAMES, VAL_LABELS, strict=True)))
    write(root / "LOC_synset_mapping.txt", mapping())
    return root


def imagenet_tars(root: Path) -> Path:
    """As image-net.org gives it."""
    root.mkdir(parents=True, exist_ok=True)
    # Not in the order of their names, as in the official one.
    write_tar(
        root / "ILSVRC2012_img_train.tar", [(f"{wnid}.tar", tar_of(train_names(wnid))) for wnid in reversed(WNIDS)]
    )
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of(VAL_NAMES[::-1]))
    inside = [(f"ILSVRC2012_devkit_t12/{name}", data) for name, data in devkit().items()]
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(packed(inside, "w:gz"))
    return root


def imagenet_kaggle(root: Path) -> Path:
    """As Kaggle gives it."""
    base = root / "ILSVRC/Data/CLS-LOC"
    for wnid in WNIDS:
        put(base, *(f"train/{wnid}/{name}" for name in train_names(wnid)))
    put(base, *(f"val/{name}" for name in VAL_NAMES))
    write(root / "LOC_synset_mapping.txt", mapping())
    rows = [
        f"{name[:-5]},{WNIDS[i]} 1 2 3 4 {WNIDS[i]} 5 6 7 8 " for name, i in zip(VAL_NAMES, VAL_LABELS, strict=True)
    ]
    write(root / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n")
    return root


def mapping() -> str:
    return "".join(f"{wnid} {words}\n" for wnid, words in zip(WNIDS, WORDS, strict=True))


def synsets() -> np.ndarray:
    """The devkit's table, in the order of its own numbers; after the classes come what they are kinds of."""
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children"]
    table = np.zeros((len(DEVKIT) + 1, 1), [(field, object) for field in fields])
    rows = [(number, WNIDS[i], WORDS[i], "a fish", 0) for number, i in sorted(DEVKIT.items())]
    for i, row in enumerate([*rows, (1001, "n00000001", "animal", "what lives", 3)]):
        table[i, 0] = row
    return table


def devkit() -> dict[str, bytes]:
    mat = io.BytesIO()
    savemat(mat, {"synsets": synsets()})
    truth = "".join(f"{number}\n" for number in TRUTH)
    return {
        "data/meta.mat": mat.getvalue(),
        "data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
        "readme.txt": b"not read",
    }


# --- captions ---


def cc12m(root: Path) -> Path:
    """As img2dataset writes it: the second tar has no caption but in the json."""
    for shard in (0, 1):
        members: list[tuple[str, bytes]] = []
        for i in range(2):
            key = f"{shard:05d}{i:04d}"
            told = {"caption": f"caption {key}", "url": "https://example.org/a.jpg", "status": "success", "width": 12}
            members += [(f"{key}.jpg", picture(f"{key}.jpg")), (f"{key}.json", json.dumps(told).encode())]
            members += [(f"{key}.txt", f"a picture, {key}".encode())] * (shard == 0)
        write(root / f"{shard:05d}.tar", packed(members))
        write(root / f"{shard:05d}_stats.json", "{}")
    return root


# --- boxes ---

COCO_CATEGORIES = [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


def coco_tables() -> tuple[dict, dict]:
    """Instances and captions of three pictures; the last has neither."""
    names = ("000000000139.jpg", "000000000009.jpg", "000000000285.jpg")
    images = [
        {"id": id, "file_name": name, "width": 640, "height": 480, "coco_url": "x"}
        for id, name in zip((139, 9, 285), names, strict=True)
    ]
    boxes = [
        (7, 9, 18, [64.0, 48.0, 128.0, 96.0], 0),
        (3, 9, 1, [600.5, 400.25, 80.0, 100.0], 1),  # sticks out
        (5, 9, 44, [10.0, 10.0, 0.0, 20.0], 0),  # has no area
        (4, 139, 44, [0.0, 0.0, 640.0, 480.0], 0),
    ]
    instances = {
        "info": {"year": 2017},
        "images": images,
        "annotations": [
            {"id": id, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd, "area": 1.0}
            | {"segmentation": [[1.0, 2.0, 3.0]]}
            for id, image, category, box, crowd in boxes
        ],
        "categories": list(COCO_CATEGORIES),
    }
    said = [(21, 9, "A dog and\na person. "), (20, 9, "A dog."), (25, 139, "A bottle.")]
    captions = {
        "images": images,
        "annotations": [dict(zip(("id", "image_id", "caption"), x, strict=True)) for x in said],
    }
    return instances, captions


def coco(root: Path) -> Path:
    instances, captions = coco_tables()
    for split in ("train", "val"):
        put(root, *(f"{split}2017/{image['file_name']}" for image in instances["images"]))
        write(root / f"annotations/instances_{split}2017.json", json.dumps(instances))
        write(root / f"annotations/captions_{split}2017.json", json.dumps(captions))
    return root


# --- kitchens ---

EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)


def epic_kitchens(root: Path, tars: bool) -> Path:
    def row(segment: str, film: str, start: int, stop: int, narration: str, verb: int, noun: int) -> str:
        return f'{segment},P01,{film},0,0,0,{start},{stop},"{narration}",v,{verb},n,{noun},"[\'a\', \'b\']","[0, 1]"'

    train = [
        row("P01_01_0", "P01_01", 8, 202, "open door, slowly", 1, 2),
        row("P01_01_1", "P01_01", 100, 101, "", 0, 0),
    ]
    val = [row("P01_11_0", "P01_11", 1, 113, "take plate", 0, 1)]
    write(root / "EPIC_100_train.csv", "\n".join([EPIC_HEADER, *train]) + "\n")
    write(root / "EPIC_100_validation.csv", "\n".join([EPIC_HEADER, *val]) + "\n")
    write(
        root / "EPIC_100_verb_classes.csv", "id,key,instances,category\n0,take,\"['take']\",x\n1,open,\"['open']\",x\n"
    )
    write(root / "EPIC_100_noun_classes.csv", "id,key,instances,category\n0,tap,[],x\n2,door,[],x\n1,plate,[],x\n")
    for film, count in (("P01_01", 210), ("P01_11", 120)):
        names = [f"frame_{i:010d}.jpg" for i in range(1, count)]
        where = f"P01/rgb_frames/{film}"
        if tars:
            write(root / f"{where}.tar", tar_of(names, "./"))
        else:
            put(root, *(f"{where}/{name}" for name in names))
    return root


def visor(root: Path, zipped: bool) -> Path:
    base = root / "GroundTruth-SparseAnnotations"
    for split, film in (("train", "P01_01"), ("val", "P02_107")):
        names = [f"{film}_frame_{i:010d}.jpg" for i in (140, 98)]
        outlines = {
            names[0]: [
                (
                    300,
                    "left hand",
                    [[[192.0, 108.0], [384.0, 108.0], [288.0, 540.0]], [[960.0, 216.0], [970.0, 220.0]]],
                ),
                (2, "plate", []),  # named, but not outlined
                (1, "spoon", [[[0.0, 0.0], [1920.0, 0.0], [1920.0, 1080.0]]]),
            ],
            names[1]: [],
        }
        table = [
            {
                "image": {
                    "image_path": f"{film}/{name}",
                    "name": name,
                    "subsequence": f"{film}_seq_00001",
                    "video": film,
                },
                "annotations": [
                    {"id": "x", "name": label, "class_id": number, "exhaustive": "y", "segments": segments}
                    for number, label, segments in found
                ],
            }
            for name, found in outlines.items()
        ]
        write(base / f"annotations/{split}/{film}.json", json.dumps({"info": {}, "video_annotations": table}))
        where = base / f"rgb_frames/{split}/{film.split('_')[0]}"
        if zipped:
            where.mkdir(parents=True)
            with zipfile.ZipFile(where / f"{film}.zip", "w") as pack:
                for name in names:
                    pack.writestr(name, picture(name))
        else:
            put(where, *(f"{film}/{name}" for name in names))
    rows = [(0, "tap"), (1, "spoon"), (2, "plate"), (300, "hand:left")]
    table = "".join(f'{number},"{key}","[\'{key}\']","x"\n' for number, key in rows)
    write(root / "EPIC_100_noun_classes_v2.csv", '"id","key","instances","category"\n' + table)
    return root


# --- the transfer sets ---


def clevr(root: Path) -> Path:
    base = root / "CLEVR_v1.0"
    for split in ("train", "val", "test"):
        names = [f"CLEVR_{split}_{i:06d}.png" for i in (0, 1)]
        put(base, *(f"images/{split}/{name}" for name in names))
        depths = {names[0]: (11.5, 7.25, 9.0), names[1]: (8.0, 8.5, 8.75, 12.0)}
        scenes = [
            {
                "image_filename": name,
                "split": split,
                "objects": [
                    {"pixel_coords": [120, 80, depth], "shape": "cube", "3d_coords": [1, 2, 0.7]} for depth in found
                ],
                "relationships": {"left": [[1], [0]]},
            }
            for name, found in reversed(depths.items())
        ]
        if split != "test":
            write(base / f"scenes/CLEVR_{split}_scenes.json", json.dumps({"info": {}, "scenes": scenes}))
    return root


def food101(root: Path) -> Path:
    base = root / "food-101"
    lists = {"train": ["apple_pie/1005649", "baklava/77"], "test": ["baklava/1034399"]}
    for split, lines in lists.items():
        put(base, *(f"images/{line}.jpg" for line in lines))
        write(base / f"meta/{split}.txt", "\n".join(lines) + "\n")
    write(base / "meta/classes.txt", "apple_pie\nbaklava\n")
    return root


def pets(root: Path) -> Path:
    lists = {
        "trainval": ["Abyssinian_100 1 1 1", "great_pyrenees_2 2 2 1"],
        "test": ["great_pyrenees_201 2 2 1", "Abyssinian_201 1 1 1"],
    }
    for split, lines in lists.items():
        put(root, *(f"images/{line.split()[0]}.jpg" for line in lines))
        write(root / f"annotations/{split}.txt", "\n".join(lines) + "\n")
    write(root / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID\n")
    head = (
        "<annotation><size><width>400</width><height>500</height><depth>3</depth></size><object><name>cat</name>"
        "<truncated>1</truncated><difficult>0</difficult><bndbox><xmin>100</xmin><ymin>50</ymin><xmax>300</xmax>"
        "<ymax>250</ymax></bndbox></object></annotation>"
    )
    write(root / "annotations/xmls/Abyssinian_100.xml", head)
    return root


def resisc45(root: Path) -> Path:
    for name in ("airplane", "basketball_court"):
        put(root, *(f"NWPU-RESISC45/{name}/{name}_{i:03d}.jpg" for i in range(1, 11)))
    write(root / "NWPU-RESISC45/airplane/readme.txt", "not a picture")
    return root


def sun397(root: Path) -> Path:
    names = ["/a/abbey", "/a/apartment_building/outdoor", "/y/youth_hostel"]
    lists = {
        "Training_01": ["/y/youth_hostel/sun_c.jpg", "/a/abbey/sun_a.jpg", "/a/apartment_building/outdoor/sun_b.jpg"],
        "Testing_01": ["/a/abbey/sun_d.jpg"],
    }
    for table, lines in lists.items():
        put(root / "SUN397", *(line.lstrip("/") for line in lines))
        write(root / f"Partitions/{table}.txt", "\r\n".join(lines) + "\r\n")
    write(root / "SUN397/ClassName.txt", "\n".join(names) + "\n")
    return root
