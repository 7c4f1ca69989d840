"""Files of weights: what is in them, by the header alone, and the arrays one by one. Nothing is ever unpickled."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from abx.data.sources import SpecError, printable
from abx.nearest import not_there
from abx.nn.foreign.stored import Stored

ABOUT = "abx"
"""Key of the header, under which our own files say what they are, as JSON."""
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
FILES = (".safetensors", ".npz")
CONVERSION = """\
  import argparse
  import torch
  from safetensors.torch import save_file
  torch.serialization.add_safe_globals([argparse.Namespace])  # DINO keeps its flags beside the weights
  state = torch.load({file!r}, map_location="cpu", weights_only=True)
  for part in ("model", "state_dict", "teacher", "target_encoder"):
      state = state.get(part, state)
  save_file({{k: v.float().contiguous().clone() for k, v in state.items() if torch.is_tensor(v)}}, {out!r})"""
"""For who has torch."""


class File(NamedTuple):
    """What a file holds, unread."""

    arrays: dict[str, Stored]
    header: dict[str, Any]
    """What our own say of themselves; empty for those of others."""


def open_file(path: Path) -> File:
    """Names, shapes and header; of a .npz the headers of its arrays.

    Raises: SpecError, one sentence that begins with the path. So do the arrays when they are read.
    """
    if not path.exists():
        raise SpecError(not_there(path))
    if path.suffix.lower() in PICKLES:
        snippet = CONVERSION.format(file=path.name, out=path.with_suffix(".safetensors").name)
        raise SpecError(
            f"{path} is a pickle, which may run anything when it is opened, and none is opened here; where torch is, "
            f"make a safetensors file of it:\n{snippet}"
        )
    if path.is_dir():
        raise SpecError(f"{path} is a folder, not a file of weights; abx export writes one of a run")
    if path.suffix not in FILES:
        raise SpecError(f"{path} must end in {' or '.join(FILES)}")
    found = _safetensors(path) if path.suffix == ".safetensors" else File(_npz(path), {})
    if not found.arrays:
        raise SpecError(f"{path} holds no arrays")
    return found


def _safetensors(path: Path) -> File:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "numpy") as file:
            header = (file.metadata() or {}).get(ABOUT, "{}")
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as wrong:
        raise SpecError(f"{path} is not a whole safetensors file: {_short(wrong)}") from wrong
    try:
        about = json.loads(header)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise SpecError(f'{path}: what its header says under "{ABOUT}" is not JSON as abx export writes it')

    def read(name: str) -> np.ndarray:
        with safe_open(str(path), "numpy") as file:
            return np.asarray(file.get_tensor(name))

    return File({name: Stored(shape, _reading(path, name, read)) for name, shape in shapes.items()}, about)


def _npz(path: Path) -> dict[str, Stored]:
    def read(name: str) -> np.ndarray:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[name])

    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                with archive.open(entry) as opened:
                    shape, dtype = _npy_header(opened)
                name = entry.removesuffix(".npy")
                if dtype.hasobject:
                    raise SpecError(f"{path}: {printable(name)} is an array of objects, which only a pickle can hold")
                found[name] = Stored(shape, _reading(path, name, read))
    # Whatever zip, zlib or numpy's reading of a header trips over.
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, KeyError, NotImplementedError) as wrong:
        if isinstance(wrong, SpecError):
            raise
        raise SpecError(f"{path} is not a whole .npz: {_short(wrong)}") from wrong
    return found


def _npy_header(opened: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(opened)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(opened)
    return shape, dtype


def _reading(path: Path, name: str, read: Callable[[str], np.ndarray]) -> Callable[[], np.ndarray]:
    def array() -> np.ndarray:
        try:
            found = read(name)
        except Exception as wrong:  # whatever a damaged file makes a reader trip over
            raise SpecError(f"{path}: {printable(name)} cannot be read: {_short(wrong)}") from wrong
        if found.dtype == np.dtype("V2"):  # numpy's word for a bfloat16 that it does not know
            found = found.view(jnp.bfloat16)
        if not (found.dtype == jnp.bfloat16 or np.issubdtype(found.dtype, np.floating)):
            raise SpecError(f"{path}: {printable(name)} is of {found.dtype}, not of floating-point numbers")
        found = found.astype(np.float32)
        if not np.isfinite(found).all():
            raise SpecError(f"{path}: {printable(name)} holds numbers that are not finite")
        return found

    return array


def _short(wrong: Exception) -> str:
    return printable(str(wrong).splitlines()[0])[:200] if str(wrong) else type(wrong).__name__
