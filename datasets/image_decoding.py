"""Decodes JPEG and PNG bytes to uint8 RGB pixels.

Legend: H,W image.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torchvision.io
from PIL import Image

from datasets.frame_conversion import Orientation
from utils.errors import UserError, first_line

try:
    import simplejpeg  # the same pixels, also by libjpeg-turbo, decoded into the clip's memory: 1.4 times as fast
except ImportError:
    simplejpeg = None

# torchvision 0.29 deprecates its decoder in favour of torchcodec's, which needs FFmpeg libraries. It is used for files
# that simplejpeg does not support, and Pillow if it does not exist.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)
_HAS_TORCHVISION_DECODER = hasattr(torchvision.io, "decode_jpeg")

MAX_PIXELS = 2**26
"""Maximum number of pixels, twice an 8K frame; headers that declare more are corrupted or malicious."""

_UPRIGHT = Orientation()
_EXIF_ORIENTATIONS = {
    2: Orientation(flips_columns=True),
    3: Orientation(flips_rows=True, flips_columns=True),
    4: Orientation(flips_rows=True),
    5: Orientation(is_transposed=True),
    6: Orientation(is_transposed=True, flips_columns=True),
    7: Orientation(is_transposed=True, flips_rows=True, flips_columns=True),
    8: Orientation(is_transposed=True, flips_rows=True),
}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# SOFn of ITU-T T.81, B.1.1.3: 0xC0..0xCF without the tables and the reserved code among them.
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEGMENT = struct.Struct(">BBHBHHB")
"""0xFF, marker and length of any segment; then, in a frame header, bits per sample, H, W and number of components."""
_PLAIN_FRAME_HEADERS = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, with Huffman codes


class _Header(NamedTuple):
    """The header of an image as stored; height and width are 0 if there is none. Only JPEGs have the last fields."""

    height: int
    width: int
    orientation: Orientation = _UPRIGHT
    marker: int = 0
    precision: int = 0  # bits
    components: bytes = b""  # their identifiers
    is_rgb: bool = False  # three components that are not YCbCr


def decode_image(data: bytes, name: str, target: Callable[[int, int], torch.Tensor] | None = None) -> torch.Tensor:
    """Decode JPEG or PNG bytes to (H,W,3) uint8 RGB, applying the EXIF orientation.

    Greyscale, CMYK, palette, alpha and 16-bit images are converted.

    Args:
        target: returns contiguous memory (H,W,3) uint8 to decode into for H, W. None: allocate memory.

    Raises:
        UserError: the data are empty, truncated, cannot be decoded, or the image is too large.
    """
    if not data:
        raise UserError(f"{name}: the file is empty (zero bytes); extract the frame again")
    is_jpeg = data[:2] == b"\xff\xd8"
    if not is_jpeg and data[:8] != _PNG_SIGNATURE:
        raise UserError(f"{name}: neither a JPEG nor a PNG file")
    header = _jpeg_header(data) if is_jpeg else _png_header(data)
    height, width = header.height, header.width
    if height * width == 0:
        raise _corrupted(name, "no frame header")
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{name}: the header declares {width}x{height} pixels, more than the limit of {MAX_PIXELS}; the file is "
            "corrupted, or must be made smaller"
        )
    if header.orientation != _UPRIGHT:
        stored = _decode(data, torch.empty((height, width, 3), dtype=torch.uint8), name, is_jpeg)
        upright = torch.from_numpy(header.orientation.apply(stored.numpy()).copy())
        return target(*upright.shape[:2]).copy_(upright) if target else upright
    pixels = target(height, width) if target else torch.empty((height, width, 3), dtype=torch.uint8)
    return _decode(data, pixels, name, is_jpeg)


def _corrupted(name: str, reason: str) -> UserError:
    return UserError(f"{name}: could not be decoded ({reason}); the file is corrupted; extract the frame again")


def is_upright(data: bytes) -> bool:
    """Whether the EXIF orientation of these JPEG bytes is upright."""
    return _jpeg_header(data).orientation == _UPRIGHT


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(H, W) of JPEG bytes that all decoders support (upright, Huffman-coded, 8 bits, grey or YCbCr), otherwise
    None."""
    if data[:2] != b"\xff\xd8":
        return None
    header = _jpeg_header(data)
    is_plain = (
        header.marker in _PLAIN_FRAME_HEADERS
        and header.precision == 8
        and len(header.components) in (1, 3)
        and not header.is_rgb
        and header.orientation == _UPRIGHT
    )
    return (header.height, header.width) if is_plain and 0 < header.height * header.width <= MAX_PIXELS else None


def _decode(data: bytes, pixels: torch.Tensor, name: str, is_jpeg: bool) -> torch.Tensor:
    """Decode the image as stored into `pixels`, (H,W,3) uint8 of the declared size."""
    try:
        if is_jpeg and simplejpeg is not None and _decode_by_simplejpeg(data, pixels):
            return pixels
        # Not for PNG: torchvision's decoder aborts the process if the compressed pixels are corrupted (up to 0.29).
        if is_jpeg and _HAS_TORCHVISION_DECODER:
            return pixels.copy_(_decode_by_torchvision(data))
        return pixels.copy_(_decode_by_pillow(data, is_jpeg))
    except (RuntimeError, OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise _corrupted(name, first_line(error)) from None


def _png_header(data: bytes) -> _Header:
    """Parse the header chunk (ISO/IEC 15948, 11.2.2)."""
    return _Header(height=int.from_bytes(data[20:24], "big"), width=int.from_bytes(data[16:20], "big"))


def _jpeg_header(data: bytes) -> _Header:
    """Parse the frame header (ITU-T T.81, B.2.2; H and W are 0 if there is none), the EXIF orientation, and what
    libjpeg takes for RGB (by the Adobe segment, otherwise by the components' identifiers; JFIF is always YCbCr)."""
    position = 2  # after the start of image
    orientation = _UPRIGHT
    is_jfif, adobe_transform = False, None
    while position + 10 <= len(data):
        start, marker, size, precision, height, width, num_components = _JPEG_SEGMENT.unpack_from(data, position)
        if start != 0xFF:
            break
        if marker in _JPEG_FRAME_HEADERS:
            components = data[position + 10 : position + 10 + 3 * num_components : 3]
            names_rgb = adobe_transform == 0 if adobe_transform is not None else components == b"RGB"
            return _Header(
                height,
                width,
                orientation,
                marker,
                precision,
                components,
                is_rgb=len(components) == 3 and names_rgb and not is_jfif,
            )
        if marker == 0xFF:  # a fill byte
            position += 1
        else:
            content = data[position + 4 : position + 2 + size]
            if marker == 0xE0 and content[:5] == b"JFIF\0":
                is_jfif = True
            elif marker == 0xEE and content[:5] == b"Adobe" and len(content) >= 12:
                adobe_transform = content[11]
            elif marker == 0xE1 and content[:6] == b"Exif\0\0":
                orientation = _exif_orientation(content[6:])
            position += 2 + size
    return _Header(0, 0, orientation)


def _exif_orientation(tiff: bytes) -> Orientation:
    """Orientation from tag 274 of the first image file directory (TIFF 6.0, section 2 and page 36)."""
    order = "little" if tiff[:2] == b"II" else "big"
    begin = int.from_bytes(tiff[4:8], order)
    for number in range(int.from_bytes(tiff[begin : begin + 2], order)):
        entry = tiff[begin + 2 + 12 * number :][:12]
        if int.from_bytes(entry[:2], order) == 274:
            return _EXIF_ORIENTATIONS.get(int.from_bytes(entry[8:10], order), _UPRIGHT)
    return _UPRIGHT


def _decode_by_simplejpeg(data: bytes, pixels: torch.Tensor) -> bool:
    """Decode into `pixels`; returns False if not supported (CMYK, unusual sampling factors). Raises a ValueError if
    libjpeg-turbo found corrupted data, for which other decoders only print a warning."""
    assert simplejpeg is not None
    try:
        return simplejpeg.decode_jpeg(data, buffer=pixels.numpy()).shape == pixels.shape
    except ValueError as error:
        if "subsampling" in str(error) or "color" in str(error):
            return False
        raise


def _decode_by_torchvision(data: bytes) -> torch.Tensor:
    # A bytearray, because torch.frombuffer requires writable memory.
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = torchvision.io.decode_jpeg(encoded, mode=torchvision.io.ImageReadMode.RGB)
    assert isinstance(pixels, torch.Tensor)  # of one image, not of a list
    return pixels.permute(1, 2, 0)


def _decode_by_pillow(data: bytes, is_jpeg: bool) -> torch.Tensor:
    with Image.open(io.BytesIO(data), formats=["JPEG" if is_jpeg else "PNG"]) as image:
        if image.mode.startswith("I"):  # 16-bit greyscale, which Pillow would clip to 255
            grey = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)
            return torch.from_numpy(np.stack([grey] * 3, axis=-1))
        return torch.from_numpy(np.array(image.convert("RGB")))
