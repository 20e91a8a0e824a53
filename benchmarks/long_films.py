"""Memory needed to read 8 frames of a long film (motion JPEG of 1280x720 in Matroska), in a separate process and in
each of four loader processes.

python benchmarks/long_films.py FOLDER [--megabytes 100 1000 4000]      FOLDER needs space for the largest film
"""

import argparse
import multiprocessing
import resource
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np

from benchmarks.timing import memory_bytes, print_header, print_table
from datasets import loader as loader_module
from datasets.build import build_eval_loader
from datasets.pyav_source import PyAVVideo
from datasets.sampling import val_uniform
from modules.pixels import with_preprocessing
from utils.schema import Config

SIZE, WORKERS = (1280, 720), 4
Result = TypeVar("Result")


def write_film(path: Path, megabytes: int) -> None:
    """Write a film that repeats one image of noise at 25 frames per second."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"q": "2"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        stream.time_base = Fraction(1, 25)
        encoded = [*stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")), *stream.encode(None)]
        data = bytes(encoded[0])
        for index in range(megabytes * 10**6 // len(data)):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = stream.time_base
            packet.is_keyframe = True
            packet.pts = packet.dts = index
            container.mux(packet)


def measure(path: Path) -> tuple[int, float, float]:
    """Number of frames, increase of the process's peak memory in megabytes, and CPU seconds."""

    def largest_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

    before, begin = largest_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with PyAVVideo(path) as video:
        video.read(val_uniform(video.num_frames, 8))
        return video.num_frames, largest_mb() - before, resource.getrusage(resource.RUSAGE_SELF).ru_utime - begin


def measure_loader(path: Path) -> list[tuple[float, float]]:
    """Peak (resident, private) megabytes of each loader process; resident memory includes what it shares with its
    parent process, mainly the libraries."""
    lines = path.with_suffix(".txt")
    lines.write_text(f"{path.name} 0\n" * 4 * WORKERS)
    data = {"modality": "video", "val_root": str(path.parent), "val_list": str(lines), "num_classes": 1}
    data |= {"num_segments": 8, "batch_size": 1, "workers": WORKERS}
    cfg = with_preprocessing(Config.model_validate({"data": data}))
    own: dict[int, float] = defaultdict(float)  # largest private megabytes, by process
    loader_module.num_cores = lambda: WORKERS  # as on a machine with that many cores; this process ends afterwards
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns if there are more processes than cores
        loader = build_eval_loader(cfg)
        for _ in loader:
            for worker in loader._workers:
                own[worker.pid] = max(own[worker.pid], memory_bytes("Private", "smaps_rollup", worker.pid) / 1e6)
    assert len(own) == WORKERS
    lines.unlink()
    return sorted((memory_bytes("VmHWM", "status", pid) / 1e6, own[pid]) for pid in own)


def in_new_process(function: Callable[[Path], Result], path: Path) -> Result:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, path).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000, 4000])
    args = parser.parse_args()
    print_header("Memory of reading 8 frames of a long film", "one thread")
    path = args.folder / "film.mkv"
    rows, loader_rows = [], []
    for megabytes in args.megabytes:
        write_film(path, megabytes)
        size = f"{path.stat().st_size / 1e6:.0f}"
        num_frames, added, seconds = in_new_process(measure, path)
        rows.append([size, num_frames, f"{added:.0f}", f"{seconds:.2f}"])
        peaks, private = zip(*in_new_process(measure_loader, path))
        loader_rows.append([size, " / ".join(f"{mb:.0f}" for mb in peaks), " / ".join(f"{mb:.0f}" for mb in private)])
        path.unlink()
    print()
    print_table(["MB of the film", "frames", "MB added to the process", "CPU seconds"], rows)
    print_table(["MB of the film", f"peak MB of {WORKERS} loader processes", "of which private"], loader_rows)


if __name__ == "__main__":
    main()
