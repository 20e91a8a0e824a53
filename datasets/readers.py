"""One interface to frame folders and videos: `open_source`."""

from pathlib import Path
from typing import Any

from datasets.clip_shards import ClipShards
from datasets.frame_folder import FrameFolder
from datasets.frame_source import FrameSource
from datasets.lists import ListEntry
from datasets.packed_clip import PackedClip, is_packed_clip


def open_source(
    root: str | Path | ClipShards,
    entry: ListEntry,
    *,
    modality: str,
    list_path: str | Path = "",
    image_tmpl: str = "img_{:05d}.jpg",
    index_bias: int = 1,
    decoder: str = "pyav",
) -> FrameSource:
    """The opened video or frame folder of a list entry.

    Args:
        root: folder that the entry's path is relative to, or the shards that it is in.
        modality: "RGB" (frame folders) or "video".
        list_path: of the list that the entry is from; errors then name its line.
        image_tmpl, index_bias: file name of a frame and number of the first one ("RGB" only).
        decoder: a name of `datasets.READERS` ("video" only); packed clips are recognised and need none.

    Raises:
        UserError: when it could not be opened, or the decoder is not installed.
    """
    listed_at = f"{list_path}:{entry.line}" if str(list_path) else ""
    if isinstance(root, ClipShards):
        return root.open(entry.path, listed_at)
    path = Path(root) / entry.path
    if modality == "RGB":
        assert entry.num_frames is not None  # a frame list has them
        return FrameFolder(path, entry.num_frames, image_tmpl, index_bias, listed_at)
    assert modality == "video", modality
    if is_packed_clip(path):
        return PackedClip(path, listed_at)
    reader: Any = FrameSource.named(decoder)
    return reader(path, listed_at)
