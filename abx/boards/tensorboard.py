"""The files that TensorBoard reads."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8


class TensorBoard:
    """Event files in a folder. Without the thread of tensorboardX's own writer: when that meets a full disk it dies,
    and the run would wait for it for ever."""

    def __init__(self, folder: Path, step: int):
        """A file of its own for each start of the run. What earlier ones say of steps after `step`, which come again,
        TensorBoard leaves out (its "purge"); at step 0 they are deleted.

        Raises: ImportError, OSError.
        """
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.summary import image

        self._event, self._summary, self._image = event_pb2.Event, summary_pb2.Summary, image
        folder.mkdir(parents=True, exist_ok=True)
        before = list(folder.glob("events.out.tfevents.*"))
        self.fresh = step == 0 or not before
        if step == 0:
            for path in before:
                path.unlink()
        # The step is in the name, or two starts within a second would have one file.
        self._events = EventsWriter(str(folder / "events"), f".{step}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step + 1 if step else 0, session_log=start)

    def scalars(self, step: int, row: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=name, simple_value=float(value)) for name, value in row.items()]
        self._write(step, summary=self._summary(value=values))

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._write(step, summary=self._image(name, image, dataformats="HWC"))

    def close(self) -> None:
        self._events.close()

    def _write(self, step: int, **what: Any) -> None:
        """In the file when it returns: what `metrics.jsonl` has after a kill is here, too."""
        self._events.write_event(self._event(wall_time=time.time(), step=step, **what))
        self._events.flush()
