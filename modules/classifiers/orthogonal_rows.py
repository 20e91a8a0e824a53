"""`classifier: orthogonal`: orthonormal rows in random directions."""

import numpy as np
import torch

from clip import ClipModel
from modules.classifier_file import cached_classifier
from modules.classifiers.classifier import Classifier
from utils.errors import UserError
from utils.schema import Config


class OrthogonalRows(Classifier):
    is_drawn = True

    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        num_classes, width = len(names), clip_model.embed_dim
        if num_classes > width:
            raise UserError(
                f"network.classifier orthogonal: {num_classes} classes cannot all be orthogonal in {width} dimensions; "
                "use random"
            )

        def draw() -> torch.Tensor:
            return torch.from_numpy(orthonormal_columns(width, num_classes, cfg.seed).T.astype(np.float32).copy())

        return cached_classifier(cfg.logging.cache_dir, "orthogonal", names, [], [width, cfg.seed], draw)


def orthonormal_columns(num_rows: int, num_columns: int, seed: int) -> np.ndarray:
    """(num_rows, num_columns), QR of normal values; each sign is fixed, so that all directions are equally likely."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((num_rows, num_columns)))
    return q * np.sign(np.diag(r))
