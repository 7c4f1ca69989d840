"""Texts as numbers: a tokenizer is a file, SentencePiece's or CLIP's, or the one that is built in."""

import hashlib
import os
import stat
from functools import cache
from importlib.resources import files
from pathlib import Path

from abx.data.sources import printable
from abx.data.tokenizers.base import BadTokenizer, Tokenizer

SCENES = "scenes"
"""The built-in one, trained on the captions of `scenes`. A file of that name is `./scenes`."""
KINDS = f"{SCENES} (built in), or the path of a SentencePiece model or of CLIP's bpe_simple_vocab_16e6.txt.gz"
MAX_BYTES = 1 << 26
"""Larger files are no tokenizers: those of 256,000 tokens have 4 MB."""


@cache
def tokenizer(name: str) -> Tokenizer:
    """A tokenizer by name or path, opened once in a process: a file that changes later is not read again.

    Raises: BadTokenizer.
    """
    data = contents(name)
    try:
        if data.startswith(b"\x1f\x8b"):  # a gzip file
            from abx.data.tokenizers.clip import Clip, unpacked

            return Clip(unpacked(data, MAX_BYTES))
        from abx.data.tokenizers.sentence import Sentence

        return Sentence(data)
    except BadTokenizer as wrong:
        raise BadTokenizer(f"{printable(name)} is no tokenizer: {wrong}; one is {KINDS}") from wrong


def fingerprint(name: str) -> str:
    """16 hexadecimal digits of the sha256 of a tokenizer's file: whether this is the tokenizer it was.

    Raises: BadTokenizer.
    """
    return hashlib.sha256(contents(name)).hexdigest()[:16]


def contents(name: str) -> bytes:
    """Raises: BadTokenizer, if there is no such file, or none that may be read."""
    if name == SCENES:
        return (files(__name__) / "scenes.model").read_bytes()
    said, path = printable(name), Path(os.path.expanduser(name))
    try:
        about = path.stat()
        if stat.S_ISREG(about.st_mode) and about.st_size <= MAX_BYTES:
            return path.read_bytes()
    except FileNotFoundError as wrong:
        raise BadTokenizer(
            f"{said} is not there; make one with: abx tokenizer train DATA --out FILE, or take {KINDS}"
        ) from wrong
    except OSError as wrong:
        raise BadTokenizer(f"{said} cannot be read: {wrong.strerror}") from wrong
    except ValueError as wrong:  # a name with a zero in it
        raise BadTokenizer(f"{said} is not the name of a file") from wrong
    raise BadTokenizer(f"{said} is no tokenizer: it is not a file of at most {MAX_BYTES >> 20} MB")
