"""SentencePiece's models: reading them, and training one on our own captions."""

import io
import re
from collections.abc import Iterable, Sequence

import sentencepiece

from abx.data.tokenizers.base import BadTokenizer

MAX_TEXT = 1 << 18
"""Bytes of a text to learn from; longer ones are left out."""


class Sentence:
    """A model that SentencePiece or `train` has made, as a `Tokenizer`. No token stands before a text."""

    start: tuple[int, ...] = ()

    def __init__(self, model: bytes) -> None:
        """Raises: BadTokenizer."""
        try:
            # Without a model there is no error but a processor that breaks when it is used.
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model or b"none")
        except (RuntimeError, OSError, ValueError) as wrong:
            raise BadTokenizer("SentencePiece cannot read it") from wrong
        self.size: int = self._processor.get_piece_size()
        self.end: int = self._processor.eos_id()
        if self.end < 0:
            raise BadTokenizer("it has no token for the end of a text (train it with an eos_id)")

    def ids(self, text: str) -> list[int]:
        found: list[int] = self._processor.encode(whole(text))
        return found

    def text(self, ids: Sequence[int]) -> str:
        said: str = self._processor.decode(list(ids))
        return said

    def piece(self, token: int) -> str:
        written: str = self._processor.id_to_piece(token)
        return written


def train(texts: Iterable[str], size: int) -> bytes:
    """A model of exactly `size` tokens: 0 is what is unknown, 1 the end, 2 to 257 are bytes, the rest is learnt.

    Texts are normalised (NFKC, one space for many) and put in lower case, as suits captions: "A Dog" is "a dog". What
    has no token of its own is spelt in bytes, so nothing is ever unknown.

    Tokens are merged from pairs, the most frequent first (BPE). That only counts: the same texts give the same model,
    to the byte, with no random numbers and no sums that depend on their order. SentencePiece's other algorithm, the
    unigram model, proposes only what occurs inside two different words, and so spells "triangle" by syllables in a
    data set of a hundred words: 36 tokens a caption of `scenes` and not 17.

    Raises: BadTokenizer, if `size` does not suit the texts.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(whole(text) for text in texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc_cf",
            max_sentence_length=MAX_TEXT,
            unk_id=0,
            eos_id=1,
            bos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=5,
        )
    except RuntimeError as wrong:
        raise BadTokenizer(_misfit(str(wrong), size)) from wrong
    return model.getvalue()


def _misfit(said: str, size: int) -> str:
    """What SentencePiece says, in a sentence."""
    if most := re.search(r"too high .* <= (\d+)", said):
        return f"the texts are too few or too alike for {size} tokens: they make at most {most[1]}"
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", said):
        return f"{size} tokens are too few: the bytes and the characters of these texts alone are {least[1]}"
    return f"SentencePiece cannot learn {size} tokens from these texts: {said}"


def whole(text: str) -> str:
    """Halves of surrogate pairs, which are no UTF-8, become question marks."""
    return text.encode("utf-8", "replace").decode()
