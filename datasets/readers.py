"""One interface to frame folders and videos: `open_source`."""

from pathlib import Path
from typing import Any

from datasets.clip_shards import ClipShards
from datasets.entries import ListEntry
from datasets.frame_folder import FrameFolder
from datasets.frame_source import FrameSource
from datasets.packed_clip import PackedClip, is_packed_clip
from datasets.segment import Segment
from utils.schema import DataConfig


def open_source(
    data: DataConfig, root: str | Path | ClipShards, entry: ListEntry, list_path: str | Path = ""
) -> FrameSource:
    """The opened video or frame folder of a list entry below `root`, or its segment if the entry has times. Raises a
    UserError, with the line of `list_path`, if it cannot be opened, or the decoder is not installed."""
    listed_at = f"{list_path}:{entry.line}" if str(list_path) else ""
    if isinstance(root, ClipShards):
        source = root.open(entry.path, listed_at)
    elif data.modality == "RGB":
        assert entry.num_frames is not None  # always given in frame lists
        source = FrameFolder(Path(root, entry.path), entry.num_frames, data.image_tmpl, data.index_bias, listed_at)
    else:
        source = open_video(Path(root, entry.path), data.decoder, listed_at)
    if entry.times is None:
        return source
    start, end = entry.times
    try:
        return Segment(source, start, end, data.frame_rate)
    except BaseException:
        source.close()
        raise


def open_video(path: Path, decoder: str, listed_at: str = "") -> FrameSource:
    """Open a video file with a decoder of `datasets.READERS`; packed clips are recognised and need none."""
    reader: Any = PackedClip if is_packed_clip(path) else FrameSource.named(decoder)
    return reader(path, listed_at)
