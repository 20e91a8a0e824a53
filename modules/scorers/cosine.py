"""`scorer: cosine`: cosine similarity of a video embedding and a class embedding."""

import numpy as np
import torch
from torch.nn import functional as F

from modules.scorers.scorer import Scale, Scorer
from utils.metrics import EVAL_LOGIT_SCALE, class_logits


class Cosine(Scorer):
    exports = True

    def forward(self, videos: torch.Tensor, classes: torch.Tensor, scale: Scale = EVAL_LOGIT_SCALE) -> torch.Tensor:
        return scaled_cosine(videos, classes, scale)

    def table_logits(
        self, embeddings: np.ndarray, classes: np.ndarray, device: torch.device | str = "cpu"
    ) -> np.ndarray:
        return class_logits(embeddings, classes)


def scaled_cosine(video: torch.Tensor, text: torch.Tensor, scale: Scale = EVAL_LOGIT_SCALE) -> torch.Tensor:
    """Logits (B, K) float32: `scale` times the cosine of (B, D) video and (K, D) class embeddings of any length.

    Evaluation uses the default scale; training that of the model.
    """
    with torch.autocast(video.device.type, enabled=False):
        return scale * F.normalize(video.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
