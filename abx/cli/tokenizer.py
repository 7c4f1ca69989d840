"""Verbs over tokenizers: `abx tokenizer train`, `abx tokenizer show`."""

import json
import os
import secrets
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from abx.cli.errors import fail

if TYPE_CHECKING:
    from abx.data.sources import Source

COUNTED = 100_000
"""Texts of which the tokens are counted at the end: they are in random order, so more would say no more."""
EVERY = 10.0
"""Seconds between lines of progress."""


USES = (
    ("clip, clip_aug, siglip", "--data.text", "--method.text"),
    ("slip, silc", "--data.pairs-text", "--method.text"),
    ("ab_clip, ab_siglip", "--data.reward-text", "--method.base.text"),
)
"""Recipes, and how their flags for a tokenizer and a text tower begin."""


@dataclass(frozen=True)
class Train:
    """Learn a vocabulary from the texts of a data set, and write it as a SentencePiece model: in lower case, with bytes
    for what has no token. The same data, vocabulary and version of SentencePiece give the same file."""

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """The data: scenes, folder:PATH, tar:GLOB, arrayrecord:GLOB, parquet:GLOB, or a mixture."""
    out: Path = Path("my.model")
    """File to write."""
    vocab: int = 32_000
    """Tokens to learn, with 258 for the end, the unknown and the bytes."""
    kind: Literal["captions", "boxes"] = "captions"
    """What to learn from: all captions of each record, or a list of what is in its boxes."""
    max_texts: int = 1_000_000
    """Largest number of texts, of records in a random order that is always the same."""
    json: bool = False
    """Also print one JSON object, on the last line: {"tokenizer": "my.model", "vocab": n, "texts": n,
    "mean_tokens": x, "length": 64, "cut": share}; cut are texts that do not fit into that length with their end."""

    def __call__(self) -> None:
        from abx.data.sources import SpecError, printable
        from abx.data.specs import check_spec, open_source
        from abx.data.texts import Texts
        from abx.data.tokenizers.base import BadTokenizer
        from abx.data.tokenizers.corpus import corpus
        from abx.data.tokenizers.sentence import Sentence, train

        problems = [sentence] if (sentence := check_spec(self.spec)) else []
        problems += [
            f"--{name} must be at least 1, not {value}"
            for name, value in (("vocab", self.vocab), ("max-texts", self.max_texts))
            if value < 1
        ]
        if self.out.is_dir() or not self.out.parent.is_dir():
            why = "is a folder" if self.out.is_dir() else f"lies in {self.out.parent}, which does not exist"
            problems.append(f"--out {printable(f'{self.out} {why}')}: name a file to write")
        if problems:
            fail("; ".join(problems))
        try:
            source = open_source(self.spec)
            texts = corpus(source, self.kind, self.max_texts, _Progress())
            if not texts:
                fail(_none(self, source))
            model = train(texts, self.vocab)
        except SpecError as wrong:
            fail(str(wrong))
        except BadTokenizer as wrong:
            fail(f"--vocab {self.vocab}: {wrong}")
        try:
            _write(self.out, model)
        except OSError as wrong:
            fail(f"--out {printable(str(self.out))} cannot be written: {wrong.strerror or wrong}")
        learnt = Sentence(model)
        tokens = [len(learnt.ids(text)) for text in texts[:COUNTED]]
        mean, cut = sum(tokens) / len(tokens), sum(n >= Texts.length for n in tokens) / len(tokens)
        print(f"learnt from {len(texts):,} texts: {learnt.size:,} tokens, {mean:.1f} to a text on average")
        print(f"with room for {Texts.length} tokens, one of them for the end, {cut:.1%} of the texts are cut")
        print(f"written: {printable(str(self.out))}, {len(model):,} bytes")
        path = shlex.quote(str(self.out))
        for recipes, flag, tower in USES:
            print(f"in {recipes}: {flag}.tokenizer {path} {tower}.vocab {learnt.size}")
        if self.json:
            facts = {"vocab": learnt.size, "texts": len(texts), "mean_tokens": mean}
            print(json.dumps({"tokenizer": str(self.out), **facts, "length": Texts.length, "cut": cut}))


@dataclass(frozen=True)
class Show:
    """The tokens of a text, as a network gets them, up to the first end."""

    tokenizer: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TOKENIZER")]
    """scenes, or the path of a SentencePiece model or of CLIP's bpe_simple_vocab_16e6.txt.gz."""
    text: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEXT")]
    """The text, in quotes."""
    json: bool = False
    """Also print one JSON object, on the last line: {"vocab": n, "ids": [...], "pieces": [...]}."""

    def __call__(self) -> None:
        from abx.data.sources import printable
        from abx.data.tokenizers import tokenizer
        from abx.data.tokenizers.base import BadTokenizer

        try:
            opened = tokenizer(self.tokenizer)
        except BadTokenizer as wrong:
            fail(str(wrong))
        ids = [*opened.start, *opened.ids(self.text), opened.end]
        pieces = [opened.piece(i) for i in ids]
        for i, piece in zip(ids, pieces, strict=True):
            print(f"{i:>7}  {printable(piece)}")
        print(f"{len(ids)} tokens with the end, of a vocabulary of {opened.size:,}")
        if self.json:
            print(json.dumps({"vocab": opened.size, "ids": ids, "pieces": pieces}))


Verb = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Show, tyro.conf.subcommand("show")]

ABOUT = """Make a vocabulary for texts from your own data, and look at what a tokenizer does.

Examples:
  abx tokenizer show scenes "two plain stars"
  abx tokenizer train 'tar:shards/*.tar' --out my.model --vocab 32000
  abx tokenizer train 'arrayrecord:coco/train*' --kind boxes --vocab 500
  abx tokenizer show my.model 'a dog on a bench'"""


class _Progress:
    """A line now and then, for who waits."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, texts: int) -> None:
        if time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            print(f"{texts:,} texts", file=sys.stderr, flush=True)


def _none(verb: Train, source: "Source") -> str:
    """Why there was nothing to learn from."""
    from abx.data.sources import BadRecord, printable

    said = printable(verb.spec)
    try:
        source.stored(0)
    except BadRecord as bad:
        return f"{said} has no {verb.kind} to learn from; the first record, {source.name(0)}: {bad}"
    return f"{said} has no {verb.kind} to learn from"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
