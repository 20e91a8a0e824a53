"""`emb_dropout`: dropout of the image tower's embeddings before ln_pre."""

from torch import nn

from modules.additions.addition import Addition
from modules.tower_blocks import ImageTower
from utils.schema import Config


class EmbeddingDropOut(Addition):
    """In training, each value is set to zero with probability `emb_dropout`, and the others are scaled up."""

    setting = "network.emb_dropout"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        tower.visual.emb_dropout = nn.Dropout(cfg.network.emb_dropout)
        tower.before_norm_pre(tower.visual.emb_dropout)
