"""Nothing leaves the machine: what tries to, in any of the processes that a command starts, is stopped and told of."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes import ROOT, tiny

GUARD = """
import os, sys

def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = args[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        # Of a socket in the file system the address is a path.
        host = args[1][0] if isinstance(args[1], tuple) else None
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "", "localhost", "::1", "0.0.0.0") and not str(host).startswith("127."):
        with open(os.environ["TOLD"], "a") as file:
            file.write(f"{event} {host} by {sys.argv}\\n")
        raise OSError(f"the test allows no way to {host}")

sys.addaudithook(watch)
with open(os.environ["GUARDED"], "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
"""As sitecustomize.py it is the first that any Python runs, data workers included. A hook cannot be taken away again,
and sees what C code asks the socket module for."""


def guarded(folder: Path, code: str, *argv: object) -> tuple[subprocess.CompletedProcess[str], list[str], int]:
    """Runs code in a process that cannot leave the machine; what tried to, and how many processes were guarded."""
    (folder / "guard").mkdir(exist_ok=True)
    (folder / "guard" / "sitecustomize.py").write_text(GUARD)
    told, guards = folder / "told.txt", folder / "guarded.txt"
    path = os.pathsep.join([str(folder / "guard"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path, "TOLD": str(told), "GUARDED": str(guards), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, timeout=900)
    return done, told.read_text().splitlines() if told.exists() else [], len(guards.read_text().splitlines())


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('192.0.2.1', 9), 1)",
        "socket.socket().connect(('192.0.2.1', 9))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
        "socket.getaddrinfo('example.invalid', 80)",
        "urllib.request.urlopen('https://example.invalid')",
        "multiprocessing.get_context('spawn').Pool(1).apply(socket.gethostbyname, ('example.invalid',))",
        "subprocess.run([sys.executable, '-c', \"import socket; socket.create_connection(('192.0.2.1', 9))\"])",
    ],
)
def test_the_guard_sees(tmp_path, attempt):
    """Or the test below would say nothing."""
    code = f"import multiprocessing, socket, subprocess, sys, urllib.request\ntry: {attempt}\nexcept OSError: pass"
    done, told, _ = guarded(tmp_path, code)
    assert len(told) >= 1, done.stderr
    assert "192.0.2.1" in told[0] or "example.invalid" in told[0]


def test_the_guard_lets_the_machine_talk_to_itself(tmp_path):
    code = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(server.getsockname()); socket.getaddrinfo('localhost', 80)"
    )
    done, told, _ = guarded(tmp_path, code)
    assert (done.returncode, told) == (0, []), done.stderr


ALL = """
import runpy, sys
from importlib.util import find_spec
from abx.cli import main
recipe, run, picture, *flags = sys.argv[1:]
sys.argv = [recipe, *flags]
runpy.run_path(recipe, run_name="__main__")
main(["explore", run, picture, "--out", "explorer.html", "--places", "2", "3"])
main(["embed", run, "--out", "features.npz", "--limit", "16", "--batch", "8"])
main(["pca", run, "--count", "4", "--batch", "8"])
main(["neighbours", run, "--limit", "16", "--batch", "8", "--queries", "4"])
main(["probe", "--run", run, "--task", "scenes-count", "--probes", "knn", "--train-images", "40",
      "--test-images", "16", "--batch", "8"])
main(["export", run, "--out", "model.safetensors"])
main(["export", run, "--out", "timm.safetensors", "--format", "timm"])
main(["embed", "none", "--init", "timm.safetensors", "--out", "again.npz", "--limit", "16", "--batch", "8"])
if find_spec("flatbuffers"):
    main(["export", run, "--out", "model.stablehlo"])
again = ["--eval.every", "0", "--data.workers", "0", "--init", "model.safetensors", "--out", "second"]
sys.argv = [recipe, *flags, *again]
runpy.run_path(recipe, run_name="__main__")
main(["value-map", run, picture])
main(["report", run])
main(["runs", "."])
main(["plot", run])
main(["doctor"])
"""


@pytest.mark.whole
def test_nothing_leaves_the_machine(tmp_path):
    pytest.importorskip("tensorboardX")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    often = ["--steps", 2, "--eval.every", 2, "--log.every", 1, "--log.tensorboard", "--data.workers", 2]
    flags = [*tiny("ab_simclr"), *often, "--out", tmp_path / "run"]
    recipe = ROOT / "recipes" / "ab_simclr.py"
    done, told, processes = guarded(tmp_path, ALL, recipe, tmp_path / "run", tmp_path / "a.png", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told == []
    assert processes >= 3  # this one and the data workers of the two streams
    there = {path.name for path in tmp_path.iterdir()}
    assert there >= {
        "explorer.html",
        "features.npz",
        "pca.png",
        "neighbours.html",
        "model.safetensors",
        "timm.safetensors",
        "again.npz",
        "second",
        "value_map.png",
        "curves.png",
        "run",
    }
    assert list((tmp_path / "run" / "tensorboard").iterdir())
