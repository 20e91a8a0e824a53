"""`classifier: random` and `orthogonal`: rows drawn from the seed. K classes, D embedding."""

import numpy as np
import torch

from clip import ClipModel
from modules.classifier_file import cached_classifier
from modules.classifiers.classifier import Classifier
from utils.errors import UserError
from utils.schema import Config


class RandomRows(Classifier):
    """Normally distributed values with standard deviation 1."""

    is_drawn = True

    @classmethod
    def draw(cls, num_classes: int, width: int, seed: int) -> np.ndarray:
        """float64 (K, D)."""
        return np.random.default_rng(seed).standard_normal((num_classes, width))

    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        width = clip_model.embed_dim

        def make() -> torch.Tensor:
            return torch.from_numpy(cls.draw(len(names), width, cfg.seed).astype(np.float32, order="C"))

        return cached_classifier(
            cfg.logging.cache_dir, cfg.network.classifier, names, [], lambda: [width, cfg.seed], make
        )


class OrthogonalRows(RandomRows):
    """Orthonormal rows in random directions."""

    @classmethod
    def draw(cls, num_classes: int, width: int, seed: int) -> np.ndarray:
        if num_classes > width:
            raise UserError(
                f"network.classifier orthogonal: {num_classes} classes cannot be orthogonal in {width} dimensions; use "
                "random"
            )
        return orthonormal_columns(width, num_classes, seed).T


def orthonormal_columns(num_rows: int, num_columns: int, seed: int) -> np.ndarray:
    """(num_rows, num_columns), QR of normal values; each sign is fixed, so that all directions are equally likely."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((num_rows, num_columns)))
    return q * np.sign(np.diag(r))
