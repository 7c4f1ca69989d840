"""Verbs over data: `abx data prepare`, `inspect`, `index`, `digest`."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from abx.cli.data.digest import Digest
from abx.cli.data.index import Index
from abx.cli.data.inspect import Inspect
from abx.cli.data.prepare import Prepare

Verb = (
    Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Index, tyro.conf.subcommand("index")]
    | Annotated[Digest, tyro.conf.subcommand("digest")]
)


@dataclass(frozen=True)
class Data:
    """Prepare data sets, look at data, index it, check that two machines see the same."""

    verb: Verb

    def __call__(self) -> None:
        self.verb()
