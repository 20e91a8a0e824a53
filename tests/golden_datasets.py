"""Checks of the golden figures of datasets/; called by the golden test for every entry."""

import numpy as np
import torch
from PIL import Image

from clip import pixels_of
from datasets import sampling, transforms

_SAMPLING_KEYS = {"video_frames", "num_segments", "mode", "clips", "indices"}
_VIEW_KEYS = {"picture_seed", "height", "width", "scale_size", "input_size", "crops", "ys", "xs", "pixels", "means"}
_RECIPE = (
    "picture(seed,h,w): RandomState(seed).randint(0,256,(h//8,w//8,3)) uint8, PIL-resized to (w,h) bicubic; "
    "pixels[v]=view v at (ys,xs), RGB, uint8, before normalisation; views in published order"
)


def check_sampling(entry: dict) -> None:
    """One entry of sampling.json: the indices must be equal."""
    assert set(entry) == _SAMPLING_KEYS, f"unknown keys in a sampling entry: {sorted(entry)}"
    num_frames, num_segments, clips = entry["video_frames"], entry["num_segments"], entry["clips"]
    if entry["mode"] == "uniform_val":
        assert clips == 1
        indices = sampling.val_uniform(num_frames, num_segments)
    elif entry["mode"] == "uniform_test":
        indices = sampling.test_uniform(num_frames, num_segments, clips)
    elif entry["mode"] == "dense_test":
        indices = sampling.dense_test(num_frames, num_segments, clips)
    else:
        raise AssertionError(f"unknown sampling mode {entry['mode']!r}")
    assert indices.dtype == np.int64
    assert indices.tolist() == entry["indices"], f"{entry['mode']}, N={num_frames}, clips={clips}"


def check_views(case: dict, recipe: str) -> None:
    """One case of views.json: mean absolute difference at most 1 level, none over 6."""
    assert recipe == _RECIPE, "the recipe of views.json changed: this check must follow it"
    assert set(case) == _VIEW_KEYS, f"unknown keys in a views case: {sorted(case)}"
    size, scale, crops = case["input_size"], case["scale_size"], case["crops"]
    assert pixels_of("ViT-B/32", "openai", size)[:4] == (size, scale, "shortest", "bicubic")
    frames = _picture(case["picture_seed"], case["height"], case["width"])
    evaluation = transforms.EvalTransform(transforms.Resize(scale), input_size=size, num_crops=crops)
    clips, _ = evaluation(frames, 0, np.random.default_rng(0))
    views = transforms.make_views(clips, crops, size)
    assert views.shape == (crops, 1, 3, size, size)
    assert views.dtype == torch.uint8
    views = views[:, 0].permute(0, 2, 3, 1).numpy().astype(np.int64)
    expected = np.array(case["pixels"])
    assert expected.shape == (crops, len(case["ys"]), 3)
    difference = np.abs(views[:, case["ys"], case["xs"]] - expected)
    assert difference.max() <= 6, f"a pixel is {difference.max()} levels off"
    assert difference.mean() <= 1, f"pixels are {difference.mean():.2f} levels off on average"
    assert np.abs(views.mean(axis=(1, 2)) - np.array(case["means"])).max() <= 1


def _picture(seed: int, height: int, width: int) -> torch.Tensor:
    """(1, 1, 3, height, width) uint8: one clip of one frame, made as the recipe says."""
    blocks = np.random.RandomState(seed).randint(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    image = Image.fromarray(blocks).resize((width, height), Image.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None, None]
