"""Time to make clips from frame folders, compared with the published recipe on PIL images.

    python benchmarks/frames_to_clips.py VIDEOS [--rounds 15]

VIDEOS: folder of videos; tools/extract_frames.py extracts frames from them, and those of 340x256 pixels are used.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from benchmarks import published_recipe as published
from benchmarks.timing import in_ms, interleaved, print_table, ratio, run_tool, start
from datasets import sampling
from datasets.augmentations.grayscale import Grayscale
from datasets.entries import Entries, ListEntry
from datasets.image_decoding import decode_image
from datasets.readers import open_source
from datasets.transforms import EvalTransform, Resize, TrainTransform, make_views, random_resized_box
from datasets.video_dataset import FrameChooser, ItemOptions, SampleKey, VideoDataset
from utils.memory import keep_freed_memory
from utils.schema import DataConfig

TARGETS = {"training": 4, "validation": 3, "3 crops x 4 clips": 10}


def draws_of(entry: ListEntry, key: SampleKey) -> tuple:
    """Frame indices, box, flip and greyscale as drawn by our loader, so that both implementations do the same work."""
    rng = np.random.default_rng([0, key.epoch, key.index])
    assert entry.num_frames is not None
    indices = sampling.train_uniform(entry.num_frames, 8, rng)
    box = random_resized_box(256, 340, (0.08, 1.0), rng)
    return indices, box, rng.random() < 0.5, rng.random() < 0.2


def implementations(root: Path, entries: Entries) -> dict[str, tuple]:
    """Case -> (published, ours, calls per round); both are functions of a running number."""
    opener = partial(open_source, DataConfig(), root)

    def dataset(mode: str, transform: TrainTransform | EvalTransform, num_clips: int = 1) -> VideoDataset:
        choose = FrameChooser(mode, 8, num_clips=num_clips)
        return VideoDataset(entries, opener, choose, transform, ItemOptions(num_clips))

    def key(number: int) -> SampleKey:
        return SampleKey(number // len(entries), number % len(entries))

    def folder(number: int) -> Path:
        return root / entries[key(number).index].path

    def length(number: int) -> int:
        return int(entries[key(number).index].num_frames or 0)

    def published_training(number: int) -> torch.Tensor:
        entry = entries[key(number).index]
        return published.training_clip(root / entry.path, *draws_of(entry, key(number)))

    training = dataset("train", TrainTransform(Resize(256), 224, augmentations=(Grayscale(0.2),)))
    validation, testing = (
        dataset("val", EvalTransform(Resize(256), 224)),
        dataset("test", EvalTransform(Resize(256), 224, 3), 4),
    )
    return {
        "training": (published_training, lambda n: training[key(n)]["frames"], 8),
        "validation": (
            lambda n: published.validation_clip(folder(n), sampling.val_uniform(length(n), 8)),
            lambda n: validation[key(n)]["frames"],
            8,
        ),
        "3 crops x 4 clips": (
            lambda n: published.three_crops(folder(n), sampling.test_uniform(length(n), 8, 4)),
            lambda n: testing[key(n)]["frames"],
            2,
        ),
    }


def assert_equal(cases: dict[str, tuple]) -> None:
    for case, (theirs, ours, _) in cases.items():
        for number in range(4):
            reference, frames = theirs(number), ours(number)
            if case == "3 crops x 4 clips":
                frames = make_views(frames, 3, 224).unflatten(0, (4, 3)).transpose(1, 2).flatten(0, 2)
            published.assert_same_pixels(frames.reshape(reference.shape), reference, f"{case}, clip {number}")


def print_relative_times(cases: dict[str, tuple], root: Path, entries: Entries, rounds: int) -> None:
    """Times of a clip, relative to decoding its eight frames into allocated memory."""
    names = [[f"img_{1 + 30 * number:05d}.jpg" for number in range(8)] for _ in entries]
    files = [[(root / entry.path / name).read_bytes() for name in of] for entry, of in zip(entries, names)]
    pixels = torch.empty((256, 340, 3), dtype=torch.uint8)

    def decode(number: int) -> None:
        for data in files[number % len(files)]:
            decode_image(data, "", lambda height, width: pixels)

    ours = {name: cases[name][1] for name in ("training", "validation")}
    seconds = interleaved({"decoding": decode, **ours}, rounds, 10 * len(entries))
    rows = [[name, in_ms(times), f"{ratio(times, seconds['decoding']):.2f}"] for name, times in seconds.items()]
    print_table(["eight frames", "ms", "relative to decoding"], rows)


def main() -> None:
    args = start(__doc__, 15, "Frames to clips (340x256 JPEG, quality 90, 8 frames)")
    keep_freed_memory()  # as in the loader processes
    with tempfile.TemporaryDirectory() as folder:
        run_tool("extract_frames", args.videos, folder, "--workers", 1)
        listed = []
        for place in sorted(Path(folder).iterdir()):
            if place.is_dir() and Image.open(place / "img_00001.jpg").size == (340, 256):
                listed.append(ListEntry(place.name, len(list(place.iterdir())), 0, 1))
        entries = Entries(listed)
        cases = implementations(Path(folder), entries)
        assert_equal(cases)
        print()
        rows = []
        for case, (theirs, ours, calls) in cases.items():
            seconds = interleaved({"published": theirs, "ours": ours}, args.rounds, calls)
            bytes_each = [theirs(0).nbytes, ours(0).nbytes]
            faster = f"{ratio(seconds['published'], seconds['ours']):.2f}"
            cells = [in_ms(seconds["published"]), in_ms(seconds["ours"]), faster, TARGETS[case]]
            rows.append([case, *cells, " / ".join(f"{size / 1e6:.1f}" for size in bytes_each)])
        columns = ["clips", "published, ms", "ours, ms", "speed-up", "target", "MB per sample, published / ours"]
        print_table(columns, rows)
        print_relative_times(cases, Path(folder), entries, args.rounds)
        files = [(Path(folder) / entry.path / "img_00020.jpg").read_bytes() for entry in entries]
        paths = [Path(folder) / entry.path / "img_00020.jpg" for entry in entries]
        decoding = {
            "Pillow": lambda n: Image.open(paths[n % len(paths)]).convert("RGB"),
            "ours (libjpeg-turbo by simplejpeg, if installed)": lambda n: decode_image(files[n % len(files)], ""),
        }
        seconds = interleaved(decoding, args.rounds, 40)
        print_table(["decoding one frame", "ms"], [[name, in_ms(times)] for name, times in seconds.items()])


if __name__ == "__main__":
    main()
