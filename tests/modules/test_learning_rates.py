"""Learning rates by layer and tower: equal to timm's parameter groups, and to what the config asks for."""

import pytest
import timm
import torch
from open_clip.transformer import TextTransformer, VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import nn

from modules.additions.addition import owner_of
from modules.build import build_model
from modules.build_training import parameter_groups
from modules.learning_rates import layer_shares
from modules.optim import split_parameters
from tests.modules.tiny import NAMES, clip_of, make_config
from utils.errors import UserError


class TimmTower(nn.Module):
    """As open_clip's: the trunk under `trunk`."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk


def expected_shares(module: nn.Module, weight_decay: float) -> dict[str, tuple[float, float]]:
    """Learning-rate share and weight decay of each parameter, by timm."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = param_groups_layer_decay(module, weight_decay=weight_decay, layer_decay=0.75)
    return {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}


def found_shares(tower: nn.Module, prefix: str, weight_decay: float) -> dict[str, tuple[float, float]]:
    shares = layer_shares(tower, 0.75)
    groups = split_parameters(tower, lambda name: ("tower", shares[name]), decay_1d=False)
    return {
        name.removeprefix(prefix): (group.scale, weight_decay if group.decays else 0.0)
        for group in groups
        for name, _ in group.parameters
    }


def test_a_timm_tower_has_timms_groups():
    trunk = timm.create_model("vit_tiny_patch16_224", embed_dim=48, num_heads=3, depth=3, img_size=32, num_classes=0)
    assert found_shares(TimmTower(trunk), "trunk.", 0.1) == expected_shares(trunk, 0.1)


def test_an_open_clip_tower_has_the_groups_of_timms_equivalent():
    tower = VisionTransformer(32, 8, width=64, layers=3, heads=1, mlp_ratio=4.0, output_dim=32)
    # timm's layers of its VisionTransformer, under open_clip's names.
    tower.group_matcher = lambda coarse: {
        "stem": "^class_embedding|positional_embedding|conv1|ln_pre",
        "blocks": [(r"^transformer\.resblocks\.(\d+)", None), (r"^ln_post", (99999,))],
    }
    expected = expected_shares(tower, 0.1)
    assert expected["conv1.weight"] == pytest.approx((0.75**4, 0.1)) and expected["proj"] == (1.0, 0.1)
    assert found_shares(tower, "", 0.1) == expected


def test_the_text_tower_has_layers_too():
    shares = layer_shares(TextTransformer(context_length=8, vocab_size=50, width=64, heads=1, layers=2), 0.5)
    assert shares["token_embedding.weight"] == 0.5**3 and shares["text_projection"] == 1
    assert shares["transformer.resblocks.0.ln_1.weight"] == 0.25 and shares["ln_final.weight"] == 0.5


def test_an_unknown_tower_is_refused_only_with_layer_decay():
    assert layer_shares(nn.Linear(2, 2), 1.0) == {}
    with pytest.raises(UserError, match="solver.layer_decay: not supported for Linear"):
        layer_shares(nn.Linear(2, 2), 0.9)


def rates(cfg) -> dict[str, tuple[str, float, bool]]:
    clip_model = clip_of(cfg)
    model = build_model(cfg, clip_model, NAMES, torch.randn(len(NAMES), clip_model.embed_dim))
    return {n: (g.name, g.scale, g.decays) for g in parameter_groups(cfg, model) for n, _ in g.parameters}


def test_towers_and_new_modules_have_their_own_learning_rates(tmp_path):
    solver = {"solver_clip_ratio": 0.2, "solver_text_ratio": 0.3, "solver_new_ratio": 10.0, "solver_layer_decay": 0.5}
    found = rates(make_config(tmp_path, fix_text=False, tm="tokent1d", solver_decay_1d=False, **solver))
    assert found["visual.proj"] == ("pretrained", 0.2, True)
    assert found["visual.conv1.weight"] == ("pretrained", pytest.approx(0.2 * 0.5**4), True)
    assert found["logit_scale"] == ("pretrained", 0.2, False)
    assert found["text.text_projection"] == ("text", 0.3, True)
    assert found["fusion_model.frame_position_embeddings.weight"] == ("new", 10.0, True)
    assert {found[name] for name in found if owner_of(name) is not None} == {("new", 10.0, True)}
    assert found["fusion_model.transformer.resblocks.0.ln_1.weight"] == ("new", 10.0, False)


def test_without_the_new_keys_there_are_the_two_published_groups(tmp_path):
    found = rates(make_config(tmp_path, fix_text=False))
    assert set(found.values()) == {("pretrained", 0.1, True), ("new", 1.0, True)}
