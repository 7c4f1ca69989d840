"""`abx pca`: pictures beside the principal components of their tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from abx.analysis.components import colours, components
from abx.analysis.components_picture import draw_components
from abx.data.sources import Source
from abx.experiment.embedding import Grid
from abx.probes.features import Features, Look, pictures


class TokenPicture(NamedTuple):
    page: Image.Image
    share: Float[np.ndarray, "3"]
    """Of all variance of the tokens of patches, that of each component."""


def token_picture(
    source: Source,
    records: Int[np.ndarray, " n"],
    look: Look,
    found: Features,
    grid: Grid,
    which: Sequence[int],
    title: str,
) -> TokenPicture:
    """The page of these records.

    Args:
        records: those that `found` has, in its order: with tokens, better in float32.
        grid: how their tokens lie. Those of no patch are left out.
        which: three components for red, green and blue, the first being 1.

    Raises: ValueError where tokens are not finite, or have fewer numbers than there are components to be.
    """
    assert found.tokens is not None
    patches = found.tokens[:, grid.patches_from :]
    analysed = components(patches, max(which))
    chosen = [k - 1 for k in which]
    coloured = colours(analysed.of(patches)[..., chosen])
    seen = np.zeros((len(records), look.size, look.size, 3), np.uint8)
    for batch in pictures(source, records, look, len(records), []):
        seen[batch.places] = batch.images[: len(batch.places)]
    shape = (len(patches), grid.rows, grid.columns, 3)
    share = analysed.share[chosen]
    return TokenPicture(draw_components(list(seen), coloured.reshape(shape), found.names, which, share, title), share)
