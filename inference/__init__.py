"""Inference with a loaded model. `load_model` is the Python API of the project.

Examples:
    >>> from inference import load_model
    >>> model = load_model("exp/my/best_model.pt")
    >>> print(model.predict("video.mp4"))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.model import VideoModel, load_model

__all__ = ["VideoModel", "load_model"]


def __getattr__(name: str) -> Any:
    """Import `load_model` and `VideoModel` lazily, because commands first check files without PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("inference.model"), name)
