"""Protocols of the data loaders for training and evaluation.

Legend: B batch, V views, T frames, C,H,W image, S crop side, D embedding.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypedDict, cast

import torch


class Entry(Protocol):
    """A line of an annotation list."""

    @property
    def path(self) -> str: ...

    @property
    def name(self) -> str:
        """The path, with start and end time if it is a segment."""
        ...

    @property
    def label(self) -> int | tuple[int, ...]: ...

    @property
    def classes(self) -> tuple[int, ...]: ...

    @property
    def of_set(self) -> int: ...


class ListedVideos(Protocol):
    @property
    def entries(self) -> Sequence[Entry]:
        """One label per video, in the order of the list."""
        ...

    @property
    def num_classes(self) -> int | None:
        """K if the list is multi-label, otherwise None."""
        ...

    def __len__(self) -> int: ...


class EpochPlan(Protocol):
    @property
    def plan(self) -> Sequence[int]:
        """Number of clips in each batch of the epoch, over all processes."""
        ...


class Numbers(TypedDict):
    """Contents of a batch besides the frames."""

    label: torch.Tensor  # int64 (B,); multi-label: float32 (B,K), 1 for the classes of a video
    index: torch.Tensor  # int64 (B,), positions in the list
    weight: torch.Tensor  # float32 (B,): 1, or 0 for a clip that does not count
    is_faulty: torch.Tensor  # bool (B,): the clip could not be read
    repeat: torch.Tensor  # int64 (B,): number of earlier occurrences of the clip in the epoch


Batch = dict[str, torch.Tensor]
"""A training batch: `Numbers`, and `frames` uint8 (B,T,C,S,S) or float32 (B,T,D); all are moved to the device."""


def train_batch(frames: torch.Tensor, numbers: Numbers) -> Batch:
    """A training batch of frames and numbers."""
    return cast(Batch, {"frames": frames, **numbers})


class TrainLoader(Protocol):
    """Training loader: the batches of this process."""

    @property
    def dataset(self) -> ListedVideos: ...

    @property
    def batches(self) -> EpochPlan: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        """Set the epoch of the next iteration, which starts at sample `start_sample`."""
        ...


class EvalBatch(Numbers):
    frames: Sequence[torch.Tensor | None]  # each uint8 (clips,T,C,H,W) or float32 (clips,T,D); None: unreadable


class EvalLoader(Protocol):
    """Evaluation loader: the loaders of all processes together yield each video once."""

    @property
    def dataset(self) -> ListedVideos: ...

    def __iter__(self) -> Iterator[EvalBatch]: ...

    def views(self, clip: torch.Tensor) -> torch.Tensor:
        """Crop (1,T,C,H,W) frames of one clip into its views (V,T,C,S,S), on the device of the clip."""
        ...
