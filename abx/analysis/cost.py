"""What a step of training costs in FLOPs, from the sizes alone (METHODS §6): backward = 2 x forward, no remat."""

from abx.methods.ab import AB
from abx.methods.base import Method
from abx.methods.simclr import SimCLR
from abx.nn.flops import decoder_flops, projector_flops, vit_flops


def simclr_flops(method: SimCLR, batch: int, size: int) -> int:
    """One step of SimCLR on two views of `batch` images."""
    head = projector_flops(method.width, method.hidden, method.embed)
    return 3 * 2 * batch * (vit_flops(method.backbone, size) + head) + 3 * 2 * (2 * batch) ** 2 * method.embed


def ab_flops(method: AB[SimCLR], annotations: int, images: int, n: int, reward_size: int, value_size: int) -> int:
    """One step of AB over SimCLR: its own step, both networks over the views, the n² pairs, and the annotations."""
    base = method.base
    views, tokens = images * n, (value_size // base.backbone.patch) ** 2
    head = projector_flops(base.width, base.hidden, base.embed)
    value_head = projector_flops(base.width, base.hidden, method.value_embed)
    decoder = decoder_flops(method.decoder, base.width, tokens, n) + 2 * n * method.decoder.width * method.value_embed
    online = 3 * views * (vit_flops(base.backbone, value_size) + decoder) + 3 * annotations * value_head
    target = views * (vit_flops(base.backbone, value_size) + decoder + head)
    target += annotations * (vit_flops(base.backbone, reward_size) + head + value_head)
    pairs = (3 + 1) * 2 * images * n * n * annotations * method.value_embed
    reward = 2 * views * annotations * base.embed
    return simclr_flops(base, annotations, reward_size) + online + target + pairs + reward


def step_flops(method: Method, batch_sizes: dict[str, int], sizes: dict[str, int], n: int) -> int | None:
    """FLOPs of a step of any method counted here, by stream; None for one that is not."""
    if isinstance(method, SimCLR):
        return simclr_flops(method, batch_sizes["train"], sizes["train"])
    if isinstance(method, AB) and isinstance(method.base, SimCLR):
        return ab_flops(method, batch_sizes["reward"], batch_sizes["value"], n, sizes["reward"], sizes["value"])
    return None
