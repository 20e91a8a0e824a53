"""Builds the model of a config and its class embeddings."""

from collections.abc import Sequence
from typing import Any

import torch

from clip import ClipModel, load_clip
from modules.additions.addition import add_to
from modules.classifiers.trained import trained_classifier
from modules.heads.head import Head
from modules.scorers.scorer import Scorer
from modules.text_classifier import CPU
from modules.tower_blocks import RESNET, kind_of
from modules.video_clip import VideoCLIP
from utils.errors import UserError
from utils.schema import Config


def build_model_and_text(cfg: Config, names: list[str], device: torch.device) -> tuple[VideoCLIP, torch.Tensor | None]:
    """The video model on the CPU, and its frozen class embeddings (K, D), or None if the model computes them.

    CLIP's text tower is released afterwards, unless it is trained. Raises a UserError if names, weights, sizes or their
    combination are invalid.
    """
    clip_model = load_clip_model(cfg)
    text = build_text(cfg, clip_model, names, device)
    model = build_model(cfg, clip_model, names, text)
    return model, text if model.classifier is None else None


def load_clip_model(cfg: Config) -> ClipModel:
    """Load CLIP with `network.arch`, `network.weights`, `network.init`, `data.input_size`, `mean` and `std`.

    Sets torch's seed to `cfg.seed` for everything that is randomly initialised: a text tower without weights is not in
    the checkpoint, and must be the same in training and in every test. Raises a UserError if the name, the weights or
    the size are invalid.
    """
    torch.manual_seed(cfg.seed)
    network = cfg.network
    clip_model = load_clip(network.arch, network.weights, cfg.data.input_size, visual_only=not network.init)
    for name in ("mean", "std"):
        if (value := getattr(cfg.data, name)) is not None:
            setattr(clip_model, name, tuple(value))
    return clip_model


def build_text(cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device = CPU) -> torch.Tensor:
    """float32 class features of `names` on the CPU, usually (K, D), for `network.classifier` and `network.scorer`.

    They are cached in `logging.cache_dir` with names, prompts and hashes (modules.classifier_file). Raises a UserError
    if the prompts, the file or the language model are invalid, or there are too many classes.
    """
    return Scorer.named(cfg.network.scorer).embed_classes(cfg, clip_model, names, device)


def build_model(
    cfg: Config, clip_model: ClipModel, names: Sequence[str] = (), text: torch.Tensor | None = None
) -> VideoCLIP:
    """The video model on the CPU, in float32. It uses `clip_model.visual` without a copy, and `clip_model.text` if
    needed.

    `model.classifier` is None if the class embeddings are frozen and come from `build_text`. Otherwise they are trained
    and computed by `model.class_embeddings()`: by the text tower (fix_text false), from a learned context, or as a
    matrix.

    Args:
        names: K class names; not needed if the text side is frozen.
        text: from `build_text`, the initial values for train_classifier.

    Raises:
        UserError: the towers do not support the additions of the config, or the head the number of frames.
    """
    head = Head.named(cfg.network.sim_header).build(cfg, clip_model)
    visual: Any = add_to(clip_model.visual, cfg)
    kind = trained_classifier(cfg)
    classifier = None if kind is None else kind.build(cfg, clip_model, list(names), text)
    if cfg.solver.activation_checkpointing:
        if kind_of(visual) == RESNET:
            raise UserError(
                "solver.activation_checkpointing: not supported by ResNet towers, whose batch statistics would be "
                "updated twice; set it to false"
            )
        # Recomputes the blocks of a tower in the backward pass; every tower of open_clip supports it.
        visual.set_grad_checkpointing(True)
        if classifier is not None and classifier.reads_text:
            text_tower: Any = clip_model.text
            text_tower.set_grad_checkpointing(True)
    scorer = Scorer.named(cfg.network.scorer).build(cfg, clip_model, text)
    return VideoCLIP(cfg, clip_model, visual, head, scorer, classifier)
