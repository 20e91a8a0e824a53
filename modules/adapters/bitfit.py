"""`adapter: bitfit`: the image tower's biases and normalisations alone train (BitFit, arXiv 2106.10199)."""

from modules.adapters.adapter import Adapter
from modules.tower_blocks import ImageTower
from utils.schema import Config


class BitFit(Adapter):
    """It adds nothing. These are CLIP's own parameters: they train at `solver.clip_ratio` of the learning rate."""

    setting = "network.adapter: bitfit"
    tunes = r"bias$|(^|\.)(ln_\w+|(\w+_)?norm\w*)\.weight$"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        cls.recompute(tower, cfg)
