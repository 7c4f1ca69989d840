"""What a decoder probe can be asked: a task is a file's class here, a frozen dataclass (see `abx.probes.questions`)."""

from abx.probes.tasks.action import Action
from abx.probes.tasks.detection import Detection
from abx.probes.tasks.numbers import CLEVR_COUNTS, CLEVR_DISTANCES, SCENES_DISTANCES, Count, Distance
from abx.probes.tasks.things import Classification, ObjectClass

__all__ = [
    "CLEVR_COUNTS",
    "CLEVR_DISTANCES",
    "SCENES_DISTANCES",
    "Action",
    "Classification",
    "Count",
    "Detection",
    "Distance",
    "ObjectClass",
]
