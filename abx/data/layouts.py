"""What each family of methods trains on: how many streams there are, and how their images are cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

from abx.data.streams import Data, Stream
from abx.data.texts import Texts
from abx.data.views import Crops, MultiCrops, RandomCrops, WeakStrongCrops
from abx.types import ABBatch, PairsAndImages


@dataclass(frozen=True)
class OneStream(Data):
    """One stream of images."""

    train: str = "scenes"
    """Images, no labels used: `scenes` (built in, drawn on the fly), `folder:PATH` (searched with all its sub-folders),
    `tar:GLOB` (WebDataset), `arrayrecord:GLOB`, `parquet:GLOB`, or a mixture: `0.75*folder:a + 0.25*tar:b`."""
    batch: int = 4096
    """Images per step over all devices, whose number must divide it."""
    views: Crops = field(default_factory=RandomCrops)
    """How the views of an image are cut."""
    workers: int = 0
    """Processes or threads that decode and crop; 0 = one thread. Any number gives the same batches."""
    worker: Literal["process", "thread"] = "process"
    """What the workers are. Processes scale with the cores; threads start at once and need no shared memory."""
    max_rejected: float = 0.1
    """Largest share of a stream's pictures that may turn out unusable: beyond it, counted from the first 1,000 on, the
    run stops and says why; a shorter run says so at its end. 1 = never stop."""
    wanted: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """Views of each kind of crops, where the method takes exactly so many."""

    def streams(self) -> dict[str, Stream]:
        return {"train": Stream(self.train, self.batch, self.views, self.wanted)}


@dataclass(frozen=True)
class ImageData(OneStream):
    """One view of each image (MAE, I-JEPA)."""

    batch: int = 8192
    views: RandomCrops = field(default_factory=lambda: RandomCrops(n=1, scale=(0.2, 1.0), resize="bicubic"))
    """How the view of an image is cut."""
    wanted: ClassVar[Mapping[str, int]] = {"": 1}


@dataclass(frozen=True)
class PairData(OneStream):
    """Two views of each image (SimCLR)."""

    views: RandomCrops = field(default_factory=lambda: RandomCrops(n=2, scale=(0.08, 1.0)))
    """How the two views of an image are cut."""
    wanted: ClassVar[Mapping[str, int]] = {"": 2}


@dataclass(frozen=True)
class MultiCropData(OneStream):
    """Two large views of each image, and several small ones (DINO)."""

    batch: int = 1024
    views: MultiCrops = field(default_factory=MultiCrops)
    """How the views of an image are cut."""
    wanted: ClassVar[Mapping[str, int]] = {".globals": 2}


@dataclass(frozen=True)
class TextStream(OneStream):
    """One stream of images, each with a text."""

    train: str = "scenes"
    """Images with captions or boxes: `scenes` (built in, drawn on the fly), `tar:GLOB` (WebDataset), `parquet:GLOB`,
    `arrayrecord:GLOB`, or a mixture: `0.75*tar:a + 0.25*tar:b`."""
    text: Texts = field(default_factory=Texts)
    """The text that goes with an image."""

    def streams(self) -> dict[str, Stream]:
        return {"train": Stream(self.train, self.batch, self.views, self.wanted, self.text)}


@dataclass(frozen=True)
class CaptionData(TextStream):
    """One view of each image, and a text (CLIP, SigLIP)."""

    batch: int = 8192
    views: RandomCrops = field(default_factory=lambda: RandomCrops(n=1, scale=(0.5, 1.0)))
    """How the view of an image is cut."""
    wanted: ClassVar[Mapping[str, int]] = {"": 1}


@dataclass(frozen=True)
class AugmentedCaptionData(TextStream):
    """A weakly and several strongly augmented views of each image, and a text (CLIP+Aug)."""

    views: WeakStrongCrops = field(default_factory=WeakStrongCrops)
    """How the views of an image are cut."""
    wanted: ClassVar[Mapping[str, int]] = {".weak": 1}


@dataclass(frozen=True)
class TextAndImageStreams(Data):
    """Two independent streams: images with texts, and images alone."""

    pairs: str = "scenes"
    """Images with texts: `scenes` (built in, drawn on the fly), `tar:GLOB` (WebDataset), `parquet:GLOB`,
    `arrayrecord:GLOB`, or a mixture: `0.75*tar:a + 0.25*tar:b`."""
    images: str = ""
    """Images for the self-supervised loss, in the same form or `folder:PATH`; empty = those of the pairs."""
    pairs_batch: int = 4096
    """Pairs per step over all devices, whose number must divide it."""
    images_batch: int = 2048
    """Images alone per step over all devices, whose number must divide it."""
    pairs_views: RandomCrops = field(default_factory=lambda: RandomCrops(n=1, scale=(0.5, 1.0)))
    """How the view of an image with a text is cut."""
    pairs_text: Texts = field(default_factory=Texts)
    """The text that goes with an image."""
    images_views: Crops = field(default_factory=RandomCrops)
    """How the views of an image alone are cut."""
    workers: int = 0
    """Processes or threads that decode and crop; 0 = one thread. Any number gives the same batches."""
    worker: Literal["process", "thread"] = "process"
    """What the workers are. Processes scale with the cores; threads start at once and need no shared memory."""
    max_rejected: float = 0.1
    """Largest share of a stream's pictures that may turn out unusable; see `OneStream.max_rejected`."""
    batch_type: ClassVar[type | None] = PairsAndImages
    wanted: ClassVar[Mapping[str, int]] = MappingProxyType({})

    def streams(self) -> dict[str, Stream]:
        # The paper does not say whether both losses see the same images: independent samples, as AB's two.
        images = self.images or self.pairs
        return {
            "pairs": Stream(self.pairs, self.pairs_batch, self.pairs_views, {"": 1}, self.pairs_text),
            "images": Stream(images, self.images_batch, self.images_views, self.wanted, seed=1),
        }


@dataclass(frozen=True)
class SLIPData(TextAndImageStreams):
    """Pairs for CLIP, two views of other images for SimCLR."""

    images_views: RandomCrops = field(default_factory=lambda: RandomCrops(n=2, scale=(0.08, 1.0)))
    """How the two views of an image alone are cut."""
    wanted: ClassVar[Mapping[str, int]] = {"": 2}


@dataclass(frozen=True)
class SiLCData(TextAndImageStreams):
    """Pairs for CLIP, multi-crops of other images for DINO."""

    images_batch: int = 512
    images_views: MultiCrops = field(default_factory=MultiCrops)
    """How the views of an image alone are cut."""
    wanted: ClassVar[Mapping[str, int]] = {".globals": 2}


@dataclass(frozen=True)
class RewardAndValueStreams(Data):
    """Two independent streams: images that define the reward, and images on which the value function is learnt."""

    reward: str = "scenes"
    """Images that define the reward: `scenes` (built in, drawn on the fly), `folder:PATH` (searched with all its
    sub-folders), `tar:GLOB` (WebDataset), `arrayrecord:GLOB`, `parquet:GLOB`, or a mixture:
    `0.75*folder:a + 0.25*tar:b`."""
    value: str = "scenes"
    """Images on which the value function is learnt, in the same form; may be the same images. No labels are used."""
    reward_batch: int = 2048
    """Reward images per step over all devices, whose number must divide it."""
    value_batch: int = 1024
    """Value images per step over all devices, whose number must divide it."""
    reward_views: Crops = field(default_factory=RandomCrops)
    """How the views of a reward image are cut."""
    value_views: RandomCrops = field(default_factory=lambda: RandomCrops(n=4, scale=(0.05, 0.5)))
    """How the views of a value image are cut. Actions lead from each of the n to each."""
    reward_seed: int = 0
    """With --seed, the seed of the reward images' order and crops."""
    value_seed: int = 1
    """With --seed, the seed of the value images' order and crops. Another than the reward's, so that the same data on
    both sides is two independent samples of it (A-19); with the same seed and batch size both sides see the same
    images in each step."""
    workers: int = 0
    """Processes or threads that decode and crop; 0 = one thread. Any number gives the same batches."""
    worker: Literal["process", "thread"] = "process"
    """What the workers are. Processes scale with the cores; threads start at once and need no shared memory."""
    max_rejected: float = 0.1
    """Largest share of a stream's pictures that may turn out unusable: beyond it, counted from the first 1,000 on, the
    run stops and says why; a shorter run says so at its end. 1 = never stop."""
    batch_type: ClassVar[type | None] = ABBatch
    wanted: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """Views of each kind of crops that the base takes of a reward image."""

    def streams(self) -> dict[str, Stream]:
        return {"reward": self.reward_stream(), "value": self.value_stream()}

    def reward_stream(self) -> Stream:
        return Stream(self.reward, self.reward_batch, self.reward_views, self.wanted, seed=self.reward_seed)

    def value_stream(self) -> Stream:
        return Stream(self.value, self.value_batch, self.value_views, seed=self.value_seed)


@dataclass(frozen=True)
class ABData(RewardAndValueStreams):
    """AB over SimCLR: two views of each reward image, the second being one annotation."""

    reward_views: RandomCrops = field(default_factory=lambda: RandomCrops(n=2, scale=(0.08, 1.0)))
    """How the two views of a reward image are cut."""
    wanted: ClassVar[Mapping[str, int]] = {"": 2}


@dataclass(frozen=True)
class ABMultiCropData(RewardAndValueStreams):
    """AB over DINO."""

    reward_batch: int = 512
    value_batch: int = 1280
    reward_views: MultiCrops = field(default_factory=MultiCrops)
    """How the views of a reward image are cut."""
    wanted: ClassVar[Mapping[str, int]] = {".globals": 2}


@dataclass(frozen=True)
class ABCaptionData(RewardAndValueStreams):
    """AB over CLIP and SigLIP: one view of each reward image, and a text, which is one annotation."""

    reward: str = "scenes"
    """Images with captions or boxes that define the reward: `scenes` (built in, drawn on the fly), `tar:GLOB`
    (WebDataset), `parquet:GLOB`, `arrayrecord:GLOB`, or a mixture: `0.75*tar:a + 0.25*tar:b`."""
    reward_batch: int = 4096
    reward_views: RandomCrops = field(default_factory=lambda: RandomCrops(n=1, scale=(0.5, 1.0)))
    """How the view of a reward image is cut."""
    reward_text: Texts = field(default_factory=Texts)
    """The text that goes with a reward image."""
    wanted: ClassVar[Mapping[str, int]] = {"": 1}

    def reward_stream(self) -> Stream:
        return super().reward_stream()._replace(texts=self.reward_text)
