"""CLIP's tokenizer, from the file of merges that was published with it (Radford et al. 2021; A-28).

A text in lower case is cut into words, a word is written as its bytes, and pairs are merged in the order of the file's
lines until none of the lines applies. The last symbol of a word carries `</w>`. Tokens are numbered: the 256 bytes, the
256 bytes at a word's end, the merges, the start, the end; 49,408 in all.
"""

import gzip
import html
import io
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise

from abx.data.tokenizers.base import BadTokenizer

MERGES = 48_894
"""The lines of the file that CLIP uses: the first so many after its heading. It holds five times as many."""
MAX_WORD = 256
"""Bytes. To merge takes time in the square of a word's length, so what is longer is merged in parts."""
WORD_END = "</w>"

_PARTS = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
_QUOTES = str.maketrans(dict.fromkeys("ʼ‘’‚‛", "'") | dict.fromkeys("“”„‟", '"'))


class Clip:
    """As a `Tokenizer`."""

    def __init__(self, merges: str) -> None:
        """Args:
        merges: the file's text.

        Raises: BadTokenizer.
        """
        lines = [tuple(line.split()) for line in merges.split("\n")[1 : MERGES + 1]]
        if len(lines) < MERGES or any(len(line) != 2 for line in lines):
            raise BadTokenizer(f"it is not CLIP's: that has {MERGES:,} lines of two symbols after its heading")
        self._letters = _letters()
        self._bytes = {letter: byte for byte, letter in enumerate(self._letters)} | {" ": 32}
        ordered = sorted(self._letters, key=lambda letter: (ord(letter) > 255, letter))
        symbols = [*ordered, *(letter + WORD_END for letter in ordered), *map("".join, lines)]
        self._symbols = [*symbols, "<start_of_text>", "<end_of_text>"]
        self._numbers = {symbol: number for number, symbol in enumerate(symbols)}
        self._ranks = {line: rank for rank, line in enumerate(lines)}
        self.size = len(self._symbols)
        self.start: tuple[int, ...] = (self.size - 2,)
        self.end = self.size - 1
        self._word = lru_cache(maxsize=1 << 16)(self._merged)

    def ids(self, text: str) -> list[int]:
        return [number for word in words(text) for number in self._word(word)]

    def text(self, ids: Sequence[int]) -> str:
        said = "".join(self._symbols[i] for i in ids if i < self.start[0]).replace(WORD_END, " ")
        return bytes(self._bytes[letter] for letter in said).decode("utf-8", "replace").strip()

    def piece(self, token: int) -> str:
        return self._symbols[token]

    def _merged(self, word: str) -> tuple[int, ...]:
        letters = [self._letters[byte] for byte in word.encode("utf-8", "replace")]
        found: list[int] = []
        for first in range(0, len(letters), MAX_WORD):
            part = letters[first : first + MAX_WORD]
            part[-1] += WORD_END
            found += [self._numbers[symbol] for symbol in self._merge(part)]
        return tuple(found)

    def _merge(self, symbols: list[str]) -> list[str]:
        """Merge, of all pairs that lie side by side, the one that is first in the file, wherever it is; and again."""
        while len(symbols) > 1:
            best = min(pairwise(symbols), key=lambda pair: self._ranks.get(pair, MERGES))
            if best not in self._ranks:
                break
            merged: list[str] = []
            for symbol in symbols:
                if merged and (merged[-1], symbol) == best:
                    merged[-1] += symbol
                else:
                    merged.append(symbol)
            symbols = merged
        return symbols


def unpacked(data: bytes, limit: int) -> str:
    """The text in a gzip file, up to `limit` bytes.

    Raises: BadTokenizer.
    """
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(data)).read(limit).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as wrong:
        raise BadTokenizer("it is a gzip file that is damaged or holds no text") from wrong


def words(text: str) -> Iterator[str]:
    """A text in lower case, in parts: runs of letters, single digits, runs of other signs, and endings such as 's.

    As CLIP has it, HTML's `&amp;amp;` is undone twice. CLIP also mends text that was decoded wrongly, with ftfy, which
    we do not depend on: of what it does, only curly quotes become straight and letters take in their accents.
    `<end_of_text>` in a caption is a word like any other.
    """
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(text)).translate(_QUOTES))
    for part in _PARTS.findall(" ".join(text.split()).lower()):
        if part.isalpha() or not part.isalnum():
            yield part
        else:  # among the letters are numbers that are no digits, ² or Ⅳ
            for is_letter, run in groupby(part, str.isalpha):
                joined = "".join(run)
                yield from [joined] if is_letter else joined


def _letters() -> list[str]:
    """A letter that prints for each byte: itself in Latin 1 where that prints, another from 256 on elsewhere."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]
