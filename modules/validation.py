"""Validation during training: the embedding pass over the validation list, then its scores."""

from collections.abc import Callable

import numpy as np
import torch

from modules.video_clip import VideoCLIP
from utils.distributed import Process, share_from_main
from utils.embed import VideoTable, embed_videos
from utils.metrics import Scores, class_logits, score


def embed_with(
    model: VideoCLIP,
    loader,
    make_views,
    clips_per_forward: int,
    process: Process,
    precision: str,
    description: str,
    stop_requested: Callable[[], bool] = lambda: False,
) -> VideoTable | None:
    """`utils.embed.embed_videos` by a model, in evaluation mode; the mode is put back afterwards."""
    was_training = model.training
    model.eval()
    try:
        return embed_videos(
            model.encode_video, loader, make_views, clips_per_forward, process, precision, description, stop_requested
        )
    finally:
        model.train(was_training)


@torch.no_grad()
def text_matrix(model: VideoCLIP, text: torch.Tensor | None) -> np.ndarray:
    """float32 (K,D): the frozen class embeddings `text`, or, for None, the model's own as they stand now."""
    if text is None:
        was_training = model.training
        text = model.eval().class_embeddings()
        model.train(was_training)
    return text.float().cpu().numpy()


def validate(
    model: VideoCLIP,
    text: torch.Tensor | None,
    loader,
    make_views,
    clips_per_forward: int,
    process: Process,
    precision: str,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Scores:
    """Scores of single views over the whole list, the same on every process.

    Args:
        text: (K,D) class embeddings; None: the model's own as they stand now.
        make_views: `datasets.transforms.make_views` with its crops and size bound.

    Raises:
        Stopped: on all processes, where `stop_requested` said so on one.
    """
    table = embed_with(model, loader, make_views, clips_per_forward, process, precision, "validation", stop_requested)
    scores = None
    if table is not None:
        scores = score(class_logits(table.embeddings, text_matrix(model, text)), table.labels)
    return share_from_main(scores, process)
