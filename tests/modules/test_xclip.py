"""X-CLIP: its parts, and checkpoints of both layouts compared with transformers."""

import pytest
import torch
from torch.nn import functional as F
from transformers import XCLIPConfig, XCLIPModel

from modules.build import build_model, build_model_and_text, load_clip_model
from modules.checkpoint_layout import load_video_weights
from modules.scorers.scorer import scorer_state
from modules.scorers.xclip import VideoPrompts
from tests.modules.tiny import NAMES, clip_of, make_clips, make_config
from utils.errors import UserError

CPU = torch.device("cpu")
XCLIP = {"tm": "message", "sim_header": "MIT", "scorer": "xclip", "head_layers": 2}


def transformers_model() -> XCLIPModel:
    """One of the size of `make_config`'s CLIP, whose values all differ from their start."""
    vision = {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 1,
        "mit_hidden_size": 32, "mit_intermediate_size": 128, "mit_num_hidden_layers": 2, "mit_num_attention_heads": 1,
        "image_size": 32, "patch_size": 8, "num_frames": 4, "drop_path_rate": 0.0,
    }  # fmt: skip
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=32, prompt_layers=2, prompt_num_attention_heads=1
    )
    torch.manual_seed(0)
    model = XCLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """VideoCLIP's tensors under the names of X-CLIP's own checkpoints."""
    renames = (
        ("fusion_model.", "mit."), (".message.fc.", ".message_fc."), (".message.norm.", ".message_ln."),
        (".message.attn.", ".message_attn."), ("scorer.visual_norm.", "prompts_visual_ln."),
        ("scorer.visual_proj", "prompts_visual_proj"), ("scorer.layers.", "prompts_generator.decoder."),
        ("scorer.", "prompts_generator."), (".query.", ".q_proj."), (".key.", ".k_proj."), (".value.", ".v_proj."),
        ("cross_attn.out.", "cross_attn.proj."),
    )  # fmt: skip
    found = {}
    for name, value in state.items():
        for own, theirs in renames:
            name = name.replace(own, theirs)
        if name.startswith("prompts_generator.decoder."):
            name = name.replace(".norm2.", ".norm3.").replace(".mlp.2.", ".mlp.3.")
        found[name] = value
    return found


def test_logits_of_a_transformers_checkpoint_are_transformers(tmp_path):
    oracle, cfg = transformers_model(), make_config(tmp_path, **XCLIP)
    model = build_model(cfg, load_clip_model(cfg), NAMES).eval()
    load_video_weights(model, {"model_state_dict": oracle.state_dict()}, "xclip")
    tokens, clips = clip_of(cfg).tokenize(NAMES), make_clips()
    with torch.no_grad():
        pixels = model.normalized_images(clips).unflatten(0, (2, 4))
        # transformers finds a text's end by its largest token, as CLIP does, where eos_token_id is 2.
        expected = oracle(input_ids=tokens, pixel_values=pixels)
        text = oracle.get_text_features(input_ids=tokens)
        text = text if torch.is_tensor(text) else text.pooler_output
        found = model(clips, text)
        torch.testing.assert_close(found, expected.logits_per_video, rtol=1e-4, atol=1e-4)
        video = model.encode_video(clips)
        torch.testing.assert_close(F.normalize(video, dim=-1), expected.video_embeds, rtol=1e-4, atol=1e-5)

    # The published names lead to the same model.
    other = build_model(cfg, load_clip_model(cfg), NAMES).eval()
    load_video_weights(other, {"model_state_dict": published(model.state_dict())}, "published")
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_messages_reach_the_other_frames_of_their_clip_alone(tmp_path):
    cfg = make_config(tmp_path, **XCLIP)
    model = build_model(cfg, clip_of(cfg), NAMES).eval()
    clips = make_clips(2)
    changed = clips.clone()
    changed[0, 3] = 255 - changed[0, 3]
    with torch.no_grad():
        before, after = model.encode_frames(clips), model.encode_frames(changed)
    assert not torch.allclose(before[0, 0], after[0, 0], atol=1e-6)
    torch.testing.assert_close(before[1], after[1])


def test_a_table_is_scored_without_the_model(tmp_path):
    cfg = make_config(tmp_path, **XCLIP)
    model, text = build_model_and_text(cfg, NAMES, CPU)
    model.eval()
    with torch.no_grad():
        rows = model.video_features(make_clips())
        logits = model(make_clips(), text)
    assert rows.shape == (2, 1 + 16, model.embed_dim)
    state = {name: torch.from_numpy(value) for name, value in scorer_state(model.scorer).items()}
    again = VideoPrompts.restore(VideoPrompts.settings(cfg), state)
    found = torch.from_numpy(again.table_logits(rows[:, None].numpy(), text.numpy()))
    scaled = 100 / model.logit_scale.exp().item() * logits
    torch.testing.assert_close(found, scaled.log_softmax(dim=-1), rtol=1e-4, atol=1e-4)


def test_views_are_averaged_as_probabilities(tmp_path):
    logits = 10 * torch.randn(3, 4, len(NAMES), generator=torch.Generator().manual_seed(0))
    averaged = {}
    for average in ("probabilities", "logits"):
        cfg = make_config(tmp_path, **XCLIP).model_copy(update={"components": {"xclip": {"average": average}}})
        averaged[average] = build_model(cfg, clip_of(cfg), NAMES).scorer.over_views(logits)
    torch.testing.assert_close(averaged["probabilities"].softmax(dim=-1), logits.softmax(dim=-1).mean(dim=1))
    assert torch.equal(averaged["logits"], logits.mean(dim=1))
    cfg = make_config(tmp_path, **XCLIP, data_multi_label=True)
    with pytest.raises(UserError, match="components.xclip.average: .* set it to logits"):
        build_model(cfg, clip_of(cfg), NAMES)


def test_all_parts_train_at_the_full_rate(tmp_path):
    cfg = make_config(tmp_path, fix_video=True, **XCLIP)
    model, text = build_model_and_text(cfg, NAMES, CPU)
    model(make_clips(), text).square().sum().backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[0] for name in trained if not model.is_pretrained(name)} == {
        "visual", "fusion_model", "scorer",
    }  # fmt: skip
    assert all(p.grad is not None for name, p in model.named_parameters() if name in trained)


@pytest.mark.parametrize(
    ("change", "part"),
    [({"head_layers": 1}, "has 2 layers; set network.head_layers to 2"), ({"data_num_segments": 8}, "on 4 frames")],
)
def test_a_checkpoint_of_other_sizes_names_the_key_to_set(tmp_path, change, part):
    cfg = make_config(tmp_path, **XCLIP)
    state = {"model_state_dict": build_model(cfg, clip_of(cfg), NAMES).state_dict()}
    other = make_config(tmp_path, **{**XCLIP, **change})
    with pytest.raises(UserError, match=part):
        load_video_weights(build_model(other, clip_of(other), NAMES), state, "xclip")
