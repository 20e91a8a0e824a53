"""CLIP models: names, weights, towers, tokenizer and preprocessing constants. Independent of video."""

from clip.fit import check_fit, fit_positions
from clip.load import ClipModel, load_clip
from clip.pixels import pixels_of

__all__ = ["ClipModel", "check_fit", "fit_positions", "load_clip", "pixels_of"]
