"""Full fine-tuning: the backbone and a linear head trained together (MAE's recipe; METHODS §5.1)."""

from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from abx import parallel
from abx.augment import Photometric
from abx.methods.mae import FLIP
from abx.nn import ViT, ViTConfig
from abx.nn.layers import LayerNorm, Linear
from abx.optim import AdamW
from abx.probes.batches import Pictures
from abx.train import TrainState
from abx.types import AnyArray, Aux, Axis

OPTIM = AdamW(lr=5e-4, warmup=0.05, weight_decay=0.05, weight_decay_end=0.05)
"""MAE's, for 100 epochs and batches of `PER`: learning rates grow with the batch."""
PER = 256
"""Pictures of a batch that the learning rates of `OPTIM` are for."""


class FineTuneModel(eqx.Module):
    backbone: ViT
    norm: LayerNorm
    head: Linear

    def __call__(
        self, image: UInt8[AnyArray, "h w 3"] | Float[AnyArray, "h w 3"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " c"]:
        """Logits of one picture's classes, in float32. `key`: for stochastic depth."""
        tokens = self.backbone(image, key=key)
        # The average of the patches whatever the backbone pools by, so that backbones differ in nothing else.
        patches = tokens[self.backbone.patches_from :]
        # Normalised after the average as in MAE, and before it too, as the backbone was trained.
        return self.head(self.norm(patches.astype(jnp.float32).mean(0)))


@dataclass(frozen=True)
class FineTune:
    """Classification by a backbone that is itself trained, its early layers slowly.

    MAE's RandAugment and random erasing are left out.
    """

    backbone: ViTConfig = field(default_factory=lambda: ViTConfig(drop_path=0.1))
    classes: int = 1000
    """Number of classes."""
    layer_decay: float = 0.75
    """Learning rate of a layer, in that of the layer after it. MAE has 0.65 for a ViT-B; 0.75, for a ViT-S, is our
    choice."""
    mixup: float = 0.8
    """Two pictures shown through each other: a of the Beta(a, a) that their shares are drawn from; 0 = never."""
    cutmix: float = 1.0
    """A box of one picture pasted into another: a of the Beta(a, a) that its area is drawn from; 0 = never."""
    switch: float = 0.5
    """Probability of cutmix in a batch, where there are both."""
    smoothing: float = 0.1
    """Label smoothing: share of the target spread over all classes."""
    photometric: Photometric = FLIP
    """Augmentation of the picture."""

    def problems(self) -> list[str]:
        found = self.backbone.problems() + self.photometric.problems()
        if self.classes < 2:
            found.append(f"classes must be at least 2, not {self.classes}")
        if not 0 < self.layer_decay <= 1:
            found.append(f"layer_decay must be above 0 and at most 1, not {self.layer_decay}")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                found.append(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.switch <= 1:
            found.append(f"switch must be a probability, in [0, 1], not {self.switch}")
        if not 0 <= self.smoothing < 1:
            found.append(f"smoothing must be in [0, 1), not {self.smoothing}")
        return found

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[FineTuneModel, Any]:
        """Untrained; `started_from` puts a trained backbone in."""
        kb, kh = jax.random.split(key)
        # As small as MAE's, so that the first gradients of the backbone are not those of a random head.
        head = Linear(self.backbone.width, self.classes, init=jax.nn.initializers.normal(2e-5), key=kh)
        return FineTuneModel(ViT(self.backbone, key=kb), LayerNorm(self.backbone.width), head), ()

    def loss(
        self,
        model: FineTuneModel,
        target: FineTuneModel,
        carry: Any,
        batch: Pictures,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """Raises: ValueError, when traced, for an odd number of pictures on a device when pictures are mixed."""
        kp, km, kd = jax.random.split(key, 3)
        images = self.photometric.batch(jnp.asarray(batch.images)[:, None], kp, axis=axis)[0][:, 0]
        labels = jnp.asarray(batch.labels, jnp.int32)
        images, wanted = self.mix(images, jax.nn.one_hot(labels, self.classes), km)
        wanted = (1 - self.smoothing) * wanted + self.smoothing / self.classes
        keys = parallel.row_keys(kd, len(labels), axis)
        logits = jax.vmap(lambda image, key: model(image, key=key))(images, keys)
        loss = optax.softmax_cross_entropy(logits, wanted).mean()
        right = (logits.argmax(-1) == wanted.argmax(-1)).mean(dtype=jnp.float32)
        return loss, Aux({"probe/loss": loss, "probe/top1": right}, carry)

    def mix(
        self, images: Float[Array, "b h w 3"], wanted: Float[Array, "b c"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "b h w 3"], Float[Array, "b c"]]:
        """Mixup or cutmix, one draw for the whole batch as in MAE, of each picture with its neighbour.

        Rows 2i and 2i + 1 are mixed with each other, in both directions. MAE mixes the batch with its mirror image,
        for which devices would have to send each other pictures; in a shuffled batch a neighbour is as random, and
        pairs stay on one device however many there are.
        """
        if not self.mixup and not self.cutmix:
            return images, wanted
        b = len(images)
        if b % 2:
            raise ValueError(f"pictures are mixed in pairs, and a device has {b}; give an even number of rows to each")
        neighbour = jnp.arange(b) ^ 1
        ku, kc, kb, ks = jax.random.split(key, 4)
        probability = self.switch if self.mixup and self.cutmix else float(self.cutmix > 0)
        cut = jax.random.bernoulli(ks, probability)
        height, width = images.shape[1:3]
        box = cutmix_box(jax.random.beta(kc, self.cutmix or 1.0, self.cutmix or 1.0), (height, width), kb)
        # One map of shares for both: everywhere the same, or 0 in the box and 1 outside.
        mixed = jnp.broadcast_to(jax.random.beta(ku, self.mixup or 1.0, self.mixup or 1.0), box.shape)
        own = jnp.where(cut, 1 - box, mixed)
        share = own.mean()
        images = own[..., None] * images + (1 - own[..., None]) * images[neighbour]
        return images, share * wanted + (1 - share) * wanted[neighbour]

    def rescale(self, updates: FineTuneModel, params: Any = None) -> FineTuneModel:
        """What the optimiser would change, less of it the earlier the layer: `optax.stateless(method.rescale)` goes
        after the optimiser, so that decay is scaled with the learning rate.

        The head, its norm and the backbone's last norm count as the last layer, the patch embedding and the positions
        as the one before the first block.
        """
        depth = self.backbone.depth
        blocks = self.layer_decay ** jnp.arange(depth, 0, -1).astype(jnp.float32)
        first = self.layer_decay ** (depth + 1)
        # The blocks are stacked: what is scaled is not a leaf but its rows.
        by_layer = lambda tree: jax.tree.map(lambda x: jax.vmap(jnp.multiply)(x, blocks), tree)
        embedding = lambda m: (m.backbone.patch_embed, m.backbone.pos_embed, m.backbone.cls_token)
        slowed = jax.tree.map(lambda x: first * x, embedding(updates))
        updates = eqx.tree_at(lambda m: m.backbone.blocks, updates, by_layer(updates.backbone.blocks))
        return eqx.tree_at(embedding, updates, slowed, is_leaf=lambda x: x is None)


def for_batch(optim: AdamW, batch: int) -> AdamW:
    """With the learning rates for batches of another size, by MAE's rule: lr = base lr x batch / 256."""
    share = batch / PER
    return replace(optim, lr=optim.lr * share, lr_start=optim.lr_start * share, lr_end=optim.lr_end * share)


def cutmix_box(share: Float[Array, ""], size: tuple[int, int], key: PRNGKeyArray) -> Float[Array, "h w"]:
    """1 inside a box that covers 1 - share of a picture and has its proportions, 0 outside; what of it falls over the
    picture's edge is cut off (Yun et al. 2019)."""

    def side(pixels: int, centre: Array) -> Array:
        half = jnp.floor(pixels * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
        at = jnp.arange(pixels)
        return (at >= centre - half) & (at < centre + half)

    ky, kx = jax.random.split(key)
    rows, columns = (side(n, jax.random.randint(k, (), 0, n)) for n, k in zip(size, (ky, kx), strict=True))
    return (rows[:, None] & columns).astype(jnp.float32)


def started_from(state: TrainState, backbone: ViT) -> TrainState:
    """A fresh state of `FineTune` with a trained backbone in place of the untrained one.

    Raises: ValueError when it has other parameters.
    """
    fresh = state.model.backbone
    shapes = lambda tree: [x.shape for x in jax.tree.leaves(tree)]
    if shapes(fresh) != shapes(backbone):
        raise ValueError("the backbone that was trained has other parameters than the one to be fine-tuned")
    # The arrays alone: how many branches are left out, e.g., is for fine-tuning to say.
    put = lambda: jax.tree.unflatten(jax.tree.structure(fresh), [jnp.copy(x) for x in jax.tree.leaves(backbone)])
    into = lambda model: eqx.tree_at(lambda m: m.backbone, model, put())
    return state._replace(model=into(state.model), target=into(state.target))
