"""Converts decoded frames of a video to upright RGB images of the same size.

Legend: H,W image.
"""

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter


class Orientation(NamedTuple):
    """Transformation of stored to upright frames: first rows and columns are swapped, then axes mirrored."""

    is_transposed: bool = False
    flips_rows: bool = False
    flips_columns: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """From the display matrix (ISO/IEC 14496-12, 6.2.2), rounded to quarter turns: x' = ax + cy, y' = bx + dy."""
        # Not `frame.side_data`, which refers to the frame and is kept by it: such a cycle would keep the memory of all
        # frames until the next garbage collection.
        side_data = SideDataContainer(frame)  # pyright: ignore  (its stub has no arguments)
        # The length is checked first, because a missing entry would raise an exception for each frame.
        if len(side_data) == 0 or SideDataType.DISPLAYMATRIX not in side_data:
            return cls()
        matrix = side_data[SideDataType.DISPLAYMATRIX]
        a, b, _, c, d = np.frombuffer(matrix, np.int32, 5).tolist()  # pyright: ignore  (its stub has no buffer)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(is_transposed=True, flips_rows=b < 0, flips_columns=c < 0)
        return cls(flips_rows=d < 0, flips_columns=a < 0)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """(H,W,3) stored -> (H,W,3) upright, a view."""
        if self.is_transposed:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.flips_rows else 1, :: -1 if self.flips_columns else 1]


@cache
def _has_8_bits(pixel_format: str) -> bool:
    return all(component.bits <= 8 for component in av.VideoFormat(pixel_format).components)


class FrameConverter:
    """Converts the frames of one video, with one reformatter or one filter graph, because creating them costs more than
    many conversions."""

    def __init__(self):
        self._reformatter = VideoReformatter()
        self._graph: Graph | None = None
        self._graph_key = ()
        self.size: tuple[int, int] | None = None  # (width, height) of the upright first frame; None before `begin`

    def begin(self, frame: av.VideoFrame) -> None:
        """Set the size from the first frame of the video; later calls have no effect."""
        if self.size is None:
            is_transposed = Orientation.of(frame).is_transposed
            self.size = (frame.height, frame.width) if is_transposed else (frame.width, frame.height)

    def to_rgb(self, frame: av.VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H,W,3) uint8 RGB of a frame, upright, scaled to `size` (width, height); None: that of the first frame.

        A view of the converted frame, whose rows may be padded. Scaling is bicubic, in one step with the colour
        conversion, as by the ffmpeg command.
        """
        size = size or self.size
        assert size is not None, "the first frame was not decoded yet"
        width, height = size
        orientation = Orientation.of(frame)
        if orientation.is_transposed:
            width, height = height, width
        has_same_size = (width, height) == (frame.width, frame.height)
        if has_same_size and not frame.interlaced_frame and _has_8_bits(frame.format.name):
            rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        else:
            rgb = self._filter(frame, width, height)
        plane = rgb.planes[0]  # not `to_ndarray`, which copies it
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)  # pyright: ignore  (its stub has no buffer)
        return orientation.apply(rows[:, : 3 * width].reshape(height, width, 3))

    def _filter(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        """RGB by FFmpeg's scale filter, as by the ffmpeg command. The reformatter, which is faster, assumes another
        position of the chroma samples, unless it converts progressive frames of 8 bits without scaling."""
        key = (frame.format.name, frame.width, frame.height, width, height)
        if self._graph is None or key != self._graph_key:
            self._graph, self._graph_key = Graph(), key
            self._graph.threads = 1  # creating threads takes longer than a conversion
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            scale = self._graph.add("scale", f"{width}:{height}:flags=bicubic:threads=1")
            self._graph.link_nodes(
                source, scale, self._graph.add("format", "rgb24"), self._graph.add("buffersink")
            ).configure()
        self._graph.push(frame)
        rgb = self._graph.pull()
        assert isinstance(rgb, av.VideoFrame)
        return rgb
