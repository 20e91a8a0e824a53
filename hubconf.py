"""Entry points of `torch.hub`: `torch.hub.load(REPOSITORY, "video_model", source="local", ...)`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from inference.model import VideoModel

dependencies = ["torch", "torchvision", "open_clip", "pydantic", "yaml", "av", "numpy", "safetensors", "matplotlib"]

_REPOSITORY = Path(__file__).resolve().parent
_PACKAGES = ("clip", "datasets", "inference", "modules", "utils")


def video_model(
    weights: str | Path | None = None,
    config: str | Path | None = None,
    classes: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    device: "torch.device | str | None" = None,
) -> "VideoModel":
    """A video recognition model; see `inference.load_model` for the arguments.

    Raises:
        ImportError: another package with the name of one of this repository is already imported.
        utils.errors.UserError: config, weights or classes are missing, invalid or do not match.
    """
    _check_packages()
    from inference import load_model  # after the check, which explains why the import would fail

    return load_model(weights, config, classes, overrides, device)


def _check_packages() -> None:
    """Raise an ImportError if Hugging Face's `datasets` or OpenAI's `clip` is already imported under the same name."""
    for name in _PACKAGES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and _REPOSITORY not in Path(file).resolve().parents:
            raise ImportError(
                f"the package {name} of this repository cannot be imported: {file} has the same name and is already "
                f"imported; load the model before it, or in a separate process"
            )
