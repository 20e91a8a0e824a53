"""The dataset of clips: selects frames, reads and transforms them. Each item has its own random stream.

Legend: V views, T frames (num_segments * seg_length), C=3 channels, H,W image, S input size.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets import sampling
from datasets.entries import Entries, Label, ListEntry
from datasets.frame_source import Encoded, FrameSource
from datasets.transforms import Draw, EvalTransform, TrainTransform
from utils.errors import UserError


class SampleKey(NamedTuple):
    """The key of an item.

    Attributes:
        epoch, index: seed the random stream of the item, with the run's seed; index is the position in the entries.
        repeat: number of earlier repetitions of the entry in the epoch (repeated augmentation); also a seed.
        real: False for the placeholder of a process without a sample in the last batch of an epoch; its weight is 0.
    """

    epoch: int
    index: int
    real: bool = True
    repeat: int = 0

    def stream(self, seed: int, purpose: int = 0) -> np.random.Generator:
        """Random generator of an item, from the run's seed. `purpose`: 0 frames and pixels, 1 a replacement."""
        # Streams of repetitions and other purposes differ by their spawn keys.
        spawn_key = (purpose,) if purpose else ()
        if self.repeat:
            spawn_key = (purpose, self.repeat)
        return np.random.default_rng(np.random.SeedSequence([seed, self.epoch, self.index], spawn_key=spawn_key))


class Item(TypedDict):
    """A clip, of the shape returned by the transform."""

    frames: torch.Tensor | None  # uint8; None: unreadable
    label: int | np.ndarray  # multi-label: float32 (K,), 1 for the classes of the video
    index: int
    weight: float  # 1.0, or 0.0 for a placeholder
    fault: str | None  # why the clip could not be read
    repeat: int  # number of earlier repetitions in the epoch
    stored: "Stored | None"  # if the clip is preprocessed later


@dataclass(frozen=True)  # pin_memory of DataLoader would turn the fields of a tuple into lists
class Stored:
    """How a clip of stored frames, uint8 (clips,T,C,H,W), is preprocessed.

    Attributes:
        draw: the random parameters of a `TrainTransform`.
        encoded: set if the item has the bytes that frames are decoded from, uint8 (bytes,), instead of frames.
    """

    draw: Draw | None
    encoded: Encoded | None


@dataclass(frozen=True)
class FrameChooser:
    """Selects the frames of a clip by a rule of `datasets.sampling`.

    Attributes:
        mode: "train" (one random clip), "val" (one clip), "test" (`num_clips` clips).
        num_segments, seg_length: a clip has T = num_segments * seg_length frames.
        dense: windows of 128 frames instead of the whole video.
        random_shift: "train" only: a random frame in each segment; False: as in "val".
        rule: for "val" and "test": "segments" as published, or "linspace", from the first to the last frame.
    """

    mode: str
    num_segments: int
    seg_length: int = 1
    dense: bool = False
    random_shift: bool = True
    num_clips: int = 1
    rule: str = "segments"

    @property
    def is_linspace(self) -> bool:
        return self.rule == "linspace" and not self.dense

    def __call__(self, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        """(clips*T,) int64 indices below `num_frames`."""
        if self.mode == "test" and not self.is_linspace:
            sample = sampling.dense_test if self.dense else sampling.test_uniform
            return sample(num_frames, self.num_segments, self.num_clips, self.seg_length)
        assert self.num_clips == 1, "the clips of a video would all be the same"
        if self.dense:
            return sampling.dense_random(num_frames, self.num_segments, rng, self.seg_length)
        if self.mode == "train" and self.random_shift:
            return sampling.train_uniform(num_frames, self.num_segments, rng, self.seg_length)
        sample = sampling.linspace if self.is_linspace else sampling.val_uniform
        return sample(num_frames, self.num_segments, self.seg_length)


class ItemOptions(NamedTuple):
    """Options of the items of a `VideoDataset`.

    Attributes:
        num_clips: clips per item.
        seed: the run's seed, which with the key determines the item's random stream on any process.
        on_error: handling of items with missing or corrupted files. "raise"; "replace": use another entry of the class,
            drawn from the item's stream; "miss": frames are None. The last two set "fault" to the message.
        num_classes: K for a multi-label list, otherwise None.
    """

    num_clips: int = 1
    seed: int = 0
    on_error: Literal["raise", "replace", "miss"] = "raise"
    num_classes: int | None = None


class VideoDataset(Dataset):
    """Items of an annotation list, indexed by `SampleKey`.

    Frames are (T,C,S,S) with a `TrainTransform`; with an `EvalTransform` (clips,T,C,S,S) for one crop, and
    (clips,T,C,H',W') resized but not cropped for several.

    Args:
        open_entry: entry -> opened FrameSource.
        choose_frames: number of frames, generator -> (clips*T,) indices.
        transform: (clips,T,C,H,W) uint8 frames, label, generator -> frames, label; its first step `resize` is applied
            to each frame as it is read.

    Raises:
        UserError: the files of an item are missing or corrupted; for "replace", so are all others of its class.
    """

    def __init__(
        self,
        entries: Entries,
        open_entry: Callable[[ListEntry], FrameSource],
        choose_frames: Callable[[int, np.random.Generator], np.ndarray],
        transform: TrainTransform | EvalTransform,
        options: ItemOptions = ItemOptions(),  # noqa: B008 - immutable
    ):
        self.entries = entries
        self._on_error = options.on_error
        self._open_entry = open_entry
        self._choose_frames = choose_frames
        self.transform = transform
        self.num_clips = options.num_clips
        self._seed = options.seed
        self.num_classes = options.num_classes

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: SampleKey) -> Item:
        return self._item(key, self._read)

    def stored(self, key: SampleKey, kinds: Collection[type[Encoded]] = ()) -> Item:
        """The item with its stored frames and the same random draws; see `datasets.device_pixels`.

        Args:
            kinds: of frames that are decoded later (`datasets.device_decoding`).
        """
        return self._item(key, partial(self._read_stored, kinds=kinds))

    def _item(self, key: SampleKey, read: "_Read") -> Item:
        entry = self.entries[key.index]
        fault = None
        try:
            frames, label, stored = read(entry, key.stream(self._seed))
        except UserError as error:
            fault = str(error)
            if self._on_error == "raise":
                raise
            if self._on_error == "replace":
                frames, label, stored = self._replacement(key, fault, read)
            else:
                frames, label, stored = None, entry.label, None
        return {
            "frames": frames,
            "label": label if isinstance(label, int) else self._multi_hot(label),
            "index": key.index,
            "weight": float(key.real),
            "fault": fault,
            "repeat": key.repeat,
            "stored": stored,
        }

    def _read(self, entry: ListEntry, rng: np.random.Generator) -> tuple[torch.Tensor, Label, None]:
        with self._open_entry(entry) as source:
            frames = source.read(self._choose_frames(source.num_frames, rng), self.transform.resize)
        frames, label = self.transform(frames.view(self.num_clips, -1, *frames.shape[1:]), entry.label, rng)
        return frames, label, None

    def _multi_hot(self, classes: tuple[int, ...]) -> np.ndarray:
        assert self.num_classes is not None
        return np.isin(np.arange(self.num_classes), classes).astype(np.float32)

    def _read_stored(
        self, entry: ListEntry, rng: np.random.Generator, kinds: Collection[type[Encoded]]
    ) -> tuple[torch.Tensor, Label, Stored]:
        with self._open_entry(entry) as source:
            indices = self._choose_frames(source.num_frames, rng)
            files = source.encoded(indices, kinds) if kinds else None
            if files is not None:
                frames, encoded = files
                size = encoded.size
            else:
                frames, encoded = source.read(indices).unflatten(0, (self.num_clips, -1)), None
                size = (frames.shape[-2], frames.shape[-1])
        if isinstance(self.transform, EvalTransform):
            return frames, entry.label, Stored(None, encoded)
        draw, label = self.transform.draw(size, entry.label, rng)
        return frames, label, Stored(draw, encoded)

    def _replacement(self, key: SampleKey, fault: str, read: "_Read") -> tuple[torch.Tensor, Label, Stored | None]:
        """The first readable one of its class's other entries, in an order drawn from the item's stream.

        In a multi-label list any entry that shares a class is used, with its own label.
        """
        unreadable = self.entries[key.index]
        others: dict[tuple[str, int], ListEntry] = {}
        for entry in self.entries.sharing_classes(unreadable):
            if (entry.name, entry.of_set) != (unreadable.name, unreadable.of_set):
                others[entry.name, entry.of_set] = entry
        names = sorted(others)
        rng = key.stream(self._seed, purpose=1)
        for position in rng.permutation(len(names)):
            try:
                return read(others[names[position]], rng)
            except UserError:
                continue  # reported when it is sampled itself
        raise UserError(f"{fault}; no other clip of class {unreadable.label} can be read either")


# Entry, generator -> frames, label and `stored` of an item.
_Read = Callable[[ListEntry, np.random.Generator], tuple[torch.Tensor, Label, Stored | None]]
