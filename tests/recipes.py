"""The recipes as tests meet them: loaded from their files, made tiny, started in a process of their own."""

import os
import subprocess
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
NAMES = ("ab_simclr", "simclr")

BACKBONE = {"width": 16, "depth": 1, "heads": 2, "mlp": 32, "size": 16}


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
    ab = name.startswith("ab_")
    method = "--method.base" if ab else "--method"
    sizes = {f"{method}.backbone.{k}": v for k, v in BACKBONE.items()}
    sizes |= {f"{method}.hidden": 16, f"{method}.embed": 8, "--eval.train-images": 48, "--eval.test-images": 24}
    if ab:
        sizes |= {f"--method.decoder.{k}": v for k, v in {"width": 16, "depth": 1, "heads": 2, "mlp": 32}.items()}
        sizes |= {
            "--method.value-bias": -2,
            "--data.reward-batch": 8,
            "--data.value-batch": 4,
        }  # first-batch compiles a step
        sizes |= {"--data.reward-views.size": 16, "--data.value-views.size": 16}
    else:
        sizes |= {"--data.batch": 8, "--data.views.size": 16}
    return [word for flag, value in sizes.items() for word in (flag, str(value))]


def start(name: str, *flags: object, cache: Path) -> subprocess.Popen[str]:
    """recipes/NAME.py in a process, on one CPU device, with run-time type checks; compiled fast rather than well.

    Processes with the same `cache` share compiled code.
    """
    code = (
        "import runpy, sys; from jaxtyping import install_import_hook; sys.argv = sys.argv[1:]; "
        "install_import_hook('abx', 'beartype.beartype'); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
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
