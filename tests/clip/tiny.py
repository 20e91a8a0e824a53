"""Tiny CLIP weights in OpenAI's layout, and the archives and files that hold such weights."""

import warnings
from pathlib import Path

import open_clip
import torch

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
VIT = {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8}
RESNET = {"image_size": 64, "layers": (2, 1, 1, 1), "width": 16, "head_width": 64}
EMBED_DIM = 32


def make_clip(vision: dict | None = None, seed: int = 0, quick_gelu: bool = True) -> open_clip.CLIP:
    """open_clip's own model, whose values all differ from the initial zeros and ones; exact in float16."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(EMBED_DIM, vision or VIT, TEXT, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.02 * torch.rand_like(tensor)
                tensor.copy_(tensor.half().float())
    return model


def state_of(vision: dict | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    return dict(make_clip(vision, seed).state_dict())


def save_state(path: Path, vision: dict | None = None, seed: int = 0) -> Path:
    torch.save(state_of(vision, seed), path)
    return path


def save_archive(path: Path, model: open_clip.CLIP) -> Path:
    """A TorchScript archive as OpenAI released them: float16, with three integers that are not weights."""
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        model.__dict__.pop(name, None)  # open_clip's plain attribute
        model.register_buffer(name, torch.tensor(value))
    inputs = torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated; the released files were made by it
        torch.jit.trace(model, inputs, check_trace=False).half().save(str(path))
    return path
