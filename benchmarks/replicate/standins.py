"""What stands for the paper's data: data strings for training, and tasks with their data for probes.

A folder of data has the small sets under their own names (`tinyimagenet/`, `flickr8k/`, ...). What `abx data prepare`
wrote into `imagenet/`, `cc12m/`, `coco/`, `epic_kitchens/` or `clevr/` there goes before what would stand in. What is
neither there nor made is drawn: `scenes`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from abx.probes.named import shards

DRAWN = "scenes"
MADE = "data"
"""Folder of what is made, in that of all results."""
TOKENIZER = "captions.model"


class Asked(NamedTuple):
    """A task, and the data it is asked of."""

    task: str
    train: str = ""
    test: str = ""

    def flags(self) -> list[str]:
        data = [("--train", self.train), ("--test", self.test)]
        return ["--task", self.task, *(word for flag, spec in data if spec for word in (flag, spec))]


class StandIns(NamedTuple):
    data: Path | None
    """Folder of the small sets, or none."""
    made: Path
    """Folder of collages, cut clips and the vocabulary."""

    def spec(self, mixed: Sequence[tuple[float, str]]) -> str:
        """The data string of a mixture of the paper's data sets."""
        parts = [(share * inner, spec) for share, name in mixed for inner, spec in self.parts(name)]
        together: dict[str, float] = {}
        for share, spec in parts:
            together[spec] = together.get(spec, 0.0) + share
        if len(together) == 1:
            return next(iter(together))
        return " + ".join(f"{share:g}*{spec}" for spec, share in together.items())

    def parts(self, name: str) -> list[tuple[float, str]]:
        """What stands for one data set, with shares that sum to 1."""
        if self._prepared(name):
            return [(1.0, shards(f"{self.data}/{name}", "train"))]
        if name == "imagenet":
            found = [_tar(*self._small("tinyimagenet", "-train"))]
        elif name == "cc12m":
            # 700 photographs alone would be seen thousands of times.
            found = [_tar(*self._small("flickr8k", "-train")), DRAWN]
        elif name == "coco":
            found = [_tar(self.made, "collages-train")]
        else:
            found = [_tar(*self._small("kitchen_rgbd", "-train")), _tar(self.made, "clips-train")]
        there = [spec for spec in found if spec] or [DRAWN]
        return [(1 / len(there), spec) for spec in there]

    def tokenizer(self) -> str:
        """A vocabulary file; "" for the built-in one."""
        places = [self.made / TOKENIZER, *([self.data / TOKENIZER] if self.data else [])]
        return next((str(path) for path in reversed(places) if path.exists()), "")

    def asked(self, kind: str) -> Asked:
        """A kind of task (`abx.probes.named.ALONE`), and what it is asked of in place of the paper's data."""
        published = {
            "classification": ("imagenet", "imagenet"),
            "objects": ("coco", "coco-objects"),
            "detection": ("coco", "coco-detection"),
            "count": ("clevr", "clevr-count"),
            "distance": ("clevr", "clevr-distance"),
            "action": ("epic_kitchens", "epic-action"),
        }
        name, task = published[kind]
        if self._prepared(name):
            return Asked(f"{task}:{self.data}/{name}")
        stand_ins = {
            "imagenet": self._small("tinyimagenet"),
            "coco": (self.made, "collages"),
            "clevr": self._small("clevr_like"),
            "epic_kitchens": (self.made, "clips"),
        }
        folder, stem = stand_ins[name]
        train, test = _tar(folder, f"{stem}-train"), _tar(folder, f"{stem}-val")
        return Asked(kind, train, test) if train and test else Asked(f"scenes-{kind}")

    def _prepared(self, name: str) -> bool:
        return self.data is not None and any((self.data / name).glob("train-*.arrayrecord"))

    def _small(self, name: str, split: str = "") -> tuple[Path | None, str]:
        return (self.data / name if self.data else None), name + split


def _tar(folder: Path | None, stem: str) -> str:
    """The data string of a split's shards, one or several; "" where there are none."""
    if folder is None:
        return ""
    for pattern in (f"{stem}.tar", f"{stem}-*.tar"):
        if any(folder.glob(pattern)):
            return f"tar:{folder / pattern}"
    return ""
