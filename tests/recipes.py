"""The recipes as tests meet them: loaded from their files, made tiny, started in a process of their own."""

import os
import subprocess
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from abx.experiment.config import Recipe
from abx.experiment.saved import flat, to_json

ROOT = Path(__file__).parent.parent
NAMES = tuple(sorted(path.stem for path in (ROOT / "recipes").glob("*.py") if path.stem != "probe"))
"""Of what trains a backbone; `probe.py` trains nothing but probes."""

SMALLEST = {
    "width": 16,
    "depth": 1,
    "heads": 2,
    "mlp": 32,
    "size": 16,
    "batch": 8,
    "hidden": 16,
    "ssl_hidden": 16,
    "embed": 8,
    "ssl_embed": 8,
    "bottleneck": 8,
    "prototypes": 16,
    "reward_batch": 8,
    "value_batch": 8,
    "pairs_batch": 8,
    "images_batch": 8,
    "train_images": 48,
    "test_images": 24,
    "freeze_prototypes": 0,
    "min_keep": 0,
}
"""By the last word of a flag."""


@cache
def load(name: str) -> ModuleType:
    """The module recipes/NAME.py, without running it."""
    spec = spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def tiny(name: str) -> list[str]:
    """Flags that make the smoke preset of a recipe as small as it gets."""
    recipe = load(name).PRESETS["smoke"]
    found = []
    for path, value in flat(to_json(recipe)).items():
        group, _, field = path.rpartition(".")
        if field == "value_bias":  # first-batch compiles a step
            found += ["--method.value-bias", "-2"]
        elif field in SMALLEST and isinstance(value, int) and value > SMALLEST[field] and group != "":
            # Small views stay smaller than large ones, which takes a patch of 4.
            smallest = 8 if group.endswith("locals") else SMALLEST[field]
            found += [f"--{path.replace('_', '-')}", str(smallest)]
    return [*found, *(word for patch in _patches(recipe) for word in (patch, "4"))]


def _patches(recipe: Recipe) -> list[str]:
    """The flag of the backbone's patch."""
    paths = flat(to_json(recipe))
    return [f"--{path}" for path in paths if path.endswith("backbone.patch")]


def start(name: str, *flags: object, cache: Path) -> subprocess.Popen[str]:
    """recipes/NAME.py in a process, on one CPU device, with run-time type checks; compiled fast rather than well.

    Processes with the same `cache` share compiled code.
    """
    code = (
        "import runpy, sys; from jaxtyping import install_import_hook; sys.argv = sys.argv[1:]; "
        "install_import_hook('abx', 'beartype.beartype'); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    env = os.environ | {"JAX_PLATFORMS": "cpu"}  # and the XLA_FLAGS of the tests
    env |= {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-c", code, str(ROOT / "recipes" / f"{name}.py"), *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)


def finish(process: subprocess.Popen[str]) -> str:
    """What a process that ends well has said."""
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, f"{out}\n{err}"
    return out + err
