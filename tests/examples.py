"""The example lines of every --help, as they are typed."""

import re
import shlex

from abx.cli import ABOUT
from abx.cli.data import ABOUT as OF_DATA
from abx.cli.probe import ABOUT as OF_PROBE
from abx.cli.tokenizer import ABOUT as OF_TOKENIZER
from abx.cli.verify import VerifyResume
from recipes import NAMES, load


def lines(text: str) -> list[str]:
    """The commands in a text, each whole: a line that ends in a backslash goes on in the next."""
    whole = re.sub(r"\\\n\s*", "", text)
    return [x.strip() for x in re.findall(r"^ *((?:abx|python recipes/\S+\.py)(?: .*)?)$", whole, re.M)]


CONSOLE = [
    *lines(ABOUT),
    *(re.findall(r"abx verify-resume .*", VerifyResume.__doc__ or "")),
    *lines(OF_DATA),
    *lines(OF_TOKENIZER),
    *lines(OF_PROBE),
]
RECIPES = [line for name in (*NAMES, "probe") for line in lines(load(name).__doc__ or "")]


def words(line: str) -> list[str]:
    """As a shell splits it, without the program."""
    found = shlex.split(line)
    return found[1:] if found[0] == "abx" else found[2:]
