"""Training frames decoded on the device (`data.decode_on: device`): JPEG files by nvJPEG on a GPU, and videos by
`datasets.device_videos`.

Pixels of nvJPEG differ from those of libjpeg-turbo on the CPU, because the inverse transform is rounded differently and
chroma is upsampled differently. On an H100, noise with fine colours differed by 2.6 of 255 levels on average and by
45 at most.

Legend: T frames, C=3 channels, H,W image.
"""

import importlib
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


def kinds_decoded_on(device: torch.device, has_videos: bool) -> tuple[type[Encoded], ...]:
    """What can be decoded on `device`. Raises a UserError if JPEGs cannot, and logs why videos cannot."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "jpeg")
    jpeg = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    try:
        _decode_files([jpeg], device)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"data.decode_on: JPEG files cannot be decoded on {device} ({first_line(error)}); set it to cpu"
        ) from None
    if not has_videos:
        return (Jpegs,)
    if fault := fault_of(device):
        log.info(
            "data.decode_on: video files are decoded by the loader processes, because torchcodec cannot decode on %s "
            "(%s); packed clips are not affected",
            device,
            fault,
        )
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
    from_jpegs = iter(_decode_jpegs(jpegs, device) if jpegs else ())
    from_videos = iter(decode_videos(videos, device) if videos else ())
    return [next(from_jpegs if isinstance(clip, Jpegs) else from_videos) for _, clip in clips]


def _decode_jpegs(clips: Sequence[tuple[torch.Tensor, Jpegs]], device: torch.device) -> list[torch.Tensor]:
    """All files of all clips in one call."""
    files = [file for data, clip in clips for file in data.split(clip.lengths)]
    if device.type == "cuda":
        # The decoder writes on its own stream, without waiting for streams that still read the memory of earlier
        # images.
        torch.cuda.current_stream(device).synchronize()
    try:
        images = _decode_files(files, device)
    except RuntimeError as error:
        names = [name for _, clip in clips for name in clip.names]
        for file, name in zip(files, names):
            decode_image(file.numpy().tobytes(), name)  # raises an error that names the corrupted file
        raise UserError(
            f"data.decode_on: {names[0]} and others could not be decoded on {device} ({first_line(error)}); set it to "
            "cpu"
        ) from None
    decoded = []
    first = 0  # image of the clip
    for _, clip in clips:
        decoded.append(torch.stack([images[first + place] for place in clip.order]))
        first += len(clip.lengths)
    return decoded


def _decode_files(files: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """uint8 (C,H,W) on `device` for each JPEG file."""
    if hasattr(torchvision.io, "decode_jpeg"):  # deprecated since torchvision 0.29; torchcodec has it since 0.16
        return list(torchvision.io.decode_jpeg(files, torchvision.io.ImageReadMode.RGB, device))
    return importlib.import_module("torchcodec.decoders").decode_jpeg(files, mode="RGB", device=device)
