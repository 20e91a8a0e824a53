"""Names of CLIP models: the ones users know, open_clip's, and open_clip's weights tags."""

import difflib
from typing import Any, NamedTuple

import open_clip

from utils.errors import UserError

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


class Normalization(NamedTuple):
    """Mean and standard deviation of each channel, of pixels in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def is_model_name(arch: str) -> bool:
    return arch in OPENAI_NAMES or arch in open_clip.list_models()


def open_clip_name(arch: str) -> str:
    """open_clip's name of a model.

    Raises:
        UserError: neither OpenAI nor open_clip has a model of this name; the nearest names are given.
    """
    if arch in OPENAI_NAMES:
        return OPENAI_NAMES[arch]
    if arch in open_clip.list_models():
        return arch
    known = [*OPENAI_NAMES, *open_clip.list_models()]
    near = difflib.get_close_matches(arch, known, n=3, cutoff=0.5) or list(OPENAI_NAMES)
    raise UserError(
        f"arch {arch}: no CLIP model of this name and no file at this path; did you mean {' or '.join(near)}? "
        "(any name of open_clip.list_models() works)"
    )


def model_config(name: str) -> dict[str, Any]:
    """A copy of open_clip's config of a model: embed_dim, vision_cfg, text_cfg, ..."""
    config = open_clip.get_model_config(name)
    assert config is not None, f"{name} is not one of open_clip.list_models()"
    return config


def tags_of(name: str) -> list[str]:
    """The weights tags that open_clip can download for a model."""
    return open_clip.list_pretrained_tags_by_model(name)


def tag_config(name: str, tag: str) -> dict[str, Any] | None:
    """open_clip's record of a tag (where to download, mean, std, quick_gelu), or None if there is no such tag."""
    return open_clip.get_pretrained_cfg(name, tag) or None


def normalization(name: str | None, tag: str | None = None) -> Normalization:
    """Mean and std that a backbone's weights were trained with.

    open_clip records them for each tag. Without a tag (a local file, random weights) they are the model's own if all
    its tags agree on them, and CLIP's otherwise.
    """
    if name is None:
        return Normalization(CLIP_MEAN, CLIP_STD)
    configs = [tag_config(name, t) for t in ([tag] if tag else tags_of(name))]
    found = {Normalization(tuple(c["mean"]), tuple(c["std"])) for c in configs if c is not None}
    return found.pop() if len(found) == 1 else Normalization(CLIP_MEAN, CLIP_STD)
