"""How each probe is made and trained: what of it a person chooses. Classes and words are the data's."""

import dataclasses
from dataclasses import dataclass, field

from abx.nn import ViTConfig
from abx.nn.answers import AnswerConfig
from abx.optim import AdamW
from abx.probes import attentive, decoder, finetune, linear
from abx.probes.attentive import AttentiveProbe
from abx.probes.decoder import DecoderProbe
from abx.probes.linear import LinearProbe
from abx.probes.questions import Language
from abx.probes.tasks.detection import Order


@dataclass(frozen=True)
class KNNSettings:
    k: int = 20
    """Neighbours that vote."""
    temperature: float = 0.07
    """A vote weighs exp(cosine similarity / temperature)."""

    def problems(self) -> list[str]:
        found = [f"k must be at least 1, not {self.k}"] if self.k < 1 else []
        return found if self.temperature > 0 else [*found, f"temperature must be above 0, not {self.temperature}"]


@dataclass(frozen=True)
class LinearSettings:
    rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Learning rates that are tried at once, in those of the optimiser; the best on a held-out part counts."""
    held_out: float = 0.01
    """Share of each class, and at least one picture of it, that is held out for that; of small sets more, up to a
    fifth. These are not trained on, and n_train does not count them."""
    epochs: int = 90
    """Length of the training, in passes over the training pictures."""
    batch: int = 1024
    """Pictures per step over all devices, at most: it is made a multiple of 16."""
    optim: AdamW = linear.OPTIM

    def method(self, classes: int) -> LinearProbe:
        return LinearProbe(classes, self.rates)

    def problems(self) -> list[str]:
        found = self.method(2).problems() + _training(self.epochs, self.batch, self.optim)
        return found if 0 < self.held_out < 1 else [*found, f"held_out must be in (0, 1), not {self.held_out}"]


@dataclass(frozen=True)
class MapSettings:
    heads: int = 0
    """Attention heads, which must divide the tokens' width; 0 = one for every 64 of it."""
    mlp: int = 0
    """Hidden width of the MLP after the pooling; 0 = four times the tokens' width."""
    epochs: int = 30
    """Length of the training, in passes over the training pictures."""
    batch: int = 1024
    """Pictures per step over all devices, at most: it is made a multiple of 16."""
    optim: AdamW = attentive.OPTIM

    def method(self, classes: int) -> AttentiveProbe:
        return AttentiveProbe(classes, self.heads, self.mlp)

    def problems(self) -> list[str]:
        return self.method(2).problems() + _training(self.epochs, self.batch, self.optim)


@dataclass(frozen=True)
class DecoderSettings:
    net: AnswerConfig = field(default_factory=AnswerConfig)
    smoothing: float = 0.1
    """Label smoothing: share of the target spread over all tokens. Detection has none, as pix2seq."""
    epochs: int = 30
    """Length of the training, in passes over the questions about the training pictures."""
    batch: int = 1024
    """Questions per step over all devices, at most: it is made a multiple of 16."""
    detection_batch: int = 256
    """The same for detection, whose questions are long."""
    detection_order: Order = "random"
    """In which a detection names objects for training: random, as in pix2seq, or area, the largest first, which small
    sets learn sooner."""
    optim: AdamW = decoder.OPTIM

    def method(self, language: Language, kind: str) -> DecoderProbe:
        return DecoderProbe(language, self.net, 0.0 if kind == "detection" else self.smoothing)

    def batch_of(self, kind: str) -> int:
        return self.detection_batch if kind == "detection" else self.batch

    def problems(self) -> list[str]:
        found = [s.replace("decoder.", "net.", 1) for s in self.method(Language(2), "").problems()]
        if self.detection_batch < 1:
            found.append(f"detection_batch must be at least 1, not {self.detection_batch}")
        return found + _training(self.epochs, self.batch, self.optim)


@dataclass(frozen=True)
class FineTuneSettings:
    layer_decay: float = 0.75
    """Learning rate of a layer, in that of the layer after it."""
    drop_path: float = 0.1
    """Probability that a branch of the last block is left out; it rises linearly from 0 at the first."""
    mixup: float = 0.8
    """Two pictures shown through each other: a of the Beta(a, a) that their shares are drawn from; 0 = never."""
    cutmix: float = 1.0
    """A box of one picture pasted into another: a of the Beta(a, a) that its area is drawn from; 0 = never."""
    smoothing: float = 0.1
    """Label smoothing: share of the target spread over all classes."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of a training crop, as a share of the picture's."""
    epochs: int = 100
    """Length of the training, in passes over the training pictures."""
    batch: int = 1024
    """Pictures per step over all devices, at most: it is made a multiple of 16. Learning rates grow with it."""
    optim: AdamW = finetune.OPTIM
    """Its learning rates are for batches of 256; used is lr x batch / 256, with the batch that is really taken (MAE's
    rule)."""

    def method(self, backbone: ViTConfig, classes: int) -> finetune.FineTune:
        """`backbone`: the configuration of the one that was trained."""
        dropping = dataclasses.replace(backbone, drop_path=self.drop_path)
        decay, mixup, cutmix, smoothing = self.layer_decay, self.mixup, self.cutmix, self.smoothing
        return finetune.FineTune(dropping, classes, decay, mixup, cutmix, smoothing=smoothing)

    def problems(self) -> list[str]:
        found = self.method(finetune.FineTune().backbone, 2).problems() if 0 <= self.drop_path < 1 else []
        if not 0 <= self.drop_path < 1:
            found.append(f"drop_path must be a probability below 1, not {self.drop_path}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            found.append(f"scale must be 0 < low <= high <= 1, not {self.scale[0]} {self.scale[1]}")
        return found + _training(self.epochs, self.batch, self.optim)


def _training(epochs: int, batch: int, optim: AdamW) -> list[str]:
    found = optim.problems()
    if epochs < 1:
        found.append(f"epochs must be at least 1, not {epochs}")
    if batch < 1:
        found.append(f"batch must be at least 1, not {batch}")
    return found
