"""Conceptual 12M: captioned pictures of the web, as img2dataset writes them."""

from abx.data.prepare.base import Published, Split
from abx.data.prepare.published.webdataset import no_tars, tars
from abx.data.prepare.reading import open_folder

ABOUT = """\
Conceptual 12M: 12.4 million addresses of pictures, each with a caption (github.com/google-research-datasets/
conceptual-12m). The pictures are downloaded by img2dataset with output_format webdataset; some are gone, so how many
there should be is not known.

  SRC/00000.tar               plain or compressed
    000000000.jpg
    000000000.txt             the caption; else "caption" of the json
    000000000.json            what img2dataset says of the download
  SRC/00000.parquet, SRC/00000_stats.json     not read

Terms: the captions may be used freely (see the LICENSE of the repository); the pictures are their owners'.
"""
LICENCE = "captions free to use (google-research-datasets/conceptual-12m); the pictures are their owners'"


def find(src: str) -> Published:
    folder = open_folder(src)
    units = tars(folder)
    if not units:
        raise no_tars(folder)
    return Published((Split("train", units),), licence=LICENCE)
