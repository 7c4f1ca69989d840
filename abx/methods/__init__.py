"""The paper's methods, one file per row label of its tables."""

from abx.methods.ab import AB
from abx.methods.base import Method, Reward
from abx.methods.clip import CLIP
from abx.methods.clip_aug import CLIPAug
from abx.methods.dino import DINO
from abx.methods.ijepa import IJEPA
from abx.methods.mae import MAE
from abx.methods.siglip import SigLIP
from abx.methods.silc import SiLC
from abx.methods.simclr import SimCLR
from abx.methods.slip import SLIP

__all__ = ["AB", "CLIP", "DINO", "IJEPA", "MAE", "SLIP", "CLIPAug", "Method", "Reward", "SiLC", "SigLIP", "SimCLR"]
