"""Checkpoints of the trained parameters only, with a hash of the frozen weights (`solver.save: trained`)."""

from typing import Any

import torch

from modules.sharding import gathered
from modules.video_clip import VideoCLIP
from utils.errors import UserError
from utils.hashing import content_hash
from utils.schema import Config

# These depend on the input size; all other frozen weights are unchanged since loading.
RESIZED = ("visual.positional_embedding", "visual.attnpool.positional_embedding", "visual.trunk.pos_embed")


def trained_state(model: VideoCLIP) -> dict[str, torch.Tensor]:
    """The model's tensors without frozen parameters."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def base_of(cfg: Config, model: VideoCLIP) -> dict[str, str]:
    """The description of the frozen tensors in a checkpoint of `trained_state`: their hash, and the source of CLIP's
    weights."""
    hash_ = _base_hash(model.state_dict(), trained_state(model))
    return {"hash": hash_, "arch": cfg.network.arch, "weights": cfg.network.weights}


def with_base(
    model: VideoCLIP, raw: dict[str, Any], state: dict[str, torch.Tensor], source: str
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint with VideoCLIP's names, completed with the frozen tensors of the model. Raises a
    UserError if the frozen tensors of the model differ from those of the training."""
    base = raw.get("base")
    if base is None:
        return state
    others = {name: value for name, value in model.state_dict().items() if name not in state}
    own = gathered({n: value for n, value in others.items() if model.is_pretrained(n) or n.startswith("text.")})
    if _base_hash(own, state) != base["hash"]:
        raise UserError(
            f"{source}: contains only trained parameters, for other frozen weights; set network.arch and "
            f"network.weights to {base['arch']} and {base['weights']}, of SHA-256 {base['hash'][:12]}..."
        )
    return own | state


def _base_hash(tensors: dict[str, torch.Tensor], trained: dict[str, torch.Tensor]) -> str:
    names = [n for n in tensors if n.startswith(("visual.", "text.")) and n not in trained and n not in RESIZED]
    return content_hash({name: tensors[name] for name in names})
