"""`adapter: bitfit`: trains only biases and normalisation layers of the image tower (BitFit, arXiv 2106.10199)."""

from modules.adapters.adapter import Adapter
from modules.tower_blocks import ImageTower
from utils.schema import Config


class BitFit(Adapter):
    """Adds no parameters. The tuned parameters of CLIP are trained at `solver.clip_ratio` times the learning rate."""

    setting = "network.adapter: bitfit"
    tunes = r"bias$|(^|\.)(ln_\w+|(\w+_)?norm\w*)\.weight$"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        cls.recompute(tower, cfg)
