"""A model that names the classes of clips: from a video checkpoint, or from plain CLIP; the classes can be changed.

Legend: B clips, T frames, C=3 channels, S input size, D embedding, K classes.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from inference.timeline import VideoPrediction
from modules.build import ClipModel, build_model, build_text, load_clip_model
from modules.checkpoint_layout import load_video_weights, warn_of_other_classifier
from modules.prompts import class_prompts
from modules.text_classifier import tokenize
from modules.text_side import LearnedContext, TrainedText, learned_context
from modules.validation import text_matrix
from modules.video_clip import VideoCLIP
from utils.checkpoint import load_checkpoint
from utils.config import load_config
from utils.errors import UserError
from utils.metrics import class_logits, softmax
from utils.precision import autocast, resolve_precision
from utils.schema import Config

MAX_KEPT_CLIPS = 12
"""Clips of a prediction that are kept for pictures, evenly over its windows."""


class Window(Protocol):
    """A clip (T,C,S,S) uint8 of the seconds from `start` to `end`; `inference.windows` reads them."""

    start: float
    end: float
    clip: torch.Tensor


class Predictor:
    """Made by `load_predictor`.

    Attributes:
        cfg: the config, as it is used.
        description: what is loaded, in one line.
        class_names: K names; `with_classes` changes them.
        device, precision: where and how the model computes.
    """

    def __init__(self, cfg: Config, clip_model: ClipModel, model: VideoCLIP, names: list[str], text, description: str):
        self.cfg = cfg
        self.description = description
        self.class_names = names
        self.device = next(model.parameters()).device
        self.precision = resolve_precision(cfg.solver.precision, self.device)
        self._clip_model = clip_model
        self._model = model
        self._matrix = text_matrix(model, text)

    def with_classes(self, names: list[str]) -> "Predictor":
        """A predictor of other classes by the same towers, which stay loaded; this one stays as it is.

        Raises:
            UserError: the classifier of this config belongs to its own classes.
        """
        if names == self.class_names:
            return self
        check_classes_can_be_typed(self.cfg)
        other = copy.copy(self)
        other.class_names, other._matrix = list(names), self._encode(names)
        return other

    @torch.no_grad()
    def _encode(self, names: list[str]) -> np.ndarray:
        """float32 (K,D) class embeddings of new names."""
        network, model = self.cfg.network, self._model
        if isinstance(model.classifier, LearnedContext):
            new = learned_context(
                self._clip_model, names, network.context_tokens, None, network.context_position, per_class=False
            )
            classifier = LearnedContext(new.tokens, new.places, model.classifier.context)
        elif isinstance(model.classifier, TrainedText):
            prompts = [prompt for (prompt,) in class_prompts(names, network.prompt)]
            classifier = TrainedText(tokenize(self._clip_model, prompts))
        else:
            return build_text(self.cfg, self._clip_model, names, self.device).numpy()
        return classifier.to(self.device)(model.text).float().cpu().numpy()

    @torch.inference_mode()
    def embed(self, clips: torch.Tensor) -> np.ndarray:
        """float32 (B,D) embeddings, not normalised, of uint8 clips (B,T,C,S,S)."""
        with autocast(self.precision, self.device):
            return self._model.encode_video(clips.to(self.device)).float().cpu().numpy()

    def classify(self, embeddings: np.ndarray) -> np.ndarray:
        """float32 (B,K) probabilities of the classes: softmax of 100 x cosine with the class texts, as in test.py."""
        return softmax(class_logits(embeddings, self._matrix))

    def stream(self, windows: Iterable[Window], batch_size: int = 1) -> Iterator[tuple[Window, np.ndarray]]:
        """Each window and its probabilities (K,), `batch_size` windows through the model at a time."""
        windows = iter(windows)
        while batch := list(itertools.islice(windows, batch_size)):
            yield from zip(batch, self.classify(self.embed(torch.stack([window.clip for window in batch]))))

    def predict(
        self, windows: Iterable[Window], source: str = "video", threshold: float = 0.0, batch_size: int | None = None
    ) -> VideoPrediction:
        """The classes of a video in its windows.

        Args:
            source: its name in the result.
            threshold: below it the best class becomes `unknown`.
            batch_size: windows through the model at a time; None: data.batch_size.
        """
        return collect(
            self.stream(windows, batch_size or self.cfg.data.batch_size), source, self.class_names, threshold
        )


def collect(
    stream: Iterable[tuple[Window, np.ndarray]], source: str, class_names: list[str], threshold: float = 0.0
) -> VideoPrediction:
    """The result of what `Predictor.stream` gives. Of the clips, few are kept, however many windows there are."""
    spans, rows, clips, every = [], [], [], 1
    for number, (window, probabilities) in enumerate(stream):
        spans.append((window.start, window.end))
        rows.append(probabilities)
        if number % every == 0:
            clips.append((number, window.clip))
        if len(clips) > MAX_KEPT_CLIPS:
            clips, every = clips[::2], 2 * every
    if not rows:
        raise UserError(f"{source}: no frames came out of it")
    return VideoPrediction(source, np.array(spans), np.stack(rows), class_names, threshold, tuple(clips))


def load_predictor(
    config: str | Path | Config | None = None,
    weights: str | Path | None = None,
    classes: list[str] | None = None,
    overrides: list[str] = (),
    device: torch.device | None = None,
) -> Predictor:
    """A model ready to predict.

    Args:
        config: YAML file or loaded config; None: every key at its default.
        weights: video checkpoint, ours or a published one; None: plain CLIP, whose frame embeddings are averaged,
            whatever the config says of heads and temporal additions.
        classes: class names; None: those that the checkpoint was trained on.
        overrides: `key=value` strings over the config file.
        device: None: the first GPU, else the CPU.

    Raises:
        UserError: whatever is wrong with config, weights or classes.
    """
    if not isinstance(config, Config):
        config = load_config(config, list(overrides), "predict").config
    cfg = config if weights else _plain_clip(config)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = load_checkpoint(weights) if weights else {}
    names = list(classes or state.get("class_names", []))
    if not names:
        raise UserError("no classes: give class names, or a config with data.label_list")
    trained_names = list(state.get("class_names", names))
    if names != trained_names:
        check_classes_can_be_typed(cfg)
    clip_model = load_clip_model(cfg)
    text = build_text(cfg, clip_model, names, device)
    model = build_model(cfg, clip_model, names, text)
    if weights:
        load_video_weights(model, state, str(weights))
        warn_of_other_classifier(cfg, state, str(weights))
        description = f"{weights}: {cfg.network.arch}, {_structure(cfg)}, {cfg.data.num_frames} frames"
    else:
        description = f"plain CLIP {cfg.network.arch}: mean of {cfg.data.num_frames} frames, no video checkpoint"
    model.to(device).eval()
    return Predictor(cfg, clip_model, model, names, None if model.classifier else text, description)


def check_classes_can_be_typed(cfg: Config) -> None:
    """Raise a UserError where the class embeddings are not made from the names by CLIP's text tower."""
    network = cfg.network
    if network.classifier != "clip_text":
        what = f"network.classifier {network.classifier}"
    elif network.train_classifier:
        what = "network.train_classifier"
    elif network.context_tokens and network.context_per_class:
        what = "network.context_per_class"
    else:
        return
    raise UserError(
        f"{what}: its class embeddings belong to the classes of the training and cannot be made for others; leave the "
        "classes out, or use a model with classifier clip_text"
    )


def _plain_clip(cfg: Config) -> Config:
    """The config without what only a video checkpoint could fill."""
    network = cfg.network.model_copy(
        update={
            "sim_header": "None",
            "tm": False,
            "joint_st": False,
            "fix_text": True,
            "train_classifier": False,
            "context_tokens": 0,
        }
    )
    return cfg.model_copy(update={"network": network})


def _structure(cfg: Config) -> str:
    """What is over time in the model, in words: a head, an addition inside the tower."""
    network = cfg.network
    if network.joint_st:
        return "joint space-time attention (joint_st)"
    head = "mean of frames" if network.sim_header == "None" else f"head {network.sim_header}"
    return f"{head}, tm {network.tm}" if network.tm else head
