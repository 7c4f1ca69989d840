"""What a method is: a frozen dataclass of hyper-parameters with an `init` and a `loss`.

`train.py` asks for a Method and nothing else. A Reward is a Method on which annotation bootstrapping can sit.
"""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from abx.types import Aux, Axis


@runtime_checkable
class Method(Protocol):
    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[Any, Any]:
        """A fresh (model, carry). `batch` is the first one, for what depends on the data's sizes; optional."""

    def loss(
        self, model: Any, target: Any, carry: Any, batch: Any, key: PRNGKeyArray, *, axis: Axis = None
    ) -> tuple[Float[Array, ""], Aux]:
        """The scalar to minimise over `model`; `target` is its EMA, `axis` the mesh axis when under `shard_map`.

        The scalar and the metrics are means over this device's rows; the carry comes out the same on every device.
        `key` is everyone's: what is drawn for a row depends on its place in the whole batch (`parallel.row_keys`),
        so that the number of devices changes nothing.
        """

    def problems(self) -> list[str]:
        """What is wrong with the hyper-parameters: one sentence each, naming the field. Empty when all is well."""


@runtime_checkable
class Reward(Method, Protocol):
    """What annotation bootstrapping needs of its base. Its model has a field `backbone`, a ViT."""

    @property
    def width(self) -> int:
        """Width of the backbone's tokens."""

    @property
    def embed(self) -> int:
        """Width of the shared embedding space."""

    def annotation_count(self, batch: Any) -> int:
        """l, the number of annotations that a (global) batch scores views against."""

    def annotation_head(self, e: int, key: PRNGKeyArray) -> eqx.Module:
        """A fresh psi, from what `encode` returns as annotations to e numbers: a second score over the same ones."""

    def prepare(self, batch: Any, key: PRNGKeyArray | None, *, axis: Axis = None) -> Any:
        """Augmentation on the device, once, so that the online and the target network see the same pixels; without a
        key none."""

    def encode(self, model: Any, batch: Any) -> Any:
        """Run the towers over a prepared batch, each once."""

    def encode_target(self, target: Any, batch: Any) -> Any:
        """The same for the target network, but only what `reward`, `reward_loss` and `annotations` need of it."""

    def annotations(self, head: Any, encoded: Any, *, axis: Axis = None) -> Float[Array, "l e"]:
        """psi(l) by `head`, unit length, everyone's."""

    def reward_loss(
        self, model: Any, encoded: Any, target_encoded: Any, carry: Any, *, axis: Axis = None
    ) -> tuple[Float[Array, ""], Aux]:
        """The base's own loss, from what `encode` and `encode_target` returned."""

    def reward(
        self, target: Any, carry: Any, tokens: Float[Array, "*b t d"], target_encoded: Any, *, axis: Axis = None
    ) -> Float[Array, "*b l"]:
        """r(x, l) = p(l | x) of the target network for views with these tokens: probabilities."""
