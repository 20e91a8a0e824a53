"""Validation during training: embeds the validation list and scores it."""

from typing import NamedTuple

import numpy as np
import torch

from modules.embed import VideoTable, embed_videos
from modules.video_clip import VideoCLIP
from utils.context import RunContext
from utils.distributed import share_from_main
from utils.loaders import EvalLoader
from utils.metrics import MultiLabelScores, Scores, score, score_labels
from utils.schema import DataConfig


def embed_with(
    model: VideoCLIP, loader: EvalLoader, context: RunContext, clips_per_forward: int, description: str
) -> VideoTable | None:
    """Embed the videos of `loader` with the model in evaluation mode, which is restored afterwards.

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
    """float32 (K,D): the frozen class features `text`, or for None the current class embeddings of the model."""
    if text is None:
        was_training = model.training
        text = model.eval().class_embeddings()
        model.train(was_training)
    return text.float().cpu().numpy()


class Validation(NamedTuple):
    """Scores of all videos; for several data sets their mean scores, and the scores by name."""

    scores: Scores | MultiLabelScores
    by_set: dict[str, Scores] = {}

    def describe(self) -> list[str]:
        """Lines for the log."""
        if not self.by_set:
            return [self.scores.describe()]
        of_sets = [f"{name}: {scores.describe()}" for name, scores in self.by_set.items()]
        return [*of_sets, f"mean of the sets: {self.scores.describe()}"]


def validate(
    model: VideoCLIP, text: torch.Tensor | None, loader: EvalLoader, context: RunContext, data: DataConfig
) -> Validation:
    """Scores of single views over the whole list, the same on every process.

    Args:
        text: (K,D) class features; None: the current class embeddings of the model.
        data: config of the run. A set of `data.sets` is scored over all classes, or over its own if they are apart.

    Raises:
        Stopped: on all processes, if one received a request to stop.
    """
    table = embed_with(model, loader, context, data.batch_size, "validation")
    validation = None
    if table is not None:
        logits = model.scorer.table_logits(table.embeddings, text_matrix(model, text), context.device)
        if data.sets:
            of_set = np.array([entry.of_set for entry in loader.dataset.entries])
            validation = _of_sets(logits, table.labels, of_set, data)
        else:
            validation = Validation(score_labels(logits, table.labels))
    validation = share_from_main(validation, context.process)
    assert validation is not None
    return validation


def _of_sets(logits: np.ndarray, labels: np.ndarray, of_set: np.ndarray, data: DataConfig) -> Validation:
    """Args: logits (N,K), labels (N,), index of the data set of each video (N,)."""
    spans = data.class_spans or [(0, logits.shape[1])] * len(data.sets)
    by_set = {}
    for number, (data_set, (start, end)) in enumerate(zip(data.sets, spans, strict=True)):
        rows = of_set == number
        by_set[data_set.name] = score(logits[rows, start:end], labels[rows] - start)
    top1, top5, mean_class, _ = np.mean(list(by_set.values()), axis=0).tolist()
    return Validation(Scores(top1, top5, mean_class, len(labels)), by_set)
