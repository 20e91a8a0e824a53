"""Golden figures of the model: each entry is built through the project's own loading code and compared.

Used by tests/test_golden.py. An entry with a field or a value that is not understood is a failure.
"""

import importlib.util
import inspect
import os
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from clip import load_clip
from modules.build import build_model, load_clip_model
from modules.checkpoint_layout import load_video_weights
from modules.losses.contrastive import ds_one_way, nce_one_way
from modules.prompts import fill_templates
from modules.text_classifier import encode_classes
from utils.schema import Config

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parent / "golden"))
assert GOLDEN_DIR.is_dir(), f"GOLDEN_DIR: no such folder: {GOLDEN_DIR}"
MODEL_TOLERANCE = 1e-4  # of the largest magnitude in the figure, which is rounded to five or seven decimals
EMBEDDING_TOLERANCE = 1e-5  # likewise, in addition to the rounding
ROUNDING = 5e-6
TEXT_TOLERANCE = 1e-5
CONTRASTIVE_TOLERANCE = 1e-4
CONTRASTIVE_RECIPE = (
    "rng=RandomState(seed); logits=standard_normal((b,b))*5; labels=randint(0,3,b); "
    "target[i,j]=labels[i]==labels[j]; loss=(f(logits)+f(logits.T))/2"
)
MODEL_FIELDS = {
    "kind", "temporal", "joint_space_time", "head", "frames", "weights_seed", "head_seed", "clips_seed", "size",
    "time_embedding", "text_features", "video_embedding", "logits",
}  # fmt: skip
TEXT_FIELDS = {"weights_seed", "template", "names", "tokens", "text_features"}


def tiny_clip() -> ModuleType:
    """The module in the golden folder that makes the weights."""
    spec = importlib.util.spec_from_file_location("golden_tiny_clip", GOLDEN_DIR / "tiny_clip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tower_sizes(entry: dict[str, Any]) -> dict[str, int]:
    """The sizes of the tiny CLIP of an entry; those that it does not name have their defaults."""
    parameters = inspect.signature(tiny_clip().vit).parameters.values()
    return {p.name: entry.get(p.name, p.default) for p in parameters if p.name != "seed"}


def drawn(recipe: str, **names: int) -> torch.Tensor:
    """The array that a recipe of the form RandomState(s).standard_normal((a, b)) [* factor] describes, float32."""
    match = re.fullmatch(r"RandomState\((\d+)\)\.standard_normal\(\(([\w, ]+)\)\)(?: \* ([\d.]+))?", recipe)
    assert match, f"recipe not understood: {recipe}"
    shape = [names[item] if item in names else int(item) for item in re.split(r",\s*", match[2].strip(", "))]
    values = np.random.RandomState(int(match[1])).standard_normal(shape) * float(match[3] or 1)
    return torch.from_numpy(values.astype(np.float32))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference as a share of the largest magnitude expected."""
    assert found.shape == expected.shape, (tuple(found.shape), tuple(expected.shape))
    return ((found - expected).abs().max() / expected.abs().max()).item()


def check_model(entry: dict[str, Any]) -> None:
    """An entry of models.json: video embeddings and logits of seeded weights and clips."""
    tiny = tiny_clip()
    makers = {"vit": tiny.vit, "resnet": tiny.resnet}
    assert entry["kind"] in makers, f"kind not understood: {entry['kind']}"
    assert entry["temporal"] in ("none", "tsm", "tokenshift", "tokent1d"), entry["temporal"]
    assert entry["head"] in ("None", "Transf"), entry["head"]
    make = makers[entry["kind"]]
    sizes = {name: entry[name] for name in inspect.signature(make).parameters if name in entry and name != "seed"}
    unknown = set(entry) - MODEL_FIELDS - set(sizes)
    assert not unknown, f"fields not understood: {sorted(unknown)}"
    state = make(seed=entry["weights_seed"], **{"image": entry["size"]} | sizes)

    changes = {
        "tm": False if entry["temporal"] == "none" else entry["temporal"],
        "joint_st": entry["joint_space_time"],
        "sim_header": entry["head"],
    }
    data = {"input_size": entry["size"], "num_segments": entry["frames"]}
    with tempfile.TemporaryDirectory() as folder:
        arch = f"{folder}/weights.pt"
        torch.save(make(seed=entry["weights_seed"] + 1, **{"image": entry["size"]} | sizes), arch)  # to be replaced
        cfg = Config.model_validate({"network": {"arch": arch, **changes}, "data": data})
        model = build_model(cfg, load_clip_model(cfg)).eval()
    load_video_weights(model, published_checkpoint(entry, state), "published.pt")

    expected = torch.tensor(entry["video_embedding"])
    clips = tiny.clips(entry["clips_seed"], len(expected), entry["frames"], entry["size"])
    with torch.no_grad():
        video = model.encode_video(clips)
        logits = model(clips, drawn(entry["text_features"]))
    largest = expected.abs().max().item()
    assert relative_error(video, expected) <= EMBEDDING_TOLERANCE + ROUNDING / largest
    assert relative_error(logits, torch.tensor(entry["logits"])) <= MODEL_TOLERANCE


def published_checkpoint(entry: dict[str, Any], state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A complete checkpoint as saved by the published system, with the published names of temporal additions."""
    tiny = tiny_clip()
    width = state["text_projection"].shape[1]
    head = tiny.temporal_head(seed=entry["head_seed"], embed_dim=width) if entry["head"] == "Transf" else None
    raw = tiny.video_checkpoint(state, head, module_prefix=True)
    blocks = r"^(module\.visual\.(?:layer\d\.\d+\.conv1|transformer\.resblocks\.\d+))\."
    tensors = raw["model_state_dict"]
    if entry["temporal"] == "tsm":
        raw["model_state_dict"] = {re.sub(blocks, r"\1.net.", name): value for name, value in tensors.items()}
    if entry["temporal"] == "tokent1d":  # as initialised: the token shift
        channels = len(state["visual.class_embedding"])
        taps = torch.zeros(channels, 1, 3)
        taps[: channels // 4, 0, 2] = taps[channels // 4 : channels // 2, 0, 0] = taps[channels // 2 :, 0, 1] = 1
        names = {match[1] for match in (re.match(blocks, name) for name in tensors) if match}
        tensors |= {f"{name}.control_point.conv.weight": taps.clone() for name in names}
    if entry["joint_space_time"]:
        recipe, shape = entry["time_embedding"], (entry["frames"], len(state["visual.class_embedding"]))
        time = drawn(recipe, frames=entry["frames"]) if recipe else torch.zeros(shape)
        tensors["module.visual.time_embedding"] = time
    return raw


def check_text(data: dict[str, Any]) -> None:
    """text.json: tokens (without the padding) and text features of seeded weights."""
    unknown = set(data) - TEXT_FIELDS
    assert not unknown, f"fields not understood: {sorted(unknown)}"
    with tempfile.TemporaryDirectory() as folder:
        torch.save(tiny_clip().vit(seed=data["weights_seed"]), f"{folder}/weights.pt")
        clip_model = load_clip(f"{folder}/weights.pt")
    prompts = fill_templates(data["names"], [data["template"]])
    tokens = clip_model.tokenize([prompt for (prompt,) in prompts])
    assert tokens.shape[1] == 77
    for row, expected in zip(tokens.tolist(), data["tokens"], strict=True):
        assert row == expected + [0] * (77 - len(expected))
    features = encode_classes(clip_model, prompts)
    torch.testing.assert_close(features, torch.tensor(data["text_features"]), rtol=TEXT_TOLERANCE, atol=TEXT_TOLERANCE)


def check_contrastive(data: dict[str, Any]) -> None:
    """contrastive.json: the NCE and DS losses of drawn logits and labels."""
    known = {"recipe", "seed", "b", "nce", "ds"}
    assert set(data) == known, f"fields not understood: {sorted(set(data) ^ known)}"
    assert data["recipe"] == CONTRASTIVE_RECIPE, f"recipe not understood: {data['recipe']}"
    rng, num_clips = np.random.RandomState(data["seed"]), data["b"]
    logits = torch.from_numpy(rng.standard_normal((num_clips, num_clips)) * 5).float()
    labels = torch.from_numpy(rng.randint(0, 3, num_clips))
    target = (labels[:, None] == labels[None]).float()
    for one_way, expected in ((nce_one_way, data["nce"]), (ds_one_way, data["ds"])):
        loss = (one_way(logits, target) + one_way(logits.T, target)) / 2
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=CONTRASTIVE_TOLERANCE, atol=0)
