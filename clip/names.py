"""Names of CLIP models: OpenAI's, open_clip's, and open_clip's weights tags."""

import difflib
from pathlib import Path
from typing import NamedTuple

import open_clip

from utils.errors import UserError
from utils.recipe import looks_like_file

# OpenAI's names (github.com/openai/CLIP, clip.available_models) -> open_clip's configs.
OPENAI_NAMES = {
    "ViT-B/32": "ViT-B-32",
    "ViT-B/16": "ViT-B-16",
    "ViT-L/14": "ViT-L-14",
    "ViT-L/14-336px": "ViT-L-14-336",
    "RN50": "RN50",
    "RN101": "RN101",
    "RN50x4": "RN50x4",
    "RN50x16": "RN50x16",
    "RN50x64": "RN50x64",
}
CLIP_MEAN = open_clip.OPENAI_DATASET_MEAN
CLIP_STD = open_clip.OPENAI_DATASET_STD


class Preprocessing(NamedTuple):
    """open_clip's preprocessing of weights, without the input size."""

    mean: tuple[float, float, float] = CLIP_MEAN  # of each channel, of pixels in 0..1
    std: tuple[float, float, float] = CLIP_STD
    interpolation: str = "bicubic"  # or bilinear
    resize_mode: str = "shortest"  # or squash, longest


def is_model_name(arch: str) -> bool:
    """Whether `arch` is one of OpenAI's names or of open_clip's models."""
    return arch in OPENAI_NAMES or arch in open_clip.list_models()


def is_file(arch: str) -> bool:
    """Whether `arch` is the path of weights in OpenAI's format rather than a model name."""
    return not is_model_name(arch) and (Path(arch).exists() or looks_like_file(arch))


def open_clip_name(arch: str) -> str:
    """open_clip's name of a model.

    Raises:
        UserError: neither OpenAI nor open_clip has a model with this name; the message suggests the nearest names.
    """
    if is_model_name(arch):
        return OPENAI_NAMES.get(arch, arch)
    known = [*OPENAI_NAMES, *open_clip.list_models()]
    near = difflib.get_close_matches(arch, known, n=3, cutoff=0.5) or list(OPENAI_NAMES)
    raise UserError(
        f"arch {arch}: no CLIP model of this name and no file at this path; did you mean {' or '.join(near)}? "
        "(any name of open_clip.list_models() works)"
    )


def preprocessing(name: str, tag: str | None = None) -> Preprocessing | None:
    """The preprocessing with which the weights of a model were trained.

    Args:
        name: name in open_clip.
        tag: weights tag; None: a local file, or random weights, for which the tags of the model must agree.

    Returns:
        None if the tags of the model do not agree; CLIP's if it has no tags.
    """
    of_tags = set()
    for known_tag in [tag] if tag else open_clip.list_pretrained_tags_by_model(name):
        config = open_clip.get_pretrained_cfg(name, known_tag)
        of_tags.add(
            Preprocessing(tuple(config["mean"]), tuple(config["std"]), config["interpolation"], config["resize_mode"])
        )
    if not of_tags:
        return Preprocessing()
    return of_tags.pop() if len(of_tags) == 1 else None
