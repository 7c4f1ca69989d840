"""Ctrl-C where nothing is to be saved: the end at once, with a sentence and 130."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abx.signals import end_on_interrupt

BEGUN = "from abx.signals import end_on_interrupt\nimport gc, multiprocessing, os, signal, threading, time\n"
CASES = {
    "asleep": "    time.sleep(60)",
    # Where an exception would be printed and forgotten.
    "in a callback": "    gc.callbacks.append(lambda *_: time.sleep(60))\n    gc.collect()",
    # What Python waits for at its own end.
    "beside a thread": "    threading.Thread(target=time.sleep, args=(60,)).start()\n    time.sleep(60)",
    "beside a process": "    multiprocessing.Process(target=time.sleep, args=(60,)).start()\n    time.sleep(60)",
}


@pytest.mark.parametrize("case", CASES)
def test_it_ends_at_once(case, tmp_path):
    code = f'{BEGUN}with end_on_interrupt("that was it"):\n    print("begun", flush=True)\n{CASES[case]}\n'
    path = tmp_path / "program.py"
    path.write_text(code)
    flags = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(path)], cwd=Path(__file__).parents[1], env=PLAIN, **flags) as program:
        assert program.stdout.readline() == "begun\n"
        time.sleep(0.5)
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=30)
        assert time.monotonic() - began < 20
    assert (program.returncode, err) == (130, "\nthat was it\n")


PLAIN = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""}


def test_the_handler_of_before_is_back():
    before = signal.getsignal(signal.SIGINT)
    with end_on_interrupt("that was it"):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
