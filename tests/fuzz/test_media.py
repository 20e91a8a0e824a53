"""Damaged pictures and videos: the reader gives frames or a `UserError`, in bounded time and memory.

Each batch of cases runs in a process of its own with an address limit, so that a crash of the interpreter, a hang and a
bomb of memory are failures of the test and not of the test run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.commands.world import REPO
from tests.datasets.helpers import REAL_VIDEOS, VIDEOS_DIR, needs_real_videos, picture, write_video
from tests.fuzz.settings import NUM_CASES

PROGRAM = """
import json, resource, sys, time, warnings
from pathlib import Path
import numpy as np
import torch
from datasets.image_decoding import decode_image
from datasets.pyav_source import PyAVVideo
from utils.errors import UserError

kind, path, num_cases, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
warnings.simplefilter("ignore")
data, rng = path.read_bytes(), np.random.default_rng(seed)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
target = path.with_name("damaged" + path.suffix)
counts = {"read": 0, "refused": 0, "slowest_seconds": 0.0}
for _ in range(num_cases):
    damaged = np.frombuffer(data, dtype=np.uint8).copy()
    how = rng.integers(4)
    if how == 0:
        damaged = damaged[: rng.integers(len(damaged))]
    elif how == 1:  # bits, anywhere
        places = rng.integers(len(damaged), size=rng.integers(1, 30))
        damaged[places] ^= (1 << rng.integers(8, size=len(places))).astype(np.uint8)
    elif how == 2:  # bits, in the header
        places = rng.integers(min(len(damaged), 1024), size=rng.integers(1, 5))
        damaged[places] = rng.integers(256, size=len(places))
    else:  # a part overwritten by noise
        start = rng.integers(len(damaged))
        stop = min(len(damaged), start + rng.integers(1, 4096))
        damaged[start:stop] = rng.integers(256, size=stop - start)
    target.write_bytes(damaged.tobytes())
    print(int(how), file=sys.stderr)
    started = time.perf_counter()
    try:
        if kind == "video":
            with PyAVVideo(target) as source:
                wanted = np.unique(np.linspace(0, source.num_frames - 1, 4).astype(int))
                frames = source.read(wanted)
                assert frames.shape[:2] == (len(wanted), 3)
        else:
            frames = decode_image(damaged.tobytes(), "damaged")
            assert frames.shape[2] == 3
        assert frames.dtype == torch.uint8
        counts["read"] += 1
    except UserError as error:
        assert "\\n" not in str(error) and "damaged" in str(error)
        counts["refused"] += 1
    counts["slowest_seconds"] = max(counts["slowest_seconds"], time.perf_counter() - started)
counts["grown_mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps(counts))
"""


def damage(kind: str, path: Path, num_cases: int, seed: int = 0) -> dict:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(path), str(num_cases), str(seed)],
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60 + num_cases,
    )
    assert result.returncode == 0, f"case {result.stderr.count(chr(10))}: {result.stderr[-2000:]}"
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Paths of a JPEG, a progressive JPEG and a PNG."""
    root = tmp_path_factory.mktemp("pictures")
    image = Image.fromarray(picture(3, 96, 128).permute(1, 2, 0).numpy())
    image.save(root / "plain.jpg", quality=90)
    image.save(root / "progressive.jpg", progressive=True)
    image.save(root / "a.png")
    return root


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["plain.jpg", "progressive.jpg", "a.png"])
def test_damaged_pictures(pictures, name):
    counts = damage("picture", pictures / name, 4 * NUM_CASES)
    assert counts["refused"] > 0 and counts["slowest_seconds"] < 5 and counts["grown_mib"] < 700, counts


CODECS = {"h264.mp4": "libx264", "mpeg4.avi": "mpeg4", "vp9.mkv": "libvpx-vp9", "h264.mkv": "libx264"}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CODECS)
def test_damaged_videos(tmp_path, name):
    write_video(tmp_path / name, 20, codec=CODECS[name], size=(48, 64))
    counts = damage("video", tmp_path / name, NUM_CASES)
    assert counts["refused"] > 0 and counts["slowest_seconds"] < 10 and counts["grown_mib"] < 700, counts


@pytest.mark.timeout(3600)
@pytest.mark.skipif("FUZZ_CASES" not in os.environ, reason="only in a long run: set FUZZ_CASES")
@needs_real_videos
@pytest.mark.parametrize("name", [*REAL_VIDEOS, "corrupted.mp4"])
def test_damaged_real_videos(tmp_path, name):
    (tmp_path / name).write_bytes((VIDEOS_DIR / name).read_bytes())
    counts = damage("video", tmp_path / name, max(1, NUM_CASES // 20))
    assert counts["slowest_seconds"] < 60 and counts["grown_mib"] < 2000, counts
