"""Golden figures of methods.json on frame embeddings and tokens: VCS, MoTE, the attentive probe, X-CLIP.

Used by tests/test_golden.py. An entry with a field that is not understood is a failure.
"""

import importlib.util
import re
import tempfile
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional as F

from modules.build import build_model_and_text
from modules.checkpoint_layout import load_video_weights
from modules.heads.mote import TemporalMixture
from modules.losses.mixture import MixtureLoss
from modules.probes.attentive import AttentiveProbe
from modules.scorers.modulated import Modulated
from modules.scorers.vcs import VideoConceptSpotting
from tests.golden_models import GOLDEN_DIR, MODEL_TOLERANCE, relative_error, tiny_clip, tower_sizes
from utils.schema import Config


def tiny_methods() -> ModuleType:
    """The module in the golden folder that makes the methods' parameters."""
    spec = importlib.util.spec_from_file_location("golden_tiny_methods", GOLDEN_DIR / "tiny_methods.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_fields(entry: dict[str, Any], known: str) -> None:
    unknown = set(entry) - {"method", *known.split()}
    assert not unknown, f"fields not understood: {sorted(unknown)}"


def assert_close(found: torch.Tensor, expected: list | float) -> None:
    assert relative_error(found, torch.tensor(expected)) <= MODEL_TOLERANCE


def check_vcs(entry: dict[str, Any]) -> None:
    check_fields(entry, "frames_seed words_seed text_seed frames words width cosines")
    tokens, width = tiny_methods().tokens, entry.get("width", 64)
    frames = tokens(entry["frames_seed"], 4, entry["frames"], width)
    words, text = tokens(entry["words_seed"], 6, entry["words"], width), tokens(entry["text_seed"], 6, width)
    scorer = VideoConceptSpotting(VideoConceptSpotting.Settings())
    assert_close(scorer(frames, torch.cat([text[:, None], words], dim=1), 1.0), entry["cosines"])


MOTE_FIELDS = (
    "seed frames_seed text_seed trained_text_seed frames width labels experts taus cosines cosines_modulated "
    "cosines_experts cosines_merged mean_squared_difference loss"
)
MOTE_NAMES = {"norm1": "ln_1", "norm2": "ln_2", "up": "c_fc", "down": "c_proj"}


def mote_head(entry: dict[str, Any]) -> TemporalMixture:
    width = entry.get("width", 64)
    state = tiny_methods().mote_head(entry["seed"], layers=len(entry["experts"]), width=width)
    num_experts = len({name.split(".")[3] for name in state if ".experts." in name})
    head = TemporalMixture(width, 1, len(entry["experts"]), num_experts)
    named = {}
    for name, value in state.items():
        parts = [MOTE_NAMES.get(part, part) for part in name.split(".")]
        named[".".join(parts).replace("blocks.", "transformer.resblocks.")] = value
    named["frame_position_embeddings.weight"] = named.pop("position")
    head.load_state_dict(named)
    head.drawn = list(zip(entry["experts"], map(float, entry["taus"]), strict=True))
    return head.eval()


def check_mote(entry: dict[str, Any]) -> None:
    check_fields(entry, MOTE_FIELDS)
    tokens, width = tiny_methods().tokens, entry.get("width", 64)
    frames = tokens(entry["frames_seed"], 3, entry["frames"], width)
    text = F.normalize(tokens(entry["text_seed"], 9, width), dim=-1)
    trained = F.normalize(tokens(entry["trained_text_seed"], 11, width), dim=-1)
    cosines = lambda videos: F.normalize(videos, dim=-1) @ text.T  # noqa: E731
    head = mote_head(entry)
    scorer = Modulated(Modulated.Settings(), trained).eval()
    with torch.no_grad():
        assert_close(cosines(head(frames)), entry["cosines"])
        assert_close(scorer(scorer.of_frames(head, frames), text, 1.0), entry["cosines_modulated"])
        drawn, merged, difference = head.passes(frames)
        assert_close(cosines(drawn.mean(dim=1)), entry["cosines_experts"])
        assert_close(cosines(head.train()(frames)), entry["cosines_experts"])
        assert_close(cosines(merged.mean(dim=1)), entry["cosines_merged"])
        assert_close(difference.mean(), entry["mean_squared_difference"])

        def model(frames, text, passes):
            assert passes
            return 100 * cosines(drawn.mean(dim=1)), 100 * cosines(merged.mean(dim=1)), difference

        cfg = Config.model_validate({"network": {"sim_header": "MoTE"}, "solver": {"loss_type": "mixture"}})
        batch = {"frames": frames, "label": torch.tensor(entry["labels"]), "weight": torch.ones(len(frames))}
        assert_close(MixtureLoss(cfg, world_size=1)(model, batch, text) / len(frames), entry["loss"])


TIMM_NAMES = ((r"mlp\.up", "mlp.fc1"), (r"mlp\.down", "mlp.fc2"), (r"\.qkv", ".attn.qkv"), (r"\.out\.", ".attn.proj."))


def check_attentive_probe(entry: dict[str, Any]) -> None:
    check_fields(entry, "seed tokens_seed tokens depth width classes logits")
    methods, width, classes = tiny_methods(), entry.get("width", 64), entry.get("classes", 7)
    probe = AttentiveProbe(width, classes, entry["depth"], num_heads=4)
    state = methods.attentive_probe(entry["seed"], width, entry["depth"], classes)
    for pattern, name in TIMM_NAMES:
        state = {re.sub(pattern, name, own): value for own, value in state.items()}
    probe.load_state_dict(state)
    with torch.no_grad():
        assert_close(probe(methods.tokens(entry["tokens_seed"], 3, entry["tokens"], width)), entry["logits"])


XCLIP_NAMES = {
    "head.position": "mit.positional_embedding",
    "head.blocks": "mit.resblocks",
    "patches.norm": "prompts_visual_ln",
    "patches.proj": "prompts_visual_proj",
    "prompts.blocks": "prompts_generator.decoder",
    "prompts": "prompts_generator",
}


def xclip_checkpoint(entry: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of an entry under the names of X-CLIP's own checkpoints."""
    tower = tower_sizes(entry)
    state = dict(tiny_clip().vit(seed=entry["clip_seed"], **tower))
    sizes = {name: entry[name] for name in ("frames", "head_layers", "prompt_layers") if name in entry}
    sizes |= {"layers": tower["layers"], "width": tower["width"], "dim": tower["embed_dim"]}
    for name, value in tiny_methods().xclip(entry["seed"], **sizes).items():
        name = re.sub(r"^blocks\.(\d+)\.message\.(fc|attn)", r"visual.transformer.resblocks.\1.message_\2", name)
        name = re.sub(r"^blocks\.(\d+)\.message\.norm", r"visual.transformer.resblocks.\1.message_ln", name)
        for start, published in XCLIP_NAMES.items():
            if name.startswith(start):
                name = name.replace(start, published, 1)
                break
        if name.startswith("mit.resblocks."):
            name = name.replace(".norm1.", ".ln_1.").replace(".norm2.", ".ln_2.")
            name = name.replace(".mlp.up.", ".mlp.c_fc.").replace(".mlp.down.", ".mlp.c_proj.")
        if name.startswith("prompts_generator.decoder."):
            name = re.sub(r"\.(query|key|value|out)\.", lambda m: f".cross_attn.{CROSS[m[1]]}.", name)
            name = name.replace(".norm2.", ".norm3.").replace(".mlp.up.", ".mlp.0.").replace(".mlp.down.", ".mlp.3.")
        state[name] = value[None] if name == "mit.positional_embedding" else value
    return state


CROSS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "proj"}


def check_xclip(entry: dict[str, Any]) -> None:
    tower = tower_sizes(entry)
    known = "clip_seed seed clips_seed frames dim head_layers prompt_layers names video_embedding logits"
    check_fields(entry, " ".join([known, *tower]))
    expected, size = torch.tensor(entry["logits"]), tower["image"]
    clips = tiny_clip().clips(entry["clips_seed"], len(expected), entry["frames"], size)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(tiny_clip().vit(seed=entry["clip_seed"], **tower), f"{folder}/weights.pt")
        network = {
            "arch": f"{folder}/weights.pt", "tm": "message", "sim_header": "MIT", "scorer": "xclip", "prompt": "{}",
            "head_layers": entry["head_layers"],
        }  # fmt: skip
        data = {"num_segments": entry["frames"], "input_size": size}
        logging = {"cache_dir": f"{folder}/cache"}
        components = {"xclip": {"layers": entry.get("prompt_layers", 2)}}
        cfg = Config.model_validate({"network": network, "data": data, "logging": logging, "components": components})
        model, text = build_model_and_text(cfg, entry["names"], torch.device("cpu"))
    load_video_weights(model.eval(), {"model_state_dict": xclip_checkpoint(entry)}, "published.pt")
    with torch.no_grad():
        assert_close(model.encode_video(clips), entry["video_embedding"])
        assert relative_error(model(clips, text), expected) <= MODEL_TOLERANCE


CHECKS = {"attentive_probe": check_attentive_probe, "mote": check_mote, "vcs": check_vcs, "xclip": check_xclip}
