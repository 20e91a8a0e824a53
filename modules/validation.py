"""Validation during training: the embedding pass over the validation list, then its scores."""

import numpy as np
import torch

from modules.embed import VideoTable, embed_videos
from modules.video_clip import VideoCLIP
from utils.context import RunContext
from utils.distributed import share_from_main
from utils.loaders import EvalLoader
from utils.metrics import MultiLabelScores, Scores, score_labels


def embed_with(
    model: VideoCLIP, loader: EvalLoader, context: RunContext, clips_per_forward: int, description: str
) -> VideoTable | None:
    """Embed the videos of `loader` by a model in evaluation mode; its mode is restored afterwards.

    See `modules.embed.embed_videos`.
    """
    was_training = model.training
    model.eval()
    try:
        return embed_videos(model.video_features, loader, context, clips_per_forward, description)
    finally:
        model.train(was_training)


@torch.no_grad()
def text_matrix(model: VideoCLIP, text: torch.Tensor | None) -> np.ndarray:
    """float32 (K,D): the frozen class features `text`, or, for None, the embeddings that the model makes now."""
    if text is None:
        was_training = model.training
        text = model.eval().class_embeddings()
        model.train(was_training)
    return text.float().cpu().numpy()


def validate(
    model: VideoCLIP, text: torch.Tensor | None, loader: EvalLoader, context: RunContext, clips_per_forward: int
) -> Scores | MultiLabelScores:
    """Scores of single views over the whole list, the same on every process.

    Args:
        text: (K,D) class features; None: the embeddings that the model makes now.

    Raises:
        Stopped: on all processes, where one was asked to stop.
    """
    table = embed_with(model, loader, context, clips_per_forward, "validation")
    scores = None
    if table is not None:
        logits = model.scorer.table_logits(table.embeddings, text_matrix(model, text), context.device)
        scores = score_labels(logits, table.labels)
    scores = share_from_main(scores, context.process)
    assert scores is not None
    return scores
