"""The common part of all readers: frames are resized while they are read."""

import math

import numpy as np
import pytest
import torch

from datasets.frame_folder import FrameFolder
from datasets.pyav_source import PyAVVideo
from datasets.transforms import Resize
from tests.datasets.helpers import write_frames, write_video


@pytest.mark.parametrize("how", [Resize(16), Resize((20, 30), "squash"), Resize(24, "longest", "bilinear", "pillow")])
@pytest.mark.parametrize("kind", ["mp4", "avi", "frames"])
def test_frames_resized_while_reading_equal_frames_resized_afterwards(tmp_path, kind, how):
    if kind == "frames":
        write_frames(tmp_path / "v", 9, height=48, width=64)
        source = FrameFolder(tmp_path / "v", 9, "img_{:05d}.jpg")
    else:
        codec = {"codec": "mpeg4"} if kind == "avi" else {}
        write_video(tmp_path / f"v.{kind}", num_frames=9, size=(48, 64), options={"g": "4", "bf": "2"}, **codec)
        source = PyAVVideo(tmp_path / f"v.{kind}")
    indices = np.array([7, 0, 3, 3, 8])
    with source:
        frames = source.read(indices, how)
        assert torch.equal(frames, how(source.read(indices)))
        assert frames.is_contiguous(memory_format=torch.channels_last)


def test_memory_does_not_grow_by_full_frames(tmp_path, monkeypatch):
    """Only one frame at a time is in memory at its stored size."""
    write_frames(tmp_path / "v", 12, height=480, width=640)
    sizes, empty = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, **how: sizes.append(math.prod(size)) or empty(size, **how))
    with FrameFolder(tmp_path / "v", 12, "img_{:05d}.jpg") as source:
        source.read(np.arange(12), Resize(32))
    assert sum(sizes) <= 480 * 640 * 3 + 12 * 32 * 43 * 3
