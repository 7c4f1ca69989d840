"""Which boards show a run beside `metrics.jsonl`, and what they need."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

EXTRAS = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""By flag, which is the extra's name as well: the module that it needs."""


@dataclass(frozen=True)
class Logging:
    every: int = 10
    """Steps between lines of metrics.jsonl and of progress; 0 = only at the last step."""
    tensorboard: bool = False
    """Also write figures and pictures for TensorBoard, to tensorboard/ in --out. Needs the extra tensorboard."""
    wandb: bool = False
    """Also write figures and pictures for Weights & Biases, to wandb/ in --out. Needs the extra wandb."""
    wandb_project: str = "abx"
    """Project that the run belongs to there."""
    wandb_mode: Literal["offline", "online"] = "offline"
    """offline = files on this machine, which wandb sync can send later; online = to the service, as an account that
    wandb login has set up."""

    def problems(self) -> list[str]:
        """One sentence each; it begins with the setting."""
        found = []
        for name, module in EXTRAS.items():
            if getattr(self, name) and not _there(module):
                found.append(f"log.{name} needs {module}: pip install 'annotation-bootstrapping[{name}]'")
        if self.wandb and not self.wandb_project.strip():
            found.append("log.wandb-project must be the name of a project, not empty")
        return found


def _there(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.origin is not None  # without an origin: any folder of that name
