"""The folder that shards are written to: whose it is, and whether what lies there goes with what is to come."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from abx.data.manifests import MANIFEST
from abx.data.prepare.manifest import SplitManifest, splits_of, write_json
from abx.data.prepare.shard import PARTS, SUFFIX, PrepareError
from abx.data.sources import printable

SETTINGS = "settings.json"
_SAID = {
    "version": "another version of abx",
    "name": "data set {}",
    "source": "--src {}",
    "short_side": "--short-side {}",
    "quality": "--quality {}",
    "names": "other names of classes",
}


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """The folder, made if need be, and written by nobody else. The lock is the system's: it ends with the process.

    Raises: PrepareError, if another process writes there; OSError.
    """
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    with _lock(out / PARTS / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrepareError(f"{printable(str(out))} is being written by another process; wait for it") from None
        except OSError:
            pass  # a file system without locks
        for left in (out / PARTS).glob("*.tmp"):
            left.unlink()
        yield


def _lock(path: Path) -> IO[bytes]:
    """Not followed if it is a link, which may lead to a file of somebody's, and what is in it stays."""
    try:
        return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "rb", buffering=0)
    except OSError as error:
        if path.is_symlink():
            raise PrepareError(f"{printable(str(path))} is a link, and has to be a file: remove it") from error
        raise


def forget(out: Path) -> None:
    """Remove what was prepared, and nothing else."""
    for part in (out / PARTS).glob("*-of-*.json"):
        (out / (part.stem + SUFFIX)).unlink(missing_ok=True)
        part.unlink()
    for path in (out / MANIFEST, out / PARTS / SETTINGS):
        path.unlink(missing_ok=True)


def agreed(out: Path, settings: dict[str, Any]) -> dict[str, SplitManifest]:
    """What the manifest there says of its splits. Keeps the settings for the next time.

    Args:
        settings: the keys of `_SAID`; and `units`, of each split a digest of what its shards are made of.

    Raises: PrepareError, if what is there was not prepared with these settings.
    """
    path, place = out / PARTS / SETTINGS, printable(str(out))
    try:
        before = json.loads(path.read_text())
        units = dict(before["units"])
    except FileNotFoundError:
        if any(out.glob(f"*{SUFFIX}")):
            raise PrepareError(f"{place} holds shards that were not prepared there: give another --out") from None
        before, units = settings, {}
    except (ValueError, KeyError, TypeError) as error:
        raise PrepareError(f"{printable(str(path))} cannot be parsed: --restart begins again") from error
    found = [said.format(printable(str(before.get(k)))) for k, said in _SAID.items() if before.get(k) != settings[k]]
    found += [f"other files in {split}" for split, made in settings["units"].items() if units.get(split, made) != made]
    if found:
        raise PrepareError(f"{place} was prepared with {', '.join(found)}: give another --out, or --restart")
    write_json(path, settings | {"units": units | settings["units"]})
    try:
        return splits_of(json.loads((out / MANIFEST).read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
