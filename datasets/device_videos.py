"""Frames of training videos decoded on the device (`data.decode_on: device`), by NVDEC through torchcodec.

A loader process looks up the timestamps of a clip's frames with `datasets.video_decoder` and passes them on with those
of the keyframes, so that torchcodec neither scans the file nor counts its frames differently. Clips for which
torchcodec does not return the expected frames are decoded by `datasets.video_decoder`. Corruption that NVDEC conceals
is not detected. Both convert colours by the matrix and range in the stream; NVDEC ignores those that only the container
has.

Legend: N frames of a clip, C=3 channels, H,W image.
"""

import functools
import importlib
import json
import logging
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import torch

from datasets.frame_source import VideoFrames
from datasets.pyav_source import PyAVVideo
from utils.errors import first_line

NUM_THREADS = 4  # number of files decoded at the same time: a GPU has several decoders
log = logging.getLogger(__name__)
decoded_on_cpu: set[str] = set()  # codecs, each of which is logged once


@functools.cache
def fault_of(device: torch.device) -> str:
    """Why torchcodec cannot decode a small video on `device`; empty if it can."""
    try:
        installed = version("torchcodec")
        # Earlier versions confuse videos cropped from the same coded size (meta-pytorch/torchcodec, issue 1704).
        if tuple(map(int, installed.split(".")[:2])) < (0, 17):
            return f"version {installed} may return corrupted frames; install 0.17 or later"
        with tempfile.TemporaryDirectory() as folder:
            with PyAVVideo(_write_sample(Path(folder, "sample.mp4"))) as source:
                sample = source.encoded(np.array([2, 0]), (VideoFrames,))
            assert sample is not None and isinstance(sample[1], VideoFrames)
            return _by_torchcodec(sample[1], device)[1]
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return first_line(error)


def decode_videos(clips: Sequence[VideoFrames], device: torch.device) -> list[torch.Tensor]:
    """uint8 (N,C,H,W) on `device` for each clip. Raises a UserError if a file is corrupted."""
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
    decoded = list(_threads(stream).map(lambda clip: _decode(clip, device), clips))
    if stream is not None:
        stream.synchronize()  # before the decoders' own memory, which frames are converted from, is used again
    return decoded


@functools.cache
def _threads(stream: torch.cuda.Stream | None) -> ThreadPoolExecutor:
    """Threads that decode all batches, on the GPU and stream if given; Python ends them when the process exits."""

    def start_thread() -> None:
        if stream is not None:
            torch.cuda.set_device(stream.device)  # a new thread has GPU 0 and its default stream
            torch.cuda.set_stream(stream)

    return ThreadPoolExecutor(NUM_THREADS, "videos", start_thread)


def _decode(clip: VideoFrames, device: torch.device) -> torch.Tensor:
    try:
        frames, fallback = _by_torchcodec(clip, device)
        if fallback:
            _warn(clip, fallback)
        return frames
    except (RuntimeError, ValueError, IndexError) as error:
        _warn(clip, first_line(error))
    with PyAVVideo(clip.path, clip.listed_at) as source:
        return source.read(np.array(clip.indices)).to(device)


def _by_torchcodec(clip: VideoFrames, device: torch.device) -> tuple[torch.Tensor, str]:
    """(N,C,H,W) on `device`, and why torchcodec decoded them on the CPU instead of the GPU; empty if it did not.

    Raises a ValueError if torchcodec returns other frames, and torchcodec's exceptions.
    """
    decoders = importlib.import_module("torchcodec.decoders")
    ends = [pts for pts, _ in clip.stamps[1:]] + [clip.stamps[-1][0] + 1]
    index = [
        {"pts": pts, "duration": end - pts, "key_frame": int(is_key)} for (pts, is_key), end in zip(clip.stamps, ends)
    ]
    decoder = decoders.VideoDecoder(
        clip.path, stream_index=clip.stream, device=device, custom_frame_mappings=json.dumps({"frames": index})
    )
    wanted, order = np.unique(clip.order, return_inverse=True)
    decoded = decoder.get_frames_at(wanted.tolist())
    frames, times_s = decoded.data, decoded.pts_seconds
    if tuple(frames.shape[-2:]) != clip.size:
        raise ValueError(f"frames of {tuple(frames.shape[-2:])} instead of {clip.size}")
    expected_s = np.array([clip.stamps[place][0] for place in wanted]) * clip.tick
    if not np.allclose(times_s, expected_s, rtol=0, atol=clip.tick / 2):
        raise ValueError(f"frames at {times_s.tolist()} s instead of {expected_s.tolist()} s")
    fallback = str(decoder.cpu_fallback) if device.type == "cuda" and decoder.cpu_fallback else ""
    if not np.array_equal(wanted, clip.order):
        frames = torch.stack([frames[place] for place in order])
    return frames, fallback


def _warn(clip: VideoFrames, reason: str) -> None:
    if clip.codec not in decoded_on_cpu:
        decoded_on_cpu.add(clip.codec)
        log.warning(
            "WARNING: data.decode_on: %s videos, such as %s, are decoded on the CPU by this process (%s); if there are "
            "many, set it to cpu",
            clip.codec,
            clip.path,
            reason,
        )


def _write_sample(path: Path) -> Path:
    """Three grey frames of 256x256 pixels in H.264, which every GPU with a decoder supports."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((256, 256, 3), 128, np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    return path
