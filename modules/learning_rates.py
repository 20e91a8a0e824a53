"""The learning rate of each parameter, as a share of `solver.lr`."""

from collections.abc import Callable
from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import TextTransformer, VisionTransformer
from timm.models import group_parameters
from torch import nn

from modules.additions.addition import owner_of
from modules.video_clip import VideoCLIP
from utils.errors import UserError
from utils.schema import Config

# Layers of open_clip's towers for timm's `group_parameters`: the stem, the blocks by number, and with (99999,) what
# belongs to the last block, as in timm's VisionTransformer; everything else is the last layer.
WITH_LAST_BLOCK = (99999,)
LAYERS = {
    VisionTransformer: {
        "stem": r"^(?:conv1|class_embedding|positional_embedding|ln_pre)",
        "blocks": [(r"^transformer\.resblocks\.(\d+)", None), (r"^ln_post", WITH_LAST_BLOCK)],
    },
    ModifiedResNet: {"stem": r"^(?:conv|bn)\d", "blocks": [(r"^layer(\d+)\.(\d+)", None)]},
    TextTransformer: {
        "stem": r"^(?:token_embedding|positional_embedding|cls_emb)",
        "blocks": [(r"^transformer\.resblocks\.(\d+)", None), (r"^ln_final", WITH_LAST_BLOCK)],
    },
}


def rates_of(cfg: Config, model: VideoCLIP) -> Callable[[str], tuple[str, float]]:
    """A function from parameter name to group name and learning rate as a share of `solver.lr`.

    Groups: `pretrained`: CLIP's image tower, its logit scale, and additions trained at that rate; `text`: a trained
    text tower, if its rate differs from that of new parameters; `new`: everything else. In the towers,
    `solver.layer_decay` is the factor from each layer to the previous one. Raises a UserError if `solver.layer_decay`
    is set for a tower whose layers are unknown.
    """
    solver = cfg.solver
    decays = {"visual": layer_shares(model.visual, solver.layer_decay)}
    if model.text is not None and not model.fix_text:
        decays["text"] = layer_shares(model.text, solver.layer_decay)

    def rate_of(name: str) -> tuple[str, float]:
        tower, _, inner = name.partition(".")
        addition = owner_of(name)
        if model.is_pretrained(name) or (addition is not None and not addition.trains_at_full_rate):
            return "pretrained", solver.clip_ratio * decays["visual"].get(inner, 1.0)
        if tower == "text":
            group = "new" if solver.text_ratio == solver.new_ratio else "text"
            return group, solver.text_ratio * decays["text"].get(inner, 1.0)
        return "new", solver.new_ratio

    return rate_of


def layer_shares(tower: nn.Module, decay: float) -> dict[str, float]:
    """Learning rate factor of each parameter of a tower: `decay` to the power of the number of later layers. Raises a
    UserError if the layers are unknown, and `decay` is not 1."""
    if decay == 1:
        return {}
    trunk = getattr(tower, "trunk", None)  # a timm model defines its layers
    if trunk is not None:
        of_trunk: dict[str, Any] = group_parameters(trunk, trunk.group_matcher(coarse=False), reverse=True)
        numbers: dict[str, Any] = {f"trunk.{name}": number for name, number in of_trunk.items()}
    elif type(tower) in LAYERS:
        numbers = group_parameters(tower, LAYERS[type(tower)], reverse=True)
    else:
        raise UserError(
            f"solver.layer_decay: not supported for {type(tower).__name__}, only for towers of open_clip and timm; set "
            "it to 1"
        )
    last = max(numbers.values())
    return {name: decay ** (last - number) for name, number in numbers.items()}
