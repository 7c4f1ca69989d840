"""Configurations as JSON and back, and how two of them differ."""

import dataclasses
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

HARMLESS = (
    *("out", "resume", "force", "dry_run", "profile", "guard", "mesh", "plan", "ckpt", "log", "eval.every"),
    *("data.workers", "data.worker", "data.max_rejected"),
)
"""Settings that change neither the training nor what is measured, and so may differ when a run is resumed."""


def to_json(config: Any) -> Any:
    """A dataclass tree as plain JSON; each node says its class, so that `from_json` can build it again."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        node = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        # A recipe's own class lives in a script and adds no fields to the package's.
        kind = next(kind for kind in type(config).__mro__ if kind.__module__.startswith("abx."))
        return {"class": f"{kind.__module__}.{kind.__qualname__}"} | node
    if isinstance(config, tuple):
        return [to_json(x) for x in config]
    return str(config) if isinstance(config, Path) else config


def from_json(node: Any) -> Any:
    """What `to_json` wrote, as dataclasses again; a recipe comes back as a plain `config.Recipe`.

    Raises: ValueError for what is no dataclass of this package, as nothing else is ever built or called, and for fields
        of other types than theirs.
    """
    if isinstance(node, list):
        return tuple(from_json(x) for x in node)
    if not isinstance(node, dict):
        return node
    module, _, name = str(node.get("class")).rpartition(".")
    if module.split(".")[0] != "abx":
        raise ValueError(f"{node.get('class')} is not a class of abx")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"this version of abx has no {node['class']}") from None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"{node['class']} is not a configuration")
    paths = {f.name for f in dataclasses.fields(kind) if f.type is Path}
    fields = {k: Path(v) if k in paths else from_json(v) for k, v in node.items() if k != "class"}
    hints = get_type_hints(kind)
    for field, value in fields.items():
        if field in hints and not _fits(value, hints[field]):
            raise ValueError(f"{field} of {node['class']} cannot be {value!r}")
    try:
        return kind(**fields)
    except TypeError as wrong:
        raise ValueError(f"not the fields of {node['class']}: {wrong}") from None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a field of this type may have a value; of literals, whether it is of their type."""
    if isinstance(hint, TypeVar):
        hint = hint.__bound__
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return type(value) in map(type, args)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = args[:1] * len(value) if args[-1] is ... else args
        return len(value) == len(each) and all(map(_fits, value, each))
    if isinstance(value, bool):
        return hint in (bool, Any)
    if hint is float:
        return isinstance(value, int | float)
    return not isinstance(origin or hint, type) or isinstance(value, origin or hint)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}"""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, part in tree.items() for k, v in flat(part, f"{prefix}.{name}" if prefix else name).items()}


def differences(old: Any, new: Any, harmless: Sequence[str] = HARMLESS) -> list[str]:
    """Settings of two configurations (as JSON) that differ and matter: "--optim.lr: 0.001 -> 0.002"."""
    a, b = flat(old), flat(new)
    changed = [k for k in sorted(a.keys() | b.keys()) if a.get(k, _ABSENT) != b.get(k, _ABSENT)]
    changed = [k for k in changed if not any(k == name or k.startswith(name + ".") for name in harmless)]
    # Of a part that is another class, only that is said: its settings cannot be compared.
    parts = [k.removesuffix("class") for k in changed if k == "class" or k.endswith(".class")]
    said = []
    for k in changed:
        if any(k.startswith(part) and k != f"{part}class" for part in parts):
            continue
        was, now = (typed(x[k]) if k in x else "unknown" for x in (a, b))
        if k.endswith(".class"):
            was, now = was.rpartition(".")[2], now.rpartition(".")[2]
        said.append(f"--{k.removesuffix('.class')}: {was} -> {now}")
    return said


_ABSENT = object()


def typed(value: Any) -> str:
    """As one types it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(value, indent=1) + "\n")
    beside.replace(path)
