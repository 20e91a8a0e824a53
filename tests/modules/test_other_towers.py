"""Image towers that are not OpenAI's: any that open_clip has works with the heads. Small forms of each, no weights."""

import json

import open_clip
import pytest
import torch
from open_clip import factory

from clip import load_clip
from modules.build import build_model, build_text
from tests.modules.tiny import NAMES, clip_of, make_clips, make_config
from utils.errors import UserError

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
SIGLIP_TEXT = TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
TOWERS = {
    # Attention pooling over the patches, no projection, a bias beside the temperature.
    "tiny-Sig": {
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none",
        },
        "text_cfg": SIGLIP_TEXT,
    },
    # Rotary positions, SwiGLU.
    "tiny-EVA02": {
        "embed_dim": 64,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
    "tiny-ConvNeXt": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 160, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
    # open_clip's own ViT with averaged patches instead of the class token.
    "tiny-average": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "pool_type": "avg",
            "final_ln_after_pool": True,
        },
        "text_cfg": TEXT,
    },
}  # fmt: skip
SIZES = {"tiny-Sig": 160, "tiny-EVA02": 56, "tiny-ConvNeXt": 64, "tiny-average": 32}


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    """The tiny models among open_clip's, as a user registers a model of their own."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in TOWERS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    before = list(factory._MODEL_CONFIG_PATHS)
    open_clip.add_model_config(folder)
    yield
    factory._MODEL_CONFIG_PATHS[:] = before
    factory._rescan_model_configs()


def config_for(folder, name, **changes):
    return make_config(folder, arch=name, weights="none", data_input_size=SIZES[name], **changes)


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("head", ["None", "Transf"])
def test_towers_work_with_the_heads(tmp_path, name, head):
    cfg = config_for(tmp_path, name, sim_header=head)
    clip_model = clip_of(cfg)
    text = build_text(cfg, clip_model, NAMES)
    model = build_model(cfg, clip_model).train()
    logits = model(make_clips(size=SIZES[name]), text)
    assert logits.shape == (2, 3) and logits.isfinite().all()
    logits.logsumexp(-1).sum().backward()
    if head == "Transf":
        assert model.fusion_model.transformer.resblocks[0].attn.in_proj_weight.grad.abs().sum() > 0
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("visual."))


def test_weights_of_such_a_tower_load_strictly(tmp_path, caplog):
    """Saved as open_clip saves them; then at another image size, which is said."""
    model = open_clip.create_model("tiny-EVA02")
    torch.save(model.state_dict(), tmp_path / "w.pt")
    clip_model = load_clip("tiny-EVA02", str(tmp_path / "w.pt"))
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(clip_model.visual(images), model.eval().encode_image(images))
    load_clip("tiny-EVA02", str(tmp_path / "w.pt"), image_size=56)
    assert "input size set to 56" in caplog.text
    with pytest.raises(UserError, match="the weights do not fit the model"):
        load_clip("tiny-ConvNeXt", str(tmp_path / "w.pt"))
