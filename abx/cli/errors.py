"""How a verb ends that cannot be done."""

import sys
from typing import NoReturn


def fail(sentence: str, code: int = 2) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(code)
