"""What trainable probes are fed: features of a frozen backbone, or pictures, with what is asked of them."""

from typing import NamedTuple

from jaxtyping import Float, Int, UInt8

from abx.types import AnyArray


class Labelled(NamedTuple):
    """Features of pictures with their classes: tokens, or one pooled vector each."""

    features: Float[AnyArray, "b t d"] | Float[AnyArray, "b d"]
    labels: Int[AnyArray, " b"]


class Asked(NamedTuple):
    """Tokens of pictures, and one question about each with its answer (`abx.probes.questions`)."""

    tokens: Float[AnyArray, "b t d"]
    questions: Int[AnyArray, "b s"]
    """Prompt, answer, end, padding."""
    weights: Float[AnyArray, "b s"]
    """What it costs to get each of these tokens wrong: 0 for the prompt and the padding."""


class Pictures(NamedTuple):
    """Views with their classes, for a backbone that is itself trained."""

    images: UInt8[AnyArray, "b h w 3"]
    labels: Int[AnyArray, " b"]
