"""Golden figures of adapters. Used by tests/test_golden.py.

Every value of an entry must be used; unused values are a failure.
"""

import inspect
import json
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modules.build import build_model, load_clip_model
from modules.video_clip import VideoCLIP
from tests.golden_models import GOLDEN_DIR, relative_error, tiny_clip, tower_sizes
from utils.config import load_config

TOLERANCE = 1e-4
ROUNDING = 5e-6  # the figures have five decimals
BLOCKS = "visual.transformer.resblocks"


def golden_module(name: str) -> dict[str, Any]:
    """The names that a module of the golden folder defines."""
    found: dict[str, Any] = {}
    exec(compile((GOLDEN_DIR / f"{name}.py").read_text(encoding="utf-8"), name, "exec"), found)  # noqa: S102
    return found


def arguments(maker: Callable, entry: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a function that makes parameters: removed from the entry, otherwise their defaults."""
    taken = {name: entry.pop(name) for name in inspect.signature(maker).parameters if name in entry and name != "seed"}
    defaults = {n: p.default for n, p in inspect.signature(maker).parameters.items() if p.default is not p.empty}
    return defaults | taken


def tuned_clip(
    entry: dict[str, Any], sizes: dict[str, int], frames: int, adapter: str, settings: dict[str, Any]
) -> VideoCLIP:
    """The model of an entry, on the tiny CLIP of `sizes`, which are removed from the entry."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(tiny_clip().vit(seed=entry.pop("clip_seed"), **sizes), f"{folder}/weights.pt")
        for name in sizes:
            entry.pop(name, None)
        overrides = [f"network.arch={folder}/weights.pt", "network.sim_header=None"]
        overrides += [f"data.input_size={sizes['image']}", f"data.num_segments={frames}", f"network.adapter={adapter}"]
        path = Path(folder, "config.yaml")
        path.write_text(json.dumps({"components": {adapter: settings}}))
        cfg = load_config(path, overrides, "predict").config
        return build_model(cfg, load_clip_model(cfg), entry.get("names") or ["a class"]).eval()


def load_parameters(model: VideoCLIP, state: dict[str, torch.Tensor]) -> None:
    """Set the adapter's parameters, and only those, to the golden values."""
    names = [name for name, _ in model.named_parameters() if not name.startswith("text.")]
    new = {name for name in names if not model.is_pretrained(name)}
    assert new == set(state), new ^ set(state)
    own = model.state_dict()
    for name, value in state.items():
        assert own[name].shape == value.shape, (name, own[name].shape, value.shape)
        own[name].copy_(value)


def check_frames(model: VideoCLIP, entry: dict[str, Any], frames: int, size: int) -> None:
    expected = torch.tensor(entry.pop("frame_embeddings"))
    with torch.no_grad():
        found = model.encode_frames(tiny_clip().clips(entry.pop("clips_seed"), len(expected), frames, size))
    assert relative_error(found, expected) <= TOLERANCE + ROUNDING / expected.abs().max().item()


def check_st_adapter(entry: dict[str, Any]) -> None:
    maker, frames = golden_module("tiny_methods")["st_adapter"], entry.pop("frames")
    tower = tower_sizes(entry)
    sizes = arguments(maker, entry)
    made = maker(entry.pop("seed"), **sizes)
    settings = {"width": sizes["adapter_width"], "kernel": sizes["kernel"], "places": sizes["places"]}
    settings = {n: list(v) if isinstance(v, tuple) else v for n, v in settings.items()} | {"last": sizes["last"]}
    model = tuned_clip(entry, tower, frames, "st_adapter", settings)
    load_parameters(model, {re.sub(r"^blocks\.(\d+)", rf"{BLOCKS}.\1.st_adapter", n): v for n, v in made.items()})
    check_frames(model, entry, frames, tower["image"])


def check_aim(entry: dict[str, Any]) -> None:
    maker, frames = golden_module("tiny_methods")["aim"], entry["frames"]
    tower = tower_sizes(entry)
    sizes = arguments(maker, entry)
    made = maker(entry.pop("seed"), **sizes)
    settings = {"ratio": sizes["ratio"], "mlp_scale": entry.pop("mlp_scale"), "two_temporal": sizes["two_temporal"]}
    model = tuned_clip(entry, tower, frames, "aim", settings)
    named = {re.sub(r"^blocks\.(\d+)", rf"{BLOCKS}.\1.aim", n): v for n, v in made.items()}
    load_parameters(model, {n.replace("time_embedding", "visual.aim.time_embedding"): v for n, v in named.items()})
    check_frames(model, entry, frames, tower["image"])


def check_deep_prompts(entry: dict[str, Any]) -> None:
    """An entry without names has no text side, whatever its text_depth."""
    frames, tower = entry.pop("frames"), tower_sizes(entry)
    seed, num_tokens = entry.pop("seed"), entry.pop("tokens")
    depth = {"visual": entry.pop("visual_depth"), "text": entry.pop("text_depth") if entry["names"] else 0}
    entry.pop("text_depth", None)
    settings = {"tokens": num_tokens, "visual_depth": depth["visual"], "text_depth": depth["text"]}
    depth = {"visual": min(depth["visual"], tower["layers"]), "text": min(depth["text"], tower["text_layers"])}
    model = tuned_clip(entry, tower, frames, "deep_prompts", settings)
    state = {}
    for name, count, width, first in (
        ("visual.deep_prompts.tokens", "visual", tower["width"], seed),
        ("classifier.prompts", "text", tower["text_width"], seed + 1),
    ):
        if depth[count]:
            # The figures come from the values before `tiny_methods` rounds them to float16's.
            values = np.random.RandomState(first).standard_normal((depth[count], num_tokens, width)) * 0.05
            state[name] = torch.from_numpy(values.astype(np.float32))
    load_parameters(model, state)
    check_frames(model, entry, frames, tower["image"])
    entry.pop("names")
    expected = torch.tensor(entry.pop("text_features", []))
    assert bool(depth["text"]) == bool(expected.numel())
    if depth["text"]:
        with torch.no_grad():
            found = model.class_embeddings()
        assert relative_error(found, expected) <= TOLERANCE + ROUNDING / expected.abs().max().item()


def _check_completely(check: Callable[[dict[str, Any]], None], entry: dict[str, Any]) -> None:
    """Run a check, which removes the values that it uses from the entry; none may be left."""
    entry = {name: value for name, value in entry.items() if name != "method"}
    check(entry)
    assert not entry, f"fields not understood: {sorted(entry)}"


CHECKS: dict[str, Callable[[dict], None]] = {
    "st_adapter": partial(_check_completely, check_st_adapter),
    "aim": partial(_check_completely, check_aim),
    "deep_prompts": partial(_check_completely, check_deep_prompts),
}
"""By the name of the method."""
