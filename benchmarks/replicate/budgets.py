"""How large the runs are: four budgets, each of one preset of the recipes."""

from typing import NamedTuple


class Budget(NamedTuple):
    preset: str
    """Of the recipes, and of the probe."""
    views: int
    """That a row sees in training, each crop counting once; 0 = as many as the preset has."""
    seeds: int
    """Where --seeds says nothing. METHODS §8 asks for three."""
    evals: int
    """Evaluations after the first, for learning curves."""
    images: int
    """Pictures, at most, of those evaluations, to train on and to test on each."""
    vocabulary: int
    """Tokens that are learnt from the captions of the stand-ins; drawn pictures have a vocabulary of their own."""
    probe: tuple[str, ...]
    """Flags of the probe, but for detection."""
    detection: tuple[str, ...]
    """Its flags there: an answer has 160 tokens, and costs as many times another's."""
    finetune: bool
    kept: int
    """Checkpoints of an AB run that stay, for `abx analyse`, which draws what changes through training."""
    xla: str = ""
    """XLA_FLAGS, where none are set."""


LARGEST_FIRST = ("--decoder.detection-order", "area")
"""Small sets learn it sooner, see benchmarks/README.md."""
BUDGETS = {
    # Whether every row runs and is reported; of a few dozen steps little is learnt. METHODS §8 would sweep the learning
    # rate on the base: the presets' stand for that, in all budgets. Of fewer pictures not all 100 classes are drawn.
    "tiny": Budget(
        "smoke", 6_144, 1, 2, 300, 512,
        ("--train-images", "1500", "--test-images", "300", "--linear.epochs", "20", "--map.epochs", "4",
         "--decoder.epochs", "4", "--decoder.net.depth", "2"),
        ("--train-images", "400", "--test-images", "60", "--decoder.epochs", "1", "--decoder.net.depth", "2",
         "--decoder.detection-batch", "16", *LARGEST_FIRST),
        False,
        0,
        # Compiling is most of a short run, and a third of that is saved; a step takes as long as without.
        "--xla_backend_optimization_level=1",
    ),
    # What two cores can do of a dozen rows in an hour: enough for the value head to learn, and for noise of a point.
    "laptop": Budget(
        "smoke", 65_536, 2, 3, 1_500, 512,
        ("--train-images", "5000", "--test-images", "2500", "--linear.epochs", "30", "--map.epochs", "10",
         "--decoder.epochs", "10", "--decoder.net.depth", "2"),
        ("--train-images", "1000", "--test-images", "200", "--decoder.epochs", "3", "--decoder.net.depth", "2",
         "--decoder.detection-batch", "16", *LARGEST_FIRST),
        False,
        4,
    ),
    "small": Budget("small", 20_000_000, 3, 20, 2_000, 2_000, (), LARGEST_FIRST, True, 8),
    "paper": Budget("paper", 0, 3, 20, 5_000, 4_000, (), (), True, 8),
}  # fmt: skip
"""tiny: all rows in an hour on two cores. laptop: a dozen rows in as long. small: 20 million views a row, an
accelerator. paper: ViT-S/16, 224 pixels and 800 million views, a day of an accelerator a row."""
