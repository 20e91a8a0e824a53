"""Speed and memory of loading 4 clips x 3 crops per video, compared with the published code.

    python benchmarks/evaluation_views.py VIDEOS [--rounds 7]

Published: the recipe on PIL images in a DataLoader, every view a float32 tensor. Ours: the evaluation loader, which
returns each frame once in uint8, and views that are cropped from it a few at a time, as in `modules.embed`; "and
normalised" adds the scaling and normalisation on the same core, which the model otherwise computes on its device.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import published_recipe as published
from benchmarks.timing import in_ms, interleaved, print_table, ratio, run_tool, start
from datasets import sampling
from datasets.build import Views, build_eval_loader
from datasets.transforms import make_views
from modules.pixels import with_preprocessing
from utils.loaders import EvalLoader
from utils.schema import Config

NUM_CLIPS, NUM_CROPS, VIDEOS_PER_BATCH, VIEWS_PER_FORWARD = 4, 3, 2, 8


class PublishedDataset(Dataset):
    """(V*T,3,224,224) float32 of each video."""

    def __init__(self, folders: list[Path]):
        self.folders = folders

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> torch.Tensor:
        num_frames = len(list(self.folders[index].iterdir()))
        return published.three_crops(self.folders[index], sampling.test_uniform(num_frames, 8, NUM_CLIPS))


def our_loader(root: Path, folders: list[Path], num_clips: int, num_crops: int):
    lines = [f"{folder.name} {len(list(folder.iterdir()))} 0\n" for folder in folders]
    (root / "list.txt").write_text("".join(lines))
    data = {
        "num_segments": 8,
        "batch_size": VIDEOS_PER_BATCH * num_clips,
        "workers": 0,
        "num_classes": 1,
        "val_root": str(root),
        "val_list": str(root / "list.txt"),
    }
    cfg = with_preprocessing(Config.model_validate({"data": data}))
    return build_eval_loader(cfg, views=Views(num_clips, num_crops))


def our_views(loader: EvalLoader, num_crops: int, normalise: bool) -> Iterator[torch.Tensor]:
    """Chunks of views, one in memory at a time."""
    crop = partial(make_views, num_crops=num_crops, size=224)
    mean, std = torch.tensor(published.MEAN).view(3, 1, 1) * 255, torch.tensor(published.STD).view(3, 1, 1) * 255
    for batch in loader:
        for frames in batch["frames"]:
            assert frames is not None
            for clip in frames.split(1):
                views = crop(clip)
                yield (views.to(torch.float32) - mean) / std if normalise else views


def assert_equal(theirs: DataLoader, loader: EvalLoader) -> None:
    ours = list(our_views(loader, NUM_CROPS, normalise=False))
    views_of_video = torch.cat(ours).unflatten(0, (-1, NUM_CLIPS, NUM_CROPS))
    for index, reference in enumerate(torch.cat(list(theirs))):
        # The published order is by frame, then by crop.
        views = views_of_video[index].transpose(1, 2).flatten(0, 2)
        published.assert_same_pixels(views, reference, f"video {index}")


def memory_rows(root: Path, folders: list[Path]) -> list[list[object]]:
    """Sizes of the largest batch and the largest chunk of views, for several numbers of views."""
    rows = []
    for num_clips, num_crops in ((1, 1), (4, 3), (8, 3), (8, 10)):
        loader = our_loader(root, folders, num_clips, num_crops)
        batch_mb = max(sum(f.nbytes for f in b["frames"] if f is not None) for b in loader) / 1e6
        views_mb = max(views.nbytes for views in our_views(loader, num_crops, normalise=False)) / 1e6
        clip_mb = batch_mb / (VIDEOS_PER_BATCH * num_clips)
        published_mb = num_clips * num_crops * 8 * 3 * 224 * 224 * 4 / 1e6
        megabytes = (published_mb, clip_mb * num_clips, clip_mb, views_mb)
        rows.append([f"{num_clips} x {num_crops}", *(f"{mb:.1f}" for mb in megabytes)])
    return rows


def main() -> None:
    args = start(__doc__, 7, "4 clips x 3 crops per video, through the loader (JPEG frames, 8 per clip)")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run_tool("extract_frames", args.videos, root, "--short_side", 256, "--workers", 1)
        lengths = {place: len(list(place.iterdir())) for place in sorted(root.iterdir()) if place.is_dir()}
        folders = [place for place, count in lengths.items() if count >= 280]
        theirs = DataLoader(PublishedDataset(folders), batch_size=VIDEOS_PER_BATCH)
        loader = our_loader(root, folders, NUM_CLIPS, NUM_CROPS)
        assert_equal(theirs, loader)
        print()

        def consume(batches: Iterable[object]) -> None:
            for _ in batches:
                pass

        implementations = {
            "published": lambda _: consume(theirs),
            "ours": lambda _: consume(our_views(loader, NUM_CROPS, normalise=False)),
            "ours and normalised": lambda _: consume(our_views(loader, NUM_CROPS, normalise=True)),
        }
        seconds = {name: times / len(folders) for name, times in interleaved(implementations, args.rounds).items()}
        rows = []
        for name, times in seconds.items():
            rows.append([name, in_ms(times), f"{1 / float(sorted(times)[len(times) // 2]):.1f}"])
            rows[-1].append(f"{ratio(seconds['published'], times):.2f}")
        print_table(["implementation", "ms per video", "videos/s", "speed-up (target 8)"], rows)
        columns = ["clips x crops", "published, MB per video", "ours, MB per video", "ours, MB per clip of the batch"]
        print_table([*columns, "views in memory, MB"], memory_rows(root, folders))


if __name__ == "__main__":
    main()
