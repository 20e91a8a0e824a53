"""A checkpoint and its classifier, ready to be tested."""

from typing import NamedTuple

import torch

from modules.build import build_model, build_text, load_clip_model
from modules.checkpoint_layout import load_video_weights, warn_of_other_classifier
from modules.text_classifier import text_weights_hash
from modules.video_clip import VideoCLIP
from utils.checkpoint import load_checkpoint
from utils.distributed import Process
from utils.embed import VideoTable
from utils.errors import UserError
from utils.precision import resolve_precision


class TestedModel(NamedTuple):
    """A model in evaluation mode on its device, and what goes with it.

    Attributes:
        text: frozen class embeddings (K,D); None: the model makes its own.
        precision: fp32, bf16 or fp16.
        trained_classes: names of the classes that the checkpoint was trained on; empty where it does not say.
        text_tower: hash of CLIP's text tower; empty where the text side trained, and is in the checkpoint alone.
    """

    model: VideoCLIP
    text: torch.Tensor | None
    precision: str
    trained_classes: list[str]
    text_tower: str

    def signed(self, table: VideoTable, num_clips: int, num_crops: int) -> VideoTable:
        """A table of this model's embeddings, with all that `text_for_table` must know of it."""
        made_by = {"trained_classes": tuple(self.trained_classes), "text_tower": self.text_tower}
        return table._replace(views=(num_clips, num_crops), **made_by)


def load_tested_model(cfg, names: list[str], weights: str, process: Process) -> TestedModel:
    """The model of `cfg` with the weights of a checkpoint file.

    Args:
        names: K class names.

    Raises:
        UserError: the file is missing, damaged, or of another model.
    """
    state = load_checkpoint(weights)
    precision = resolve_precision(cfg.solver.precision, process.device)
    clip_model = load_clip_model(cfg)
    text_tower = "" if _trains_text(cfg) else text_weights_hash(clip_model)
    text = build_text(cfg, clip_model, names, process.device)
    model = build_model(cfg, clip_model, names, text)
    load_video_weights(model, state, weights)
    warn_of_other_classifier(cfg, state, weights)
    model.to(process.device).eval()
    trained = list(state.get("class_names", []))
    return TestedModel(model, None if model.classifier else text, precision, trained, text_tower)


def text_for_table(cfg, names: list[str], table: VideoTable, path: str) -> torch.Tensor:
    """(K,D) class embeddings of `cfg` for a table of video embeddings that was made before.

    Args:
        path: of the table, for messages.

    Raises:
        UserError: the text side trained, or the table was made with another CLIP.
    """
    if _trains_text(cfg) or not table.text_tower:
        raise UserError(f"{path}: a table cannot be scored again where the text side trained; give --weights")
    clip_model = load_clip_model(cfg)
    if text_weights_hash(clip_model) != table.text_tower:
        raise UserError(
            f"{path}: was made with another text tower than that of {cfg.network.arch} ({cfg.network.weights}); "
            "set network.arch and network.weights to those of the test that made it"
        )
    return build_text(cfg, clip_model, names)


def _trains_text(cfg) -> bool:
    network = cfg.network
    return not network.fix_text or network.train_classifier or bool(network.context_tokens)
