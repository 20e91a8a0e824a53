"""Run folders of random embeddings, as written by train.py and test.py, for the tests of reports."""

import json
from pathlib import Path

import numpy as np

from modules.embed import VideoTable, save_table
from utils.config import dump_config
from utils.files import write_text_atomic
from utils.results import write_summary
from utils.schema import Config

NASTY = ('<b>&"', "</script><script>alert(1)</script>", "it's 100% `ok`", "日本語 – naïve")
"""Names that would break a page that does not escape them."""


def make_table(
    num_videos: int, num_classes: int, seed: int = 0, spread: float = 1.0, num_unreadable: int = 0
) -> tuple[VideoTable, np.ndarray]:
    """Videos distributed around the text of their class; classes are similar in groups of four.

    Args:
        seed: of the videos; the texts and labels are the same for all.
        spread: of the videos around their text; the larger, the more mistakes.

    Returns:
        The table, and float32 (K,32) texts.
    """
    rng = np.random.default_rng(1)
    groups = rng.standard_normal((num_classes // 4 + 1, 32))
    text = (groups[np.arange(num_classes) // 4] + 0.35 * rng.standard_normal((num_classes, 32))).astype(np.float32)
    labels = np.arange(num_videos) % num_classes
    noise = np.random.default_rng(seed).standard_normal((num_videos, 32))
    videos = (text[labels] + 0.4 * spread * noise).astype(np.float32)
    videos[:num_unreadable] = np.nan
    return VideoTable([f"videos/{i:05d}.mp4" for i in range(num_videos)], labels, videos, 1.0), text


def class_names(num_classes: int) -> list[str]:
    """`NASTY` names first, then numbered ones."""
    return [*NASTY, *(f"action number {i}" for i in range(len(NASTY), num_classes))][:num_classes]


def write_test(
    folder: Path, table: VideoTable, text: np.ndarray, views: tuple[int, int] = (1, 1), **changes: object
) -> Path:
    """A folder of test results. `changes` replace keys of its summary."""
    config = Config.model_validate({"data": {"val_list": "gone/val.txt", "num_classes": len(text)}})
    save_table(folder / "embeddings.npz", table, text, class_names(len(text)))
    summary = {
        "weights": "gone/last_model.pt",
        "weights_hash": "0",
        "list": "gone/val.txt",
        "views": {"clips": views[0], "crops": views[1], "dense": False},
        "config": config.model_dump(),
    }
    write_summary(folder / "summary.json", **{**summary, **changes})
    return folder


def write_run(
    folder: Path,
    num_videos: int = 60,
    num_classes: int = 8,
    seed: int = 0,
    spread: float = 1.0,
    num_unreadable: int = 2,
) -> Path:
    """A run folder with config, metrics and one test, `test_1x1`."""
    write_text_atomic(folder / "config.yaml", dump_config(Config.model_validate({"solver": {"lr": 1e-4}})))
    rng = np.random.default_rng(seed)
    records: list[dict] = [
        {
            "kind": "train",
            "step": s,
            "epoch": (s - 1) // 50,
            "loss": 3 / s**0.5 + 0.3 * rng.random(),
            "lr_new": 1e-4 / s,
            "lr_pretrained": 1e-5 / s,
        }
        for s in range(1, 101)
    ]
    records += [
        {"kind": "val", "step": s, "epoch": s // 50, "top1": 30.0 + s / 2, "top5": 60.0 + s / 3} for s in (50, 100)
    ]
    write_text_atomic(folder / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    write_test(folder / "test_1x1", *make_table(num_videos, num_classes, seed, spread, num_unreadable))
    return folder
