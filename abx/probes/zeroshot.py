"""Zero-shot classification (CLIP's): the class whose name, put into sentences, lies nearest to the picture."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from abx.data.sources import SpecError, printable
from abx.probes.tasks.written import of_words
from abx.probes.towers import Towers
from abx.types import AnyArray

SENTENCES = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a photo of the {}.",
    "a close view of a {}.",
    "a {} seen from afar.",
    "a {} among other things.",
    "this is a {}.",
)
"""Our own words. That the average over several sentences is better than one is CLIP's finding; the paper does not
measure zero-shot accuracy."""


@dataclass(frozen=True)
class ZeroShot:
    """Nothing is trained: the run's own towers compare pictures with the names of the classes."""

    templates: tuple[str, ...] = ()
    """Sentences with {} where the name of a class goes; what they say is averaged. None: seven that speak of photos, or
    the bare name for a run whose texts were lists of what is in a picture (--data.text.kind boxes)."""

    def problems(self) -> list[str]:
        return [
            f"templates must have one {{}} for the name of a class, which {template!r} has not"
            for template in self.templates
            if template.count("{}") != 1
        ]

    def sentences(self, kind: str) -> tuple[str, ...]:
        """The templates, or those that fit texts of this kind."""
        return self.templates or (("{}",) if kind == "boxes" else SENTENCES)

    def classifier(self, towers: Towers, classes: Sequence[str]) -> Float[np.ndarray, "c e"]:
        """A unit embedding of each class: the mean over the templates of unit embeddings.

        Raises: SpecError for names of which nothing can be said; BadTokenizer.
        """
        if sentence := nameless(classes):
            raise SpecError(sentence)
        templates = self.sentences(towers.texts.kind)
        tokens, places = towers.tokens([t.replace("{}", spoken(name)) for name in classes for t in templates])
        if len(places) < len(classes) * len(templates):
            silent = np.setdiff1d(np.arange(len(classes) * len(templates)), places)[0] // len(templates)
            raise SpecError(f"the tokenizer makes nothing of the class {printable(classes[silent])!r}")
        said = towers.sentences(tokens).reshape(len(classes), len(templates), -1)
        return _unit(said.mean(1))

    def results(
        self,
        towers: Towers,
        pooled: Float[AnyArray, "m d"],
        labels: Int[np.ndarray, " m"],
        classes: Sequence[str],
    ) -> dict[str, float]:
        """top1, mean_per_class and n_test; and top5 where there are more than five classes.

        Args:
            pooled: the backbone's features of the pictures to test on.
            labels: of these, as numbers of `classes`; -1 for a picture without one, which does not count.

        Raises: SpecError where no picture has a class, or the classes have no names; BadTokenizer.
        """
        known = labels >= 0
        if not known.any():
            raise SpecError("zero-shot classification needs pictures with a class, and none has one")
        scores = towers.pictures(np.asarray(pooled)[known]) @ self.classifier(towers, classes).T
        return of_words(scores, labels[known])


def spoken(name: str) -> str:
    """The name of a class as one says it: golden_retriever is a golden retriever, and of synonyms that commas part the
    first is the most usual."""
    return " ".join(name.replace("_", " ").partition(",")[0].split())


def nameless(classes: Sequence[str]) -> str | None:
    """Why sentences cannot be made of these names, or None."""
    if not classes:
        return "zero-shot classification needs the names of the classes, and the data has none"
    codes = [name for name in classes if not re.search(r"[^\W\d_]", spoken(name)) or re.fullmatch(r"n\d{8}", name)]
    if not codes:
        return None
    return (
        f"zero-shot classification needs classes with names in words; {len(codes)} of {len(classes)} have none, "
        f"such as {printable(codes[0])!r}"
    )


def _unit(x: Float[np.ndarray, "*b e"]) -> Float[np.ndarray, "*b e"]:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
