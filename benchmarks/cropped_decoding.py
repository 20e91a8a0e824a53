"""Time that would be saved by decoding only the crop of JPEG frames: less than a quarter (RESULTS.md).

    python benchmarks/cropped_decoding.py VIDEOS [--rounds 15]

VIDEOS: folder of videos; frames are extracted from those of 340x256 pixels. Requires a C compiler and libjpeg-turbo's
header (`apt-get install gcc libjpeg-dev`), since no package on PyPI provides partial decoding.
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from benchmarks.timing import (
    in_ms,
    interleaved,
    one_thread,
    print_header,
    print_table,
    ratio,
    read_arguments,
    run_tool,
)
from datasets.image_decoding import decode_image
from datasets.transforms import random_resized_box

HEIGHT, WIDTH = 256, 340


def build(folder: Path) -> ctypes.CDLL:
    source, library = Path(__file__).with_suffix(".c"), folder / "cropped_decoding.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", library, "-ljpeg"], check=True)
    return ctypes.CDLL(str(library))


def main() -> None:
    args = read_arguments(__doc__, 15)
    one_thread()
    print_header(f"Decoding a crop of a frame ({WIDTH}x{HEIGHT} JPEG, quality 90)")
    with tempfile.TemporaryDirectory() as folder:
        run_tool("extract_frames", args.videos, folder, "--workers", 1)
        library = build(Path(folder))
        paths = [path for path in sorted(Path(folder).glob("*/img_*1.jpg")) if Image.open(path).size == (WIDTH, HEIGHT)]
        files = [path.read_bytes() for path in paths]

    def crop(data: bytes, box: tuple[int, int, int, int]) -> np.ndarray:
        pixels = np.empty((*box[2:], 3), dtype=np.uint8)
        assert library.decode_crop(data, ctypes.c_ulong(len(data)), *box, ctypes.c_void_p(pixels.ctypes.data)) == 0
        return pixels

    rng = np.random.default_rng(0)
    drawn = [random_resized_box(HEIGHT, WIDTH, (0.08, 1.0), rng) for _ in range(500)]
    questions = {
        "the whole frame, by our reader": None,
        "the whole frame, by this program": [(0, 0, HEIGHT, WIDTH)],
        "the centre crop (validation)": [(16, 58, 224, 224)],
        "random-resized crops (training)": [box for box in drawn if box],
        "the last line (all of the entropy decoding, no pixels)": [(HEIGHT - 1, 0, 1, WIDTH)],
    }
    functions = {}
    for name, boxes in questions.items():
        if boxes is None:
            functions[name] = lambda n: decode_image(files[n % len(files)], "")
            continue
        functions[name] = lambda n, boxes=boxes: crop(files[n % len(files)], boxes[n % len(boxes)])
        for number, (top, left, height, width) in enumerate(boxes):
            data = files[number % len(files)]
            whole = decode_image(data, "").numpy()
            box = (top, left, height, width)
            assert np.array_equal(crop(data, box), whole[top : top + height, left : left + width]), (name, box)
    print(f"{len(files)} frames; the pixels of every crop equal those of a full decode.\n")
    seconds = interleaved(functions, args.rounds, 200)
    full = seconds["the whole frame, by our reader"]
    rows = [[name, in_ms(times), f"{100 / ratio(full, times):.0f} %"] for name, times in seconds.items()]
    print_table(["decoded", "ms", "relative time"], rows)


if __name__ == "__main__":
    main()
