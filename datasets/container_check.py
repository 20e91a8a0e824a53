"""Is a video file cut off? Its container says how many bytes it should have.

FFmpeg reads a truncated file to where it ends and may report nothing, so half a video would pass for a whole one.
"""

from pathlib import Path

_EBML_HEADER, _MATROSKA_SEGMENT = 0x1A45DFA3, 0x18538067
# Some AVI writers leave the size a few bytes off.
_RIFF_SLACK_BYTES = 64


def missing_bytes(path: Path) -> int:
    """Bytes that the container promises beyond the file's end; 0 where it promises none or is of another kind."""
    file_size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        riff_size = int.from_bytes(head[4:8], "little")
        return max(0, riff_size + 8 - file_size - _RIFF_SLACK_BYTES)
    if head[:4] == _EBML_HEADER.to_bytes(4, "big"):
        return max(0, _matroska_end(head) - file_size)
    if head[4:8] == b"ftyp":
        return max(0, _mp4_end(path, file_size) - file_size)
    return 0


def _mp4_end(path: Path, file_size: int) -> int:
    """Offset at which the last box of media or index ends (ISO/IEC 14496-12); boxes of other kinds do not matter."""
    end = position = 0
    with path.open("rb") as file:
        while position < file_size:
            file.seek(position)
            header = file.read(16)
            box_size, header_size = int.from_bytes(header[:4], "big"), 8
            if box_size == 1:
                box_size, header_size = int.from_bytes(header[8:16], "big"), 16
            if box_size < header_size:  # 0: to the end of the file; anything else: not a box
                break
            position += box_size
            if header[4:8] in (b"moov", b"moof", b"mdat"):
                end = position
    return end


def _matroska_end(head: bytes) -> int:
    """Offset at which the segment ends (RFC 8794, RFC 9559); 0 where the header leaves it open (live streams)."""
    position = 4
    header_size, position = _ebml_size(head, position)
    if header_size is None:
        return 0
    position += header_size
    if head[position : position + 4] != _MATROSKA_SEGMENT.to_bytes(4, "big"):
        return 0
    segment_size, position = _ebml_size(head, position + 4)
    return 0 if segment_size is None else position + segment_size


def _ebml_size(head: bytes, position: int) -> tuple[int | None, int]:
    """(value, next position) of the variable-length size at `position`; None for "unknown" or a bad one."""
    if position >= len(head) or head[position] == 0:
        return None, position
    length = 9 - head[position].bit_length()
    value = int.from_bytes(head[position : position + length], "big") & ((1 << (7 * length)) - 1)
    unknown = value == (1 << (7 * length)) - 1
    return (None if unknown else value), position + length
