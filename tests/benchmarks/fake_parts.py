"""Parts for test_gpu_check.py that fail in the ways in which programs on a GPU can fail."""

import ctypes
import os
import time
from pathlib import Path

from benchmarks.gpu_parts.part import Figures, Found, Setting, Skipped

Earlier = dict[str, Figures]


def works(setting: Setting, earlier: Earlier) -> Found:
    print("a line of the log")
    return Found(f"after {', '.join(earlier) or 'nothing'}", {"process": os.getpid()})


def fails(setting: Setting, earlier: Earlier) -> Found:
    raise ValueError("no such kernel\nand a second line")


def crashes(setting: Setting, earlier: Earlier) -> Found:
    print("last words", flush=True)
    os.abort()


def hangs(setting: Setting, earlier: Earlier) -> Found:
    time.sleep(600)
    raise AssertionError("not ended")


def cannot(setting: Setting, earlier: Earlier) -> Found:
    raise Skipped("this version has none")


def loads_ffmpeg(setting: Setting, earlier: Earlier) -> Found:
    """As torchcodec does, by the names of a system's FFmpeg."""
    ctypes.CDLL(next(Path(setting.scratch, "ffmpeg").glob("libavcodec.so.*")).name)
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libav" in line}
    return Found("loaded", {"files": sorted(loaded)})
