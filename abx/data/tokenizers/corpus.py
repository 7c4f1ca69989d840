"""The texts that a tokenizer learns from: those of a source's records."""

from collections.abc import Callable

import numpy as np

from abx.data.sources import BadRecord, Source
from abx.data.texts import MAX_CHARACTERS, Kind, texts_of


def corpus(source: Source, kind: Kind, limit: int, say: Callable[[int], None]) -> list[str]:
    """Up to `limit` texts: all of each record, of the records in a random order that is always the same.

    Records that cannot be read are passed over. The weights of a mixture play no part: its records are all alike.

    Args:
        say: is called with the number of texts after each record.
    """
    rng = np.random.Generator(np.random.Philox(key=[0, 0]))
    texts: list[str] = []
    for i in rng.permutation(np.arange(len(source), dtype=np.uint32)).tolist():
        if len(texts) >= limit:
            break
        try:
            record = source.stored(i)
        except BadRecord:
            continue
        texts += [text[:MAX_CHARACTERS] for text in texts_of(kind, record, source.vocabulary, rng) if text.strip()]
        say(len(texts))
    return texts[:limit]
