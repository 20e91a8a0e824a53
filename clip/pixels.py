"""The image preprocessing of a CLIP model: from the weights tag of open_clip, or the published recipe."""

from typing import Any, NamedTuple

import open_clip

from clip import names
from clip.openai_layout import config_from_shapes
from clip.weights import read_weights

PUBLISHED_SIZES = {224: 256}
"""Input size -> short side before the crop, in the published recipe of OpenAI's models; otherwise they are equal."""


class Pixels(NamedTuple):
    """Preprocessing for an image tower; `resize_*`, `interpolation` and `resizer` define the first resize."""

    input_size: int  # side of the tower's square input
    resize_size: int
    resize_mode: str
    interpolation: str
    resizer: str
    mean: tuple[float, float, float]  # of each channel, of pixels in 0..1
    std: tuple[float, float, float]
    is_certain: bool  # False: no known tag, and the tags of the model differ, so CLIP's is used


def pixels_of(arch: str, weights: str, input_size: int | None = None) -> Pixels:
    """The preprocessing of a model from the arguments of `clip.load_clip`; that of open_clip for each of its tags.

    OpenAI's names (ViT-B/32 ...) and files have that of the published video recipe, whose resize leaves a border for
    the crops; with a tag that is not OpenAI's they have that of the tag. Raises a UserError if the name is unknown, or
    the file is missing or corrupted.
    """
    is_published = names.is_file(arch)
    known: names.Preprocessing | None = names.Preprocessing()
    if not is_published:
        name = names.open_clip_name(arch)
        tag = weights if open_clip.get_pretrained_cfg(name, weights) else None
        is_published = arch in names.OPENAI_NAMES and tag in (None, "openai")
        if not is_published:
            known = names.preprocessing(name, tag)
    size = _default_input_size(arch) if input_size is None else input_size
    preprocessing = known or names.Preprocessing()
    return Pixels(
        input_size=size,
        resize_size=PUBLISHED_SIZES.get(size, size) if is_published else size,
        resize_mode=preprocessing.resize_mode,
        interpolation=preprocessing.interpolation,
        resizer="torch" if is_published else "pillow",
        mean=preprocessing.mean,
        std=preprocessing.std,
        is_certain=known is not None,
    )


def _default_input_size(arch: str) -> int:
    """The default input size of a model."""
    if names.is_file(arch):
        config = config_from_shapes(read_weights(arch).tensors, arch)
    else:
        config = open_clip.get_model_config(names.open_clip_name(arch))
        assert config is not None  # open_clip lists the name
    return image_side(config["vision_cfg"])


def image_side(vision: dict[str, Any]) -> int:
    """Side of the input image in open_clip's config of an image tower, which has one number or height and width."""
    size = vision["image_size"]
    return size if isinstance(size, int) else size[0]
