"""Where the time of a clip of a frame folder goes: decoding, and each other step from the list to the batch.

    python benchmarks/clip_breakdown.py VIDEOS [--rounds 15]

VIDEOS: as in frames_to_clips.py. The function of each step is replaced by one that reads the clock before and after it,
and subtracts the time of other steps called by it. Clips with and without these clocks, and their bare decoding,
alternate in one process. A call during which another program used the core is repeated.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.frames_to_clips import datasets_of, entries_of, key_of
from benchmarks.timing import print_table, start
from datasets import frame_folder, frame_source, image_decoding, loader, readers, transforms
from datasets.augmentations.grayscale import Grayscale
from datasets.transforms import TrainTransform
from datasets.video_dataset import FrameChooser, SampleKey, VideoDataset
from modules.video_clip import VideoCLIP
from utils.memory import keep_freed_memory

CLIPS = 40
"""Number of different clips; of the training clips, about 20 are mirrored and 8 greyscale."""
INTERRUPTION = 20e-6
"""Seconds of other programs above which a call is repeated, at most RETRIES times."""
RETRIES = 50
STEPS: dict[str, tuple[Any, str]] = {
    "decoding (libjpeg-turbo)": (image_decoding.simplejpeg, "decode_jpeg"),
    "headers of the JPEGs, memory for frames": (frame_source, "decode_image"),
    "opening the folder": (readers, "FrameFolder"),
    "reading the files": (frame_folder, "_read_file"),
    "seeding the random numbers": (SampleKey, "stream"),
    "choosing frames": (FrameChooser, "__call__"),
    "drawing crop, mirroring, greyscale": (TrainTransform, "draw"),
    "resizing the crop": (transforms, "_resize_to"),
    "mirroring (half of the clips)": (torch.Tensor, "flip"),
    "greyscale (one clip in five)": (Grayscale, "apply"),
}
"""Step -> the object and attribute of the function that does it."""
BARE, WHOLE, CLOCKED = "bare decoding", "the clip", "the clip with clocks"
PACKING = "copying into the batch, of 8 clips"
BATCH = 8


class Clocks:
    """Wall time of each step in `seconds`, without those that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._called_ns = [0]  # time of the steps called by each running one

    @contextmanager
    def attached(self) -> Iterator[None]:
        with ExitStack() as stack:
            for step, (owner, name) in STEPS.items():
                stack.enter_context(patch.object(owner, name, self._timed(step, getattr(owner, name))))
            yield

    def _timed(self, step: str, function: Callable) -> Callable:
        def timed(*args: object, **options: object) -> object:
            self._called_ns.append(0)
            started = time.perf_counter_ns()
            result = function(*args, **options)
            taken = time.perf_counter_ns() - started
            own = taken - self._called_ns.pop()
            self.seconds[step] = self.seconds.get(step, 0) + own / 1e9
            self._called_ns[-1] += taken
            return result

        return timed

    def restarted(self, function: Callable[[], object]) -> None:
        """Call a function whose steps then are in `seconds`."""
        self.seconds = {}
        function()


def undisturbed(function: Callable[[], object]) -> float:
    """Wall time in seconds of the first call, after one for warm-up, during which no other program used the core."""
    function()
    taken = 0.0
    for _ in range(RETRIES):
        cpu, started = time.thread_time(), time.perf_counter()
        function()
        taken = time.perf_counter() - started
        if taken - (time.thread_time() - cpu) < INTERRUPTION:
            break
    return taken


def bare_decoding(clip: Callable[[], object]) -> Callable[[], object]:
    """A function that decodes the JPEGs of a clip into the memory of one frame."""
    files: list[bytes] = []
    decode = frame_source.decode_image

    def keep(data: bytes, *args: Any) -> torch.Tensor:
        files.append(data)
        return decode(data, *args)

    with patch.object(frame_source, "decode_image", keep):
        clip()
    pixels = torch.empty((256, 340, 3), dtype=torch.uint8)
    return lambda: [decode(data, "", lambda height, width: pixels) for data in files]


def measure(dataset: VideoDataset, rounds: int) -> dict[str, float]:
    """Seconds of bare decoding, of the clip, of the clip with clocks, and of each step. Medians over rounds, then means
    over clips."""
    clocks = Clocks()
    seconds: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((rounds, CLIPS)))
    keys = [key_of(number, dataset.entries) for number in range(CLIPS)]
    decoders = [bare_decoding(partial(dataset.__getitem__, key)) for key in keys]
    for place in np.ndindex(rounds, CLIPS):
        clip = partial(dataset.__getitem__, keys[place[1]])
        seconds[BARE][place] = undisturbed(decoders[place[1]])
        seconds[WHOLE][place] = undisturbed(clip)
        with clocks.attached():
            seconds[CLOCKED][place] = undisturbed(partial(clocks.restarted, clip))
        for step, taken in clocks.seconds.items():
            seconds[step][place] = taken
    items = [dataset[key] for key in keys[:BATCH]]
    packing = [undisturbed(partial(loader._pack, items)) / BATCH for _ in range(rounds)]
    medians = {name: float(np.median(each, axis=0).mean()) for name, each in seconds.items()}
    return {**medians, PACKING: float(np.median(packing))}


def normalising(rounds: int) -> float:
    """Seconds in which the model normalises a clip, on the CPU."""
    model: Any = SimpleNamespace(pixel_scale=torch.ones(1, 3, 1, 1), pixel_shift=torch.ones(1, 3, 1, 1), _over_time=[])
    frames = torch.zeros((1, 8, 224, 224, 3), dtype=torch.uint8).movedim(-1, -3)
    return float(np.median([undisturbed(partial(VideoCLIP.normalized_images, model, frames)) for _ in range(rounds)]))


def print_breakdown(case: str, seconds: dict[str, float]) -> None:
    steps = {step: seconds[step] for step in STEPS if step in seconds}
    total = sum(steps.values())
    rows = {**steps, "sum of these": total, "other code": seconds[WHOLE] - total}
    rows |= {name: seconds[name] for name in (WHOLE, CLOCKED, BARE, PACKING)}
    cells = [[name, f"{1e3 * value:.3f}", f"{value / seconds[BARE]:.3f}"] for name, value in rows.items()]
    print_table([f"{case} clip", "ms", "relative to bare decoding"], cells)


def main() -> None:
    question = "The steps of a clip (340x256 JPEG, quality 90, 8 frames)"
    args = start(__doc__, 15, question, "one thread, wall time without other programs")
    keep_freed_memory()  # as in the loader processes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        datasets = datasets_of(folder, entries_of(args.videos, folder))
        for case in ("training", "validation"):
            print_breakdown(case, measure(datasets[case], args.rounds))
        print(f"Normalising, by the model on its device: {1e3 * normalising(args.rounds):.3f} ms per clip on the CPU.")


if __name__ == "__main__":
    main()
