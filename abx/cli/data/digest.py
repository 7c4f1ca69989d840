"""`abx data digest`: do two machines, or two numbers of workers or hosts, see the same data?"""

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from abx.cli.errors import fail
from abx.data.views import RandomCrops

if TYPE_CHECKING:
    from abx.data.loader import Loaded
    from abx.data.texts import Texts


@dataclass(frozen=True)
class Digest:
    """Print the sha256 of each batch of a stream: what a run with these settings would see, bit for bit.

    The digest is taken over the batch of all hosts together: the pixels of its views (uint8, "b n size size 3"), their
    boxes (float32, "b n 4") and, if asked for, the tokens of its texts (int32, "b length"). It does not depend on
    --workers, --worker or --hosts.
    """

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """The data: scenes, folder:PATH, tar:GLOB, arrayrecord:GLOB, parquet:GLOB, or a mixture."""
    batch: int = 8
    """Images per step over all hosts, whose number must divide it."""
    steps: str = "0:4"
    """First step, and the one after the last."""
    seed: int = 0
    """The run's seed."""
    stream: int = 0
    """The stream's own seed: --data.reward-seed, --data.value-seed; 0 in a recipe with one stream."""
    views: RandomCrops = field(default_factory=RandomCrops)
    """How the views of an image are cut."""
    text: Literal["none", "captions", "boxes"] = "none"
    """Also digest a text for each image: one of its captions, or a list of what is in its boxes."""
    tokenizer: str = "scenes"
    """What makes tokens of the texts: scenes, or the path of a SentencePiece model or of CLIP's vocabulary."""
    length: int = 64
    """Tokens that are kept of a text, with at least one for its end."""
    workers: int = 0
    """Processes or threads that decode and crop, for each host; 0 = one thread."""
    worker: Literal["process", "thread"] = "process"
    """What the workers are."""
    hosts: int = 1
    """Machines to play, all at once."""
    json: bool = False
    """Also print one JSON object, on the last line: {"digests": ["...", ...]}."""

    def __call__(self) -> None:
        from abx.data.specs import check_spec

        texts = self._texts()
        steps = re.fullmatch(r"(\d+):(\d+)", self.steps)
        problems = [sentence] if (sentence := check_spec(self.spec)) else []
        problems += [sentence.replace("--views.", "--") for sentence in self.views.problems("--views")]
        problems += [sentence.replace("--text.", "--") for sentence in texts.problems("--text")] if texts else []
        if self.hosts < 1:
            problems.append(f"--hosts must be at least 1, not {self.hosts}")
        if self.batch < 1 or self.batch % max(self.hosts, 1):
            problems.append(f"--batch must be a multiple of --hosts {self.hosts}, not {self.batch}")
        if not steps or int(steps[1]) >= int(steps[2]):
            problems.append(f"--steps must be FIRST:END with FIRST < END, not {self.steps}")
        elif int(steps[2]) * self.batch >= 2**53:
            problems.append(f"--steps {self.steps} is more than any run will see")
        if self.workers < 0:
            problems.append(f"--workers must be at least 0, not {self.workers}")
        if min(self.seed, self.stream) < 0:
            problems.append("--seed and --stream must be at least 0")
        if problems or not steps:
            fail("; ".join(problems))
        found = self._digests(texts, int(steps[1]), int(steps[2]))
        for step, digest in enumerate(found, int(steps[1])):
            print(f"step {step}: {digest}")
        if self.json:
            print(json.dumps({"digests": found}))

    def _texts(self) -> "Texts | None":
        from abx.data.texts import Texts

        return None if self.text == "none" else Texts(self.text, self.tokenizer, self.length)

    def _digests(self, texts: "Texts | None", first: int, end: int) -> list[str]:
        from contextlib import ExitStack

        from abx.data.loader import Host, batches
        from abx.data.sources import BadRecord, SpecError, first_usable
        from abx.data.specs import open_source
        from abx.data.streams import stream_seed
        from abx.data.workers import stream

        try:
            source = open_source(self.spec)
            first_usable(source)
            with ExitStack() as stack:
                streams = [
                    stack.enter_context(
                        stream(
                            batches(
                                source,
                                self.views,
                                self.batch,
                                stream_seed(self.seed, self.stream),
                                texts=texts,
                                host=Host(host, self.hosts),
                            ),
                            first,
                            self.workers,
                            self.worker,
                        )
                    )
                    for host in range(self.hosts)
                ]
                return [_digest([next(each) for each in streams]) for _ in range(first, end)]
        except (SpecError, BadRecord) as wrong:
            fail(str(wrong))


def _digest(shares: "list[Loaded]") -> str:
    """Of the rows of all hosts, one after the other: first all pixels, then all boxes, then all texts."""
    from hashlib import sha256

    import numpy as np

    def parts(batch: Any) -> list[Any]:
        return [*batch] if hasattr(batch, "boxes") else [*batch.views, batch.text]

    digest = sha256()
    for arrays in zip(*(parts(share.batch) for share in shares), strict=True):
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
