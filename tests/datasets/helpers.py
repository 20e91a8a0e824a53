"""Small inputs for the tests of datasets/: pictures, frame folders, encoded videos, configs."""

import io
import os
import platform
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import write_jpeg, write_png

from datasets.frame_conversion import FrameConverter
from datasets.frame_folder import read_image_file
from datasets.frame_source import FrameSource
from datasets.image_decoding import decode_image
from modules.pixels import with_preprocessing
from utils.errors import UserError
from utils.schema import Config

VIDEOS_DIR = Path(os.environ.get("VIDEOS_DIR", Path(__file__).parents[3] / "shared" / "videos"))
REAL_VIDEOS = {
    "arm_wrestling.mp4": 280,
    "cleaning_pool.mp4": 300,
    "shooting_basketball.mp4": 300,
    "flipping_a_pancake.mkv": 310,
    "mpeg4_part2.avi": 164,
    "two_streams_audio.mp4": 390,
    "h265_video.mp4": 10,
    "av1_video.mkv": 125,
    "h264_10bits.mp4": 30,
}

needs_real_videos = pytest.mark.skipif(not VIDEOS_DIR.is_dir(), reason=f"no real clips at {VIDEOS_DIR}; set VIDEOS_DIR")


def picture(seed: int, height: int = 48, width: int = 64) -> torch.Tensor:
    """(3, height, width) uint8, different for each seed, and smooth, so that JPEG changes it little."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 6, 8), dtype=np.uint8)).float()
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return fine[0].round().to(torch.uint8)


def decode_image_file(path: Path) -> torch.Tensor:
    """(H,W,3) uint8 RGB."""
    return decode_image(read_image_file(path), str(path))


def write_frames(folder: Path, num_frames: int, *, png: bool = False, first: int = 1, **size) -> None:
    """Frames img_00001.jpg (or .png) ... of pictures seeded by their 0-based index."""
    folder.mkdir(parents=True)
    for index in range(num_frames):
        name = f"img_{index + first:05d}"
        if png:
            write_png(picture(index, **size), str(folder / f"{name}.png"))
        else:
            write_jpeg(picture(index, **size), str(folder / f"{name}.jpg"), quality=90)


def write_video(
    path: Path,
    num_frames: int = 30,
    *,
    codec: str = "libx264",
    options: dict | None = None,
    pix_fmt: str = "yuv420p",
    times: list[int] | None = None,
    container_options: dict | None = None,
    size: tuple[int, int] = (48, 64),
    pans: bool = False,
    rate: int = 25,
) -> None:
    """A video of pictures seeded by their index, `rate` frames per second, or at the given times (in 1/rate s).

    pans: instead one picture seen through a window that moves a pixel a frame, which gives an encoder B-frames to use.
    """
    scene = picture(0, 2 * size[0], 2 * size[1])
    container_format = None if path.suffix else "mp4"
    with av.open(str(path), "w", container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        for index in range(num_frames):
            moved = scene[:, index % size[0] :, index % size[1] :][:, : size[0], : size[1]]
            image = (moved if pans else picture(index, *size)).permute(1, 2, 0).contiguous().numpy()
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index if times is None else times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_growing_frames(path: Path, last_side: int = 128) -> None:
    """Motion JPEG: four grey frames of 64x64 pixels, then four squares of another side."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for index, side in enumerate(4 * [64] + 4 * [last_side]):
            data = io.BytesIO()
            Image.new("RGB", (side, side), (90, 90, 90)).save(data, "JPEG", quality=5, subsampling=2)
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            container.mux(packet)


def write_skipped_frames(path: Path, num_frames: int, size: tuple[int, int] = (48, 64)) -> None:
    """29 seconds of H.264: a picture, then frames of a few bytes without changes, which have to be decoded."""
    seed = path.with_name("seed.mp4")
    options = {"preset": "ultrafast", "bf": "0", "g": "1000", "x264-params": "scenecut=0:threads=1:slices=1"}
    still = np.full((*size, 3), 128, dtype=np.uint8)
    with av.open(str(seed), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for index in range(34):
            frame = av.VideoFrame.from_ndarray(still, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(seed)) as source, av.open(str(path), "w") as target:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        stream = target.add_stream_from_template(source.streams.video[0])
        for index in range(num_frames):
            # Frame numbers of H.264 go round after 16.
            packet = av.Packet(packets[0] if index == 0 else packets[1 + (index - 1) % 16])
            packet.stream, packet.time_base = stream, Fraction(1, 10**6)
            packet.pts = packet.dts = index * (29 * 10**6 // num_frames)
            packet.is_keyframe = index == 0
            target.mux(packet)
    seed.unlink()


def remux(
    source: Path,
    target: Path,
    change: Callable[[av.Packet], None] = lambda packet: None,
    *,
    first_packet: int = 0,
    all_streams: bool = False,
    container_options: dict[str, str] | None = None,
) -> None:
    """Copy the packets of the best video stream, or of all streams, from the `first_packet`-th on, each after
    `change`."""
    with av.open(str(source)) as videos, av.open(str(target), "w", options=container_options or {}) as copy:
        streams = [s for s in videos.streams if all_streams or s.index == videos.streams.best("video").index]
        copies = {stream.index: copy.add_stream_from_template(stream) for stream in streams}
        copy.start_encoding()
        for position, packet in enumerate(videos.demux(streams)):
            if packet.size and position >= first_packet:
                change(packet)
                packet.stream = copies[packet.stream_index]
                copy.mux(packet)


def full_decode(path: Path) -> np.ndarray:
    """(N,H,W,3) uint8: every frame of the best video stream, decoded in sequence by PyAV alone. Their colours are
    compared with the ffmpeg program's in test_one_answer.py."""
    converter = FrameConverter()

    def pixels(frame: av.VideoFrame) -> np.ndarray:
        return converter.to_rgb(frame, (frame.width, frame.height))

    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        return np.stack([pixels(frame) for frame in container.decode(stream)])


def frame_config(tmp_path: Path, *, num_videos: int = 7, num_frames: int = 10, **data) -> Config:
    """A config over `num_videos` frame folders in `tmp_path`, used for training and validation, labels 0..2."""
    lines = []
    for video in range(num_videos):
        folder = tmp_path / "frames" / f"v{video}"
        if not folder.exists():
            write_frames(folder, num_frames, height=36, width=44)
        lines.append(f"v{video} {num_frames} {video % 3}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    root, path = str(tmp_path / "frames"), str(tmp_path / "list.txt")
    settings = {
        "num_segments": 4,
        "batch_size": 2,
        "workers": 0,
        "num_classes": 3,
        "input_size": 32,
        "train_root": root,
        "train_list": path,
        "val_root": root,
        "val_list": path,
        **data,
    }
    return with_preprocessing(Config.model_validate({"seed": 5, "data": settings}))


def needs(decoder: str) -> None:
    """Skip the test where the optional decoder, or a library under it, is absent."""
    if decoder == "torchcodec" and torch.__version__ < (2, 11):
        pytest.skip("torchcodec needs PyTorch 2.11")
    if decoder == "decord" and platform.machine() != "x86_64":
        pytest.skip("decord has no wheel for this processor")
    try:
        FrameSource.named(decoder).check_installed()
    except UserError as error:
        pytest.skip(str(error))
