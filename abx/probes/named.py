"""One string names a task and its data: `food101:DIR`, `scenes-count`, or a task alone: `classification`."""

import difflib
from typing import NamedTuple

from abx.data.sources import printable
from abx.probes.questions import Task
from abx.probes.tasks import (
    CLEVR_COUNTS,
    CLEVR_DISTANCES,
    SCENES_DISTANCES,
    Action,
    Classification,
    Count,
    Detection,
    Distance,
    ObjectClass,
)


class TaskError(ValueError):
    """The string names no task; the message is one sentence that says what to change."""


class Named(NamedTuple):
    task: Task
    train: str
    """A data string; empty for a task alone."""
    test: str
    """A data string; empty for a task alone."""


class _Published(NamedTuple):
    """A task on a data set, and of which of its splits the probe is tested on."""

    task: Task
    test: str


ALONE: dict[str, Task] = {
    "classification": Classification(),
    "objects": ObjectClass(),
    "detection": Detection(),
    "count": Count(),
    "distance": Distance(),
    "action": Action(),
}
"""To be given with data of any kind."""

SCENES: dict[str, Task] = {
    "scenes-classification": Classification(),
    "scenes-objects": ObjectClass(),
    "scenes-detection": Detection(),
    "scenes-count": Count(CLEVR_COUNTS),
    "scenes-distance": Distance(SCENES_DISTANCES),
    "scenes-action": Action(),
}
"""On drawn scenes, of which there are two splits."""

PUBLISHED: dict[str, _Published] = {
    "imagenet": _Published(Classification(), "val"),
    "food101": _Published(Classification(), "test"),
    "pets": _Published(Classification(), "test"),
    "resisc45": _Published(Classification(), "test"),
    "sun397": _Published(Classification(), "test"),
    # VTAB trains on the first nine tenths of train, keeps the rest to choose by, and tests on val, as we do.
    "clevr-count": _Published(Count(CLEVR_COUNTS), "val"),
    "clevr-distance": _Published(Distance(CLEVR_DISTANCES), "val"),
    "coco-detection": _Published(Detection(), "val"),
    "coco-objects": _Published(ObjectClass(), "val"),
    "epic-action": _Published(Action(), "val"),
    "visor-detection": _Published(Detection(), "val"),
    "visor-objects": _Published(ObjectClass(), "val"),
}
"""On a folder that `abx data prepare` wrote; all are trained on the split `train`."""


def parse(text: str) -> Named:
    """The task and its data: `imagenet:DIR`, `scenes-count`; or a task alone, `count`, whose data is named elsewhere.

    Raises: TaskError.
    """
    name, colon, where = text.strip().partition(":")
    if name in PUBLISHED:
        if not where:
            raise TaskError(f"{name} needs the folder that abx data prepare wrote: {name}:DIR")
        task, test = PUBLISHED[name]
        return Named(task, shards(where, "train"), shards(where, test))
    if name in SCENES or name in ALONE:
        if colon:
            hint = "" if name in SCENES else "; its data is named by --train and --test"
            raise TaskError(f"{name} takes no folder: write {name}{hint}")
        return Named(SCENES[name], "scenes", "scenes:test") if name in SCENES else Named(ALONE[name], "", "")
    known = [*ALONE, *SCENES, *PUBLISHED]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), known, 1)
    hint = f"did you mean {near[0]}{f':{printable(where)}' if where else ''}? There are " if near else "there are "
    raise TaskError(f"there is no task {printable(text)!r}: {hint}{accepted()}")


def accepted() -> str:
    """All that a task may be called, for messages."""
    return ", ".join([*ALONE, *SCENES, *(f"{name}:DIR" for name in PUBLISHED)])


def shards(folder: str, split: str) -> str:
    """The data string of a split that `abx data prepare` wrote."""
    return f"arrayrecord:{folder.rstrip('/')}/{split}-*.arrayrecord"
