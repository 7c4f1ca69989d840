"""A backbone to look at: that of a run's checkpoint, of a file of weights, or an untrained one."""

import os
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from abx import nn, parallel, train
from abx.checkpoint import CheckpointError, Checkpoints
from abx.data.sources import SpecError, printable
from abx.experiment.beginning import backbone_of, begin
from abx.experiment.config import Recipe
from abx.experiment.folder import recipe_of
from abx.experiment.offering import Pixels, offer, problems_of_heads, problems_of_pixels
from abx.experiment.weights import FILES, PICKLES
from abx.nearest import hint, not_there
from abx.nn import ViT, ViTConfig
from abx.train import TrainState

Network = Literal["online", "target"]
Pool = Literal["gap", "map", "token"]
UNTRAINED = "S/16"
"""What --init is where nobody says."""


class Subject(NamedTuple):
    """A backbone, and where it is from."""

    backbone: ViT
    run: str
    """Folder of the run, from the root, so that results that name it can be read from anywhere; "none" for one of no
    run."""
    init: str
    """What that one is: sizes; a folder or a file of weights, from the root. "" for a run's."""
    network: Network
    step: int
    recipe: Recipe | None = None
    model: Any = None
    """All of that network, with its heads and towers; None for one of no run."""
    said: str = ""
    """What was loaded of a file of weights, and what not."""

    @property
    def called(self) -> str:
        """For titles."""
        if self.run != "none":
            return f"{Path(self.run).name}, {self.network} network of step {self.step:,}"
        if holds_weights(self.init):
            return Path(self.init).name
        return f"{self.init}, untrained" if named(self.init) else f"{Path(self.init).name} before its first step"


def load_subject(run: Path, network: Network = "online", step: str = "newest") -> Subject:
    """The backbone of a run's checkpoint, on this machine's devices.

    Args:
        step: newest, best (by the k-NN accuracy that the run logged), or a number.

    Raises: SpecError when there is no such checkpoint, or it is of another architecture than config.json says.
    """
    recipe, state = load_state(run, step)
    model = state.model if network == "online" else state.target
    return Subject(model.backbone, os.path.abspath(run), "", network, int(state.step), recipe, model)


def load_state(run: Path, step: str = "newest") -> tuple[Recipe, TrainState]:
    """A run's recipe, and its state at a step, as `load_subject` takes them.

    Raises: SpecError as `load_subject`.
    """
    recipe = recipe_of(run)
    if not steps_of(run):
        raise SpecError(f"--run {run} holds no checkpoint yet")
    tx = recipe.optim.build(recipe.steps)
    like = jax.eval_shape(lambda: train.init(recipe.method, tx, recipe.seed, recipe.data.blank()))
    sharding = parallel.replicated(parallel.mesh())
    try:
        with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
            if step == "newest":
                found = checkpoints.restore_newest(like, sharding)
            else:
                wanted = checkpoints.best() if step == "best" else int(step)
                if wanted is None:
                    raise SpecError(f"--step best: no checkpoint of {run} has a k-NN accuracy; give a step, or newest")
                found = checkpoints.restore(wanted, like, sharding)
    except CheckpointError as wrong:
        raise SpecError(f"--run: {wrong}") from wrong
    if found is None:
        raise SpecError(f"--run {run} holds no complete checkpoint yet")
    return recipe, TrainState(*found[0])


def untrained(
    init: str, seed: int = 0, size: int = 0, pool: Pool = "gap", pixels: Pixels = "auto", heads: int = 0
) -> Subject:
    """A backbone of no run: with random parameters, or with those of a file.

    Args:
        init: Ti, S, B, L or H, with or without a patch: S/16, ViT-S/16; or the folder of a run, whose backbone is then
            as it was before the first step; or a file of weights.
        seed: of a named one. A run has its own.
        size: side of the views it is made for; 0 = 224, or what the file says.
        pixels: how a file's network wants pictures.
        heads: of attention, of a file that does not tell.

    Raises: SpecError.
    """
    if (config := named(init, size, pool)) is not None:
        backbone = jax.jit(lambda: ViT(config, key=jax.random.key(seed)))()
        return Subject(backbone, "none", init, "online", 0)
    if holds_weights(init):
        backbone, said = backbone_of(init, pixels, size, heads)
        return Subject(backbone, "none", os.path.abspath(init), "online", 0, said=said)
    recipe = recipe_of(Path(init))
    tx = recipe.optim.build(recipe.steps)
    blank = recipe.data.blank()
    if recipe.init and recipe.backbone is not None:
        state = jax.jit(lambda: train.init(recipe.method, tx, recipe.seed, blank))()
        state, said = begin(state, recipe.init, recipe.init_pixels, recipe.backbone)
        return Subject(state.model.backbone, "none", os.path.abspath(init), "online", 0, said=said)
    backbone = jax.jit(lambda: train.init(recipe.method, tx, recipe.seed, blank).model.backbone)()
    return Subject(backbone, "none", os.path.abspath(init), "online", 0)


def named(init: str, size: int = 0, pool: Pool = "gap") -> ViTConfig | None:
    """The sizes that ViT-S/16 stands for; None for what is no such name."""
    match = re.fullmatch(r"(?:ViT-)?(Ti|S|B|L|H)(?:/(\d{1,3}))?", init)
    if match is None:
        return None
    sizes: ViTConfig = getattr(nn, match[1])
    numbers = {name: getattr(sizes, name) for name in ("width", "depth", "heads", "mlp")}
    return ViTConfig(**numbers, patch=int(match[2] or 16), size=size or 224, pool=pool)


def holds_weights(init: str) -> bool:
    """Whether it is to be read as a file of weights."""
    return not Path(init).is_dir() and Path(init).suffix.lower() in (*FILES, *PICKLES)


def config_of(run: str, init: str, size: int, pool: Pool) -> ViTConfig | None:
    """Sizes of the backbone that would be loaded. Touches no device."""
    if run == "none" and (config := named(init, size, pool)) is not None:
        return config
    if run == "none" and holds_weights(init):
        return offer(Path(init), ViTConfig(size=size or 224)).config
    return recipe_of(Path(init if run == "none" else run)).backbone


def steps_of(run: Path) -> list[int]:
    """Steps of a run's checkpoints, as their folders say. Touches no device."""
    folder = run / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []


def problems_of_network(
    run: str, network: Network, step: str, init: str, size: int, pool: Pool, pixels: Pixels = "auto", heads: int = 0
) -> list[str]:
    """What is wrong with the choice of a network, as far as can be told without a device: sentences, each beginning
    with its flag."""
    if size < 0:
        return [f"--size must be at least 0, not {size}"]
    if run == "none":
        found = _problems_of_init(init, size, pool, pixels, heads)
    else:
        found = _problems_of_run(run, step) + _only_without_run(init, pool, pixels, heads)
    config = None if found else config_of(run, init, size, pool)
    if config is not None and size % config.patch:
        found.append(f"--size must be a multiple of the patch, {config.patch}, not {size}")
    if run == "none" and network != "online":
        found.append("--network must be online with --run none, which has no moving average")
    return found


def _problems_of_run(run: str, step: str) -> list[str]:
    """What is wrong with --run and --step, as far as can be told without a device."""
    folder = Path(run)
    if sentence := _no_run(folder):
        return [f"--run {sentence}"]
    if not (steps := steps_of(folder)):
        return [f"--run {run} holds no checkpoint yet"]
    if step in ("newest", "best") or (step.isdecimal() and int(step) in steps):
        return []
    there = ", ".join(map(str, steps))
    if step.isdecimal():
        return [f"--step {step}: {run} has no such checkpoint; there are {there}"]
    return [f"--step must be newest, best or one of {there}, not {step}{hint(step, ('newest', 'best'))}"]


def _only_without_run(init: str, pool: Pool, pixels: Pixels, heads: int) -> list[str]:
    """Flags that describe a network of no run, beside a run, which has its own."""
    given = {"--init": init not in ("", UNTRAINED), "--pool": pool != "gap"}
    given |= {"--init-pixels": pixels != "auto", "--init-heads": heads != 0}
    return [f"{flag} is for --run none: leave one of the two out" for flag, there in given.items() if there]


def _problems_of_init(init: str, size: int, pool: Pool, pixels: Pixels, heads: int) -> list[str]:
    """What is wrong with --init, where --run is none."""
    config = named(init, size, pool)
    if config is not None:
        return [sentence.replace("backbone.", "--", 1) for sentence in config.problems()]
    if holds_weights(init):
        try:
            found = offer(Path(init), ViTConfig(size=size or 224))
        except SpecError as wrong:
            return [f"--init {wrong}"]
        own = [f"--pool: --init {init} says itself what its features are; leave it out"] if pool != "gap" else []
        return problems_of_pixels(found, pixels) + problems_of_heads(found, heads) + own
    if sentence := _no_run(Path(init)):
        return [
            f"--init must be Ti, S, B, L or H, as in ViT-S/16, the folder of a run, or a file of weights "
            f"({', '.join(FILES)}); {sentence}"
        ]
    return []


def _no_run(folder: Path) -> str | None:
    """Why a folder is not that of a run that can be read."""
    if not folder.is_dir():
        return f"{folder} is a file, not a folder" if folder.exists() else not_there(folder)
    unread = f"{folder / 'config.json'} is not a configuration that this version of abx reads"
    try:
        recipe = recipe_of(folder)
    except FileNotFoundError:
        return f"{folder} is not the folder of a run: it has no config.json"
    except (OSError, ValueError, RecursionError) as wrong:
        return f"{unread}: {printable(str(wrong))}"
    # Of its data nothing is asked: they need not be here any more.
    wrong_sizes = [f"method.{sentence}" for sentence in recipe.method.problems()] + recipe.optim.problems()
    return f"{unread}: {wrong_sizes[0]}" if wrong_sizes else None
