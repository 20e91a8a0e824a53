"""How much memory does reading 8 frames of a long film take? Motion JPEG of 1280x720 in Matroska; a process a film.

python benchmarks/long_films.py FOLDER [--megabytes 100 1000 4000]      FOLDER has space for the largest film
"""

import argparse
import multiprocessing
import resource
import sys
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np

from benchmarks.timing import print_header, print_table
from datasets.pyav_source import PyAVVideo
from datasets.sampling import val_uniform

SIZE = (1280, 720)


def write_film(path: Path, megabytes: int) -> None:
    """One picture of noise, over and over, 25 a second."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"q": "2"})
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuvj420p"
        stream.time_base = Fraction(1, 25)
        encoded = [*stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")), *stream.encode(None)]
        data = bytes(encoded[0])
        for index in range(megabytes * 10**6 // len(data)):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            container.mux(packet)


def measure(path: Path) -> tuple[int, float, float]:
    """Number of frames; megabytes that the process takes at its largest beyond what it had before; CPU seconds."""

    def largest_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

    before, begin = largest_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with PyAVVideo(path) as video:
        video.read(val_uniform(video.num_frames, 8))
        return video.num_frames, largest_mb() - before, resource.getrusage(resource.RUSAGE_SELF).ru_utime - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000, 4000])
    args = parser.parse_args()
    print_header("Memory of reading 8 frames of a long film", "one thread")
    rows, path = [], args.folder / "film.mkv"
    for megabytes in args.megabytes:
        write_film(path, megabytes)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            num_frames, taken, seconds = pool.apply(measure, (path,))
        rows.append([f"{path.stat().st_size / 1e6:.0f}", num_frames, f"{taken:.0f}", f"{seconds:.2f}"])
        path.unlink()
    print()
    print_table(["MB of the film", "frames", "MB more in the process", "CPU seconds"], rows)


if __name__ == "__main__":
    main()
