"""A headless Chromium, driven over its debugging pipe: pages from files, real mouse and keys, screenshots.

No package is needed, only the browser: Debian's `chromium`, or whatever ABX_BROWSER names.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --remote-debugging-pipe"
)
PIPES = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""The browser reads commands from descriptor 3 and answers on 4."""
PATIENCE = 120.0
"""Seconds for an answer: the machine may be busy."""
CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "Enter": 13, " ": 32}


def path() -> str | None:
    """Of the browser on this machine."""
    found = (shutil.which(name) for name in (os.environ.get("ABX_BROWSER", ""), *NAMES) if name)
    return next(filter(None, found), None)


class Browser:
    """One page of one browser; whatever it asks of the network is kept in `requests`, its errors in `errors`."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 1000)) -> None:
        binary = path()
        assert binary
        ours, theirs = _pipe(), _pipe()
        command = [sys.executable, "-c", PIPES, str(ours[0]), str(theirs[1]), binary, *FLAGS.split()]
        command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}", "about:blank"]
        with (folder / "browser.log").open("w") as log:
            self._process = subprocess.Popen(command, pass_fds=(ours[0], theirs[1]), stdout=log, stderr=log)
        os.close(ours[0])
        os.close(theirs[1])
        os.set_blocking(theirs[0], False)
        self._write, self._read, self._buffer, self._last = ours[1], theirs[0], b"", 0
        self._session, self._held = "", False
        self.requests: list[str] = []
        self.errors: list[str] = []
        (page,) = (t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **screen)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            assert time.monotonic() < until, "the browser does not answer"
            try:
                part = os.read(self._read, 1 << 16)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            assert part, "the browser has gone"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            self.errors.append(told["entry"]["text"])

    def open(self, page: Path) -> None:
        """The page, once its script has run and its pictures are there."""
        self.requests.clear()
        self.send("Page.navigate", url=page.as_uri())
        until = time.monotonic() + PATIENCE
        while not self.js("document.readyState === 'complete' && 'ready' in document.documentElement.dataset"):
            assert time.monotonic() < until, self.errors
            time.sleep(0.02)

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        return self.js(f"document.querySelector({json.dumps(selector)}).textContent")

    def middle(self, selector: str) -> tuple[float, float]:
        """Of an element, in pixels of the window; it is scrolled to."""
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        return x, y

    def mouse(self, kind: str, x: float, y: float) -> None:
        """mouseMoved, mousePressed or mouseReleased, of the left button."""
        self._held = kind == "mousePressed" or (kind == "mouseMoved" and self._held)
        button = "left" if self._held or kind == "mouseReleased" else "none"
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(self._held), clickCount=1)

    def press(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y)

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.press(x, y)
        self.mouse("mouseReleased", x, y)

    def key(self, key: str) -> None:
        """Pressed and let go."""
        about: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": CODES.get(key, ord(key[0].upper()))}
        if len(key) == 1:
            about["text"] = key
        self.send("Input.dispatchKeyEvent", type="keyDown" if len(key) == 1 else "rawKeyDown", **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)


def _pipe() -> tuple[int, int]:
    """Above the descriptors that the browser knows by number; reading our end does not block."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return read, write
