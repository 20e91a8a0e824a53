"""`classifier: random`: every value normal with standard deviation 1."""

import numpy as np
import torch

from clip import ClipModel
from modules.classifier_file import cached_classifier
from modules.classifiers.classifier import Classifier
from utils.schema import Config


class RandomRows(Classifier):
    is_drawn = True

    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        shape = len(names), clip_model.embed_dim

        def draw() -> torch.Tensor:
            return torch.from_numpy(np.random.default_rng(cfg.seed).standard_normal(shape).astype(np.float32))

        return cached_classifier(cfg.logging.cache_dir, "random", names, [], [shape[1], cfg.seed], draw)
