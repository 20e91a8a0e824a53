"""A checkpoint and its classifier, ready to be tested."""

from typing import NamedTuple

import torch

from modules.build import build_model_and_text
from modules.checkpoint_layout import load_video_weights
from modules.video_clip import VideoCLIP
from utils.checkpoint import load_checkpoint
from utils.distributed import Process
from utils.precision import resolve_precision


class TestedModel(NamedTuple):
    """A model in evaluation mode on its device, and what goes with it.

    Attributes:
        text: frozen class embeddings (K,D); None: the model makes its own.
        precision: fp32, bf16 or fp16.
        trained_classes: names of the classes that the checkpoint was trained on; empty where it does not say.
    """

    model: VideoCLIP
    text: torch.Tensor | None
    precision: str
    trained_classes: list[str]


def load_tested_model(cfg, names: list[str], weights: str, process: Process) -> TestedModel:
    """The model of `cfg` with the weights of a checkpoint file.

    Args:
        names: K class names.

    Raises:
        UserError: the file is missing, damaged, or of another model.
    """
    state = load_checkpoint(weights)
    precision = resolve_precision(cfg.solver.precision, process.device)
    model, text = build_model_and_text(cfg, names, process.device)
    load_video_weights(model, state, weights)
    model.to(process.device).eval()
    return TestedModel(model, text, precision, list(state.get("class_names", [])))
