"""CLIP itself: names, weights, towers, tokenizer and preprocessing constants. No notion of video."""

from clip.errors import ClipError, first_line
from clip.fit import check_fit, fit_positions
from clip.load import ClipModel, load_clip

__all__ = ["ClipError", "ClipModel", "check_fit", "first_line", "fit_positions", "load_clip"]
