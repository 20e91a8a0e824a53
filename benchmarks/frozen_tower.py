"""Speed-up of training the head of a frozen tower from cached frame embeddings, and a comparison of the scores.

    python benchmarks/frozen_tower.py VIDEOS [--clips 48] [--batch 16] [--epochs 3]

ViT-B/32 with random weights, 8 frames, the six-block head, AdamW; frames extracted from VIDEOS as JPEG files. Both runs
train the same epochs on the same random clips; CPU time on one thread, including loading and validation.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.timing import print_header, print_table, run_tool
from datasets.build import build_eval_loader, build_train_loader
from datasets.frame_cache import cached_loaders
from modules.build import build_model, load_clip_model
from modules.build_training import build_trainer
from modules.frozen_tower import frame_encoder, tower_key
from modules.pixels import with_preprocessing
from modules.training import Progress
from modules.validation import validate
from utils.config import load_config
from utils.context import RunContext
from utils.distributed import Process
from utils.metrics import Scores
from utils.schema import Config

NUM_CLASSES = 4


def write_list(frames: Path, path: Path, num_clips: int) -> None:
    """Write a list of `num_clips` clips of four classes, repeating the frame folders."""
    folders = sorted(p for p in frames.iterdir() if p.is_dir())
    chosen = [folders[i % len(folders)] for i in range(num_clips)]
    lines = [f"{p.name} {len(list(p.glob('*.jpg')))} {i % NUM_CLASSES}\n" for i, p in enumerate(chosen)]
    path.write_text("".join(lines))


def train(cfg: Config, process: Process, cached: bool) -> tuple[list[float], list[float], list[float], float]:
    """CPU seconds of each epoch, losses of all steps, scores of the epochs, and CPU seconds of filling the cache."""
    model = build_model(cfg, load_clip_model(cfg))
    text = torch.randn(NUM_CLASSES, model.embed_dim)
    train_loader, val_loader = build_train_loader(cfg), build_eval_loader(cfg)
    context, filled = RunContext(process), 0.0
    if cached:
        started = time.process_time()
        encode, key = frame_encoder(model, context), tower_key(cfg, model, "fp32")
        train_loader, val_loader = cached_loaders(cfg, context, train_loader, val_loader, encode, key)
        filled = time.process_time() - started
    trainer = build_trainer(cfg, model, text, context)
    progress, seconds, losses, scores = Progress(), [], [], []
    for epoch in range(cfg.solver.epochs):
        started = time.process_time()
        progress.epoch, progress.consumed_clips = epoch, 0
        train_loader.start_epoch(epoch)
        losses += [record.loss for record in trainer.run_epoch(train_loader, progress)]
        found = validate(model, text, val_loader, context, cfg.data).scores
        assert isinstance(found, Scores)
        scores.append(found.top1)
        seconds.append(time.process_time() - started)
    return seconds, losses, scores, filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print_header(f"Frozen tower (ViT-B/32, {args.clips} training clips, {args.clips // 3} validation clips)")
    process = Process(0, 1, 0, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_tool("extract_frames", args.videos, folder / "frames", "--short_side", 256, "--workers", 1)
        write_list(folder / "frames", folder / "train.txt", args.clips)
        write_list(folder / "frames", folder / "val.txt", args.clips // 3)
        overrides = [
            "network.arch=ViT-B/32", "network.weights=none", "network.fix_video=true", "solver.lr_warmup_step=0",
            f"data.train_list={folder}/train.txt", f"data.val_list={folder}/val.txt", f"data.num_classes={NUM_CLASSES}",
            f"data.train_root={folder}/frames", f"data.val_root={folder}/frames", f"data.batch_size={args.batch}",
            f"solver.epochs={args.epochs}", "data.workers=0", f"logging.cache_dir={folder}/cache",
            f"data.label_list={folder}/none.csv", f"data.cached_draws={args.epochs}",
        ]  # fmt: skip
        cfg = with_preprocessing(load_config(None, overrides, "train").config)
        tower, cache = (train(cfg, process, cached) for cached in (False, True))
    print(f"largest difference of a step's loss: {np.abs(np.subtract(tower[1], cache[1])).max():.1e}; ", end="")
    print(f"top-1 after each epoch: {tower[2]} and {cache[2]}\n")
    slow, fast = np.median(tower[0]), np.median(cache[0])
    rows = [
        ["through the tower", f"{slow:.2f}", "1"],
        ["from the cache", f"{fast:.3f}", f"{slow / fast:.0f}"],
        [f"filling the cache ({args.epochs} draws, once)", f"{cache[3]:.2f}", ""],
    ]
    print_table(["epoch", "CPU seconds (median)", "speed-up"], rows)


if __name__ == "__main__":
    main()
