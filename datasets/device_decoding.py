"""Training frames decoded on the device (`data.decode_on: device`): JPEG files by nvJPEG on a GPU, and videos by
`datasets.device_videos`.

Pixels of nvJPEG differ from those of libjpeg-turbo on the CPU, because the inverse transform is rounded differently and
chroma is upsampled differently. On an H100, noise with fine colours differed by 2.6 of 255 levels on average and by
45 at most.

Legend: T frames, C=3 channels, H,W image.
"""

import io
import logging
from collections.abc import Sequence

import torch
import torchvision.io
from PIL import Image

from datasets.device_videos import decode_videos, fault_of
from datasets.frame_source import Encoded, Jpegs, VideoFrames
from datasets.image_decoding import decode_image
from utils.errors import UserError, first_line

log = logging.getLogger(__name__)
_RGB = torchvision.io.ImageReadMode.RGB


def kinds_decoded_on(device: torch.device, has_videos: bool) -> tuple[type[Encoded], ...]:
    """What can be decoded on `device`. Raises a UserError if JPEGs cannot, and logs why videos cannot."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "jpeg")
    try:
        torchvision.io.decode_jpeg([_bytes(buffer.getvalue())], _RGB, device)
    except (RuntimeError, AttributeError) as error:
        fault = f"JPEG files cannot be decoded on {device} ({first_line(error)})"
        raise UserError(f"data.decode_on: {fault}; set it to cpu") from None
    if not has_videos:
        return (Jpegs,)
    if fault := fault_of(device):
        what = "video files are decoded by the loader processes, because torchcodec cannot decode on"
        log.info("data.decode_on: %s %s (%s); packed clips are not affected", what, device, fault)
        return (Jpegs,)
    return Jpegs, VideoFrames


def decode(clips: Sequence[tuple[torch.Tensor, Encoded]], device: torch.device) -> list[torch.Tensor]:
    """uint8 (N,C,H,W) on `device` for each clip.

    Args:
        clips: the bytes of each clip, uint8 (bytes,) on the CPU, with their description.

    Raises:
        UserError: a file is corrupted.
    """
    jpegs = [(data, clip) for data, clip in clips if isinstance(clip, Jpegs)]
    videos = [clip for _, clip in clips if isinstance(clip, VideoFrames)]
    of_jpegs = iter(_decode_jpegs(jpegs, device) if jpegs else ())
    of_videos = iter(decode_videos(videos, device) if videos else ())
    return [next(of_jpegs if isinstance(clip, Jpegs) else of_videos) for _, clip in clips]


def _decode_jpegs(clips: Sequence[tuple[torch.Tensor, Jpegs]], device: torch.device) -> list[torch.Tensor]:
    """All files of all clips in one call."""
    parts = [part for data, clip in clips for part in data.split(clip.lengths)]
    if device.type == "cuda":
        # The decoder writes on its own stream, without waiting for streams that still read the memory of earlier
        # images.
        torch.cuda.current_stream(device).synchronize()
    try:
        images = list(torchvision.io.decode_jpeg(parts, _RGB, device))
    except RuntimeError as error:
        names = [name for _, clip in clips for name in clip.names]
        for part, name in zip(parts, names):
            decode_image(part.numpy().tobytes(), name)  # raises an error that names the corrupted file
        fault = f"{names[0]} and others could not be decoded on {device} ({first_line(error)})"
        raise UserError(f"data.decode_on: {fault}; set it to cpu") from None
    decoded = []
    for _, clip in clips:
        of_clip, images = images[: len(clip.lengths)], images[len(clip.lengths) :]
        decoded.append(torch.stack([of_clip[place] for place in clip.order]))
    return decoded


def _bytes(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
