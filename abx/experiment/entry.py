"""A row of results: what was measured, on what, and with what; and what the paper says beside it."""

import hashlib
import json
from datetime import UTC, datetime

import numpy as np

from abx.analysis.paper import figures
from abx.experiment.loading import Subject
from abx.experiment.material import Figures, Material
from abx.experiment.probing import Probe
from abx.experiment.rows import SHOWN, Row
from abx.experiment.saved import to_json
from abx.experiment.surroundings import environment
from abx.experiment.systems import described


def row_of(m: Material, kind: str, found: Figures, seconds: float) -> Row:
    """Of one probe, which took `seconds`. Figures that are not finite become None."""
    now, parts = environment(), {"test": m.test}
    if found["n_train"] and m.train is not None:
        parts["train"] = m.train
    finite = {k: (v if not isinstance(v, float) or np.isfinite(v) else None) for k, v in found.items()}
    counts = {k: int(found[k]) for k in ("n_train", "n_test")}
    rejected = {name: len(part.features.rejected) for name, part in parts.items() if part.features.rejected}
    # A data set's name stands for its own pictures alone.
    own = not (m.recipe.train or m.recipe.test or m.recipe.features)
    named = m.recipe.task.partition(":")[0] if own else m.task.name
    row: Row = {
        "probe": kind,
        "task": "retrieval" if kind == "retrieval" else named,
        "kind": "retrieval" if kind == "retrieval" else m.task.name,
        **m.origin,
        "train": m.train.spec if "train" in parts and m.train is not None else "",
        "test": m.test.spec,
    }
    row |= finite | counts | {"settings": settings_key(m.recipe, kind)}
    if rejected:
        row["rejected"] = rejected
    if m.backbone is None:
        row |= {"features_sha256": m.sha256, "labels_sha256": labels_key(m)}
    else:
        row |= {"size": m.look.size, "view": m.look.shows, "backbone_sha256": m.sha256}
    return row | {
        "seed": m.recipe.seed,
        "seconds": round(seconds, 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": ", ".join(sorted(set(now["devices"]))),
        "devices": len(now["devices"]),
        "command": now["command"],
        "versions": {"abx": now["abx"], "python": now["python"], **now["packages"]},
    }


def settings_key(recipe: Probe, kind: str) -> str:
    """Stands for all that a person chooses of this probe: figures with another one cannot be compared."""
    said = json.dumps(to_json(getattr(recipe, kind, None)), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def labels_key(m: Material) -> str:
    """Stands for the classes of the pictures that features from elsewhere are of: the same for two networks' features
    of the same pictures."""
    labels = [[fact.label for fact in part.facts] for part in (m.train, m.test) if part is not None]
    return hashlib.sha256(json.dumps([m.test.source.classes, labels]).encode()).hexdigest()[:8]


def beside_paper(row: Row, subject: Subject) -> str:
    """The paper's figures of the same method by the same probe, with their tables: "72.2 (1), 68.0 (2)". Those of
    networks that were trained on the same data, where there are some, else the first."""
    if subject.recipe is None:
        return ""
    task, probe = str(row["task"]).removeprefix("scenes-"), str(row["probe"])
    ours = described(subject.run, subject.recipe)
    said = []
    for metric in SHOWN:
        found = figures(ours.system, probe, task, metric) if metric in row else []
        same = [each for each in found if (each.block.reward, each.block.value) == (ours.reward, ours.value)]
        said += [f"{metric} {each.percent:.1f} ({each.block.table})" for each in same or found[:1]]
    return ", ".join(said)
