"""Checkpoints of MoTE and BIKE, under the names that their published code saves (github.com/ZMHH-H/MoTE and
github.com/whwu95/BIKE): `model_state_dict` for CLIP and `fusion_model_state_dict` for the head."""

import pytest
import torch
from torch.nn import functional as F

from modules.build import build_model
from modules.checkpoint_layout import load_video_weights
from tests.clip.tiny import state_of
from tests.modules.tiny import NAMES, clip_of, make_clips, make_config
from utils.errors import UserError

MOTE = {"sim_header": "MoTE", "scorer": "modulated", "head_layers": 2}
BIKE = {"sim_header": "Transf", "scorer": "vcs", "head_layers": 2}


def model_of(folder, network, text, seed=None):
    """A model; with a seed, every parameter is moved, as after training."""
    cfg = make_config(folder, **network)
    model = build_model(cfg, clip_of(cfg), NAMES, text).eval()
    if seed is not None:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def named(module, prefix):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def mote_checkpoint(model):
    """The frozen text tower is not saved; class embeddings of the training and the experts' shares are."""
    head = {"spe_cls_feature": model.scorer.trained_text} | named(
        model.fusion_model.frame_position_embeddings, "frame_position_embeddings."
    )
    for number, block in enumerate(model.fusion_model.resblocks):
        place = f"transformer.resblocks.{number}."
        head |= (
            named(block.attn, f"{place}attn.") | named(block.ln_1, f"{place}ln_1.") | named(block.ln_2, f"{place}ln_2.")
        )
        for expert, mlp in enumerate(block.experts):
            head |= named(mlp.c_fc, f"{place}mlp.fc_up.{expert}.") | named(mlp.c_proj, f"{place}mlp.fc_dn.{expert}.")
        head[f"{place}mlp.mote_fusion_weight"] = torch.zeros(len(block.experts))
    clip = named(model.visual, "visual.") | {"logit_scale": model.logit_scale.data}
    return {"epoch": 19, "model_state_dict": clip, "fusion_model_state_dict": head, "optimizer_state_dict": {}}


def bike_checkpoint(model):
    """All of CLIP is saved, under OpenAI's names."""
    clip = state_of() | named(model.visual, "visual.") | {"logit_scale": model.logit_scale.data}
    assert {"token_embedding.weight", "text_projection", "transformer.resblocks.0.attn.in_proj_weight"} <= set(clip)
    head = named(model.fusion_model, "")
    assert {"frame_position_embeddings.weight", "transformer.resblocks.1.mlp.c_proj.bias"} <= set(head)
    return {"epoch": 29, "model_state_dict": clip, "fusion_model_state_dict": head, "optimizer_state_dict": {}}


def logits(model, text):
    with torch.no_grad():
        return model(make_clips(), text)


@pytest.mark.parametrize(
    ("network", "checkpoint", "rows"),
    [(MOTE, mote_checkpoint, ()), (BIKE, bike_checkpoint, (5,))],
    ids=["MoTE", "BIKE"],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_names_load_and_give_the_same_logits(tmp_path, network, checkpoint, rows, prefix):
    torch.manual_seed(0)
    width = clip_of(make_config(tmp_path, **network)).embed_dim
    text, other = (F.normalize(torch.randn(3, *rows, width), dim=-1) for _ in range(2))
    trained, fresh = model_of(tmp_path, network, text, seed=1), model_of(tmp_path, network, other)
    raw = checkpoint(trained)
    for part in ("model_state_dict", "fusion_model_state_dict"):
        raw[part] = {f"{prefix}{name}": value for name, value in raw[part].items()}
    load_video_weights(fresh, raw, "published.pt")
    for name, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    torch.testing.assert_close(logits(fresh, other), logits(trained, other))


def test_experts_with_unequal_merging_weights_are_refused(tmp_path):
    text = torch.randn(3, clip_of(make_config(tmp_path, **MOTE)).embed_dim)
    model = model_of(tmp_path, MOTE, text)
    raw = mote_checkpoint(model)
    raw["fusion_model_state_dict"]["transformer.resblocks.1.mlp.mote_fusion_weight"][0] = 1.0
    with pytest.raises(UserError, match="resblocks.1.mlp.mote_fusion_weight"):
        load_video_weights(model, raw, "published.pt")
