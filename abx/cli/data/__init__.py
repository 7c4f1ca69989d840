"""Verbs over data: `abx data prepare`, `inspect`, `index`, `digest`."""

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

ABOUT = """Prepare data sets, look at data, index it, check that two machines see the same.

Data is one string: scenes, folder:PATH, tar:GLOB, arrayrecord:GLOB,
parquet:GLOB, or a mixture: '0.75*folder:a + 0.25*tar:b'.

Examples:
  abx data inspect folder:~/Pictures
  abx data prepare coco
  abx data prepare coco --src /data/coco --out coco-256
  abx data index 'tar:shards/*.tar' --workers 8
  abx data digest 'tar:shards/*.tar' --steps 0:4 --workers 2 --hosts 4"""
