"""`emb_dropout`: dropout of the image tower's embeddings before ln_pre."""

from torch import nn

from modules.additions.addition import Addition
from utils.schema import Config


class EmbeddingDropOut(Addition):
    setting = "network.emb_dropout"

    @classmethod
    def add(cls, visual: nn.Module, cfg: Config) -> nn.Module:
        # What open_clip has between the embeddings and ln_pre; it has no parameters.
        visual.patch_dropout = nn.Sequential(nn.Dropout(cfg.network.emb_dropout), visual.patch_dropout)
        return visual
