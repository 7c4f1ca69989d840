"""How a verb ends that cannot be done."""

import sys
from collections.abc import Sequence
from typing import NoReturn


def fail(sentence: str, code: int = 2) -> NoReturn:
    fail_each([sentence], code)


def fail_each(sentences: Sequence[str], code: int = 2) -> NoReturn:
    for sentence in sentences:
        print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(code)
