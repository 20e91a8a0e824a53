"""One interface to frame folders and videos: `open_source`."""

from pathlib import Path
from typing import Any

from datasets.clip_shards import ClipShards
from datasets.frame_folder import FrameFolder
from datasets.frame_source import FrameSource
from datasets.lists import ListEntry
from datasets.packed_clip import PackedClip, is_packed_clip
from datasets.segment import Segment


def open_source(
    root: str | Path | ClipShards,
    entry: ListEntry,
    *,
    modality: str,
    list_path: str | Path = "",
    image_tmpl: str = "img_{:05d}.jpg",
    index_bias: int = 1,
    decoder: str = "pyav",
    frame_rate: float | None = None,
) -> FrameSource:
    """The opened video or frame folder of a list entry, or its segment where the entry has times.

    Args:
        root: folder that the entry's path is relative to, or the shards that it is in.
        modality: "RGB" (frame folders) or "video".
        list_path: of the list that the entry is from; errors then name its line.
        image_tmpl, index_bias: file name of a frame and number of the first one ("RGB" only).
        decoder: a name of `datasets.READERS` ("video" only); packed clips are recognised and need none.
        frame_rate: frames a second of a frame folder, for entries with times.

    Raises:
        UserError: when it could not be opened, or the decoder is not installed.
    """
    listed_at = f"{list_path}:{entry.line}" if str(list_path) else ""
    if isinstance(root, ClipShards):
        source = root.open(entry.path, listed_at)
    elif modality == "RGB":
        assert entry.num_frames is not None  # a frame list has them
        source = FrameFolder(Path(root) / entry.path, entry.num_frames, image_tmpl, index_bias, listed_at)
    elif is_packed_clip(Path(root) / entry.path):
        source = PackedClip(Path(root) / entry.path, listed_at)
    else:
        reader: Any = FrameSource.named(decoder)
        source = reader(Path(root) / entry.path, listed_at)
    if entry.times is None:
        return source
    try:
        return Segment(source, *entry.times, frame_rate)
    except BaseException:
        source.close()
        raise
