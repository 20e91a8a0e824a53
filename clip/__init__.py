"""CLIP itself: names, weights, towers, tokenizer and preprocessing constants. No notion of video."""

from clip.errors import ClipError
from clip.load import ClipModel, load_clip

__all__ = ["ClipError", "ClipModel", "load_clip"]
