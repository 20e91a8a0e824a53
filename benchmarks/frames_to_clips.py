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


def entries_of(videos: Path, folder: Path) -> Entries:
    """Extract the frames of `videos` into `folder`; the videos with frames of 340x256 pixels."""
    run_tool("extract_frames", videos, folder, "--workers", 1)
    places = [place for place in sorted(folder.iterdir()) if place.is_dir()]
    return Entries(
        ListEntry(place.name, len(list(place.iterdir())), 0, 1)
        for place in places
        if Image.open(place / "img_00001.jpg").size == (340, 256)
    )


def key_of(number: int, entries: Entries) -> SampleKey:
    """The key of a running number of clips, whose random numbers all differ."""
    return SampleKey(number // len(entries), number % len(entries))


def datasets_of(root: Path, entries: Entries) -> dict[str, VideoDataset]:
    """Our datasets of the cases in TARGETS."""
    opener = partial(open_source, DataConfig(), root)

    def dataset(mode: str, transform: TrainTransform | EvalTransform, num_clips: int = 1) -> VideoDataset:
        choose = FrameChooser(mode, 8, num_clips=num_clips)
        return VideoDataset(entries, opener, choose, transform, ItemOptions(num_clips))

    return {
        "training": dataset("train", TrainTransform(Resize(256), 224, augmentations=(Grayscale(0.2),))),
        "validation": dataset("val", EvalTransform(Resize(256), 224)),
        "3 crops x 4 clips": dataset("test", EvalTransform(Resize(256), 224, 3), 4),
    }


def implementations(root: Path, entries: Entries) -> dict[str, tuple]:
    """Case -> (published, ours, calls per round); both are functions of a running number."""
    datasets = datasets_of(root, entries)

    def folder(number: int) -> Path:
        return root / entries[number % len(entries)].path

    def length(number: int) -> int:
        return int(entries[number % len(entries)].num_frames or 0)

    published_clips = {
        "training": lambda n: published.training_clip(
            folder(n), *draws_of(entries[n % len(entries)], key_of(n, entries))
        ),
        "validation": lambda n: published.validation_clip(folder(n), sampling.val_uniform(length(n), 8)),
        "3 crops x 4 clips": lambda n: published.three_crops(folder(n), sampling.test_uniform(length(n), 8, 4)),
    }
    calls = {"training": 8, "validation": 8, "3 crops x 4 clips": 2}
    return {
        case: (published_clips[case], lambda n, ours=ours: ours[key_of(n, entries)]["frames"], calls[case])
        for case, ours in datasets.items()
    }


def assert_equal(cases: dict[str, tuple]) -> None:
    for case, (theirs, ours, _) in cases.items():
        for number in range(4):
            reference, frames = theirs(number), ours(number)
            if case == "3 crops x 4 clips":
                frames = make_views(frames, 3, 224).unflatten(0, (4, 3)).transpose(1, 2).flatten(0, 2)
            published.assert_same_pixels(frames.reshape(reference.shape), reference, f"{case}, clip {number}")


def main() -> None:
    args = start(__doc__, 15, "Frames to clips (340x256 JPEG, quality 90, 8 frames)")
    keep_freed_memory()  # as in the loader processes
    with tempfile.TemporaryDirectory() as folder:
        entries = entries_of(args.videos, Path(folder))
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
