"""Protocols of the loaders that training and evaluation read videos from.

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
        """Its path, and where it is a segment of a video its times."""
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
        """One a video, in the order of the list."""
        ...

    @property
    def num_classes(self) -> int | None:
        """K, where the list is multi-label."""
        ...

    def __len__(self) -> int: ...


class EpochPlan(Protocol):
    @property
    def plan(self) -> Sequence[int]:
        """Clips of each batch of the epoch, over all processes."""
        ...


class Numbers(TypedDict):
    """What a batch contains besides its frames."""

    label: torch.Tensor  # int64 (B,); multi-label: float32 (B,K), 1 for the classes of a video
    index: torch.Tensor  # int64 (B,), positions in the list
    weight: torch.Tensor  # float32 (B,): 1, or 0 for a clip that does not count
    is_faulty: torch.Tensor  # bool (B,): the clip could not be read
    repeat: torch.Tensor  # int64 (B,): how often the clip came before in its epoch


Batch = dict[str, torch.Tensor]
"""Of training: `Numbers` and `frames`, uint8 (B,T,C,S,S) or float32 (B,T,D), all of which go to the device."""


def train_batch(frames: torch.Tensor, numbers: Numbers) -> Batch:
    return cast(Batch, {"frames": frames, **numbers})


class TrainLoader(Protocol):
    """What a training epoch reads clips from: the batches of this process."""

    @property
    def dataset(self) -> ListedVideos: ...

    @property
    def batches(self) -> EpochPlan: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        """The next iteration goes through `epoch`, from its sample `start_sample` on."""
        ...


class EvalBatch(Numbers):
    frames: Sequence[torch.Tensor | None]  # each uint8 (clips,T,C,H,W) or float32 (clips,T,D); None: unreadable


class EvalLoader(Protocol):
    """What an evaluation reads videos from: the loaders of all processes together yield each video once."""

    @property
    def dataset(self) -> ListedVideos: ...

    def __iter__(self) -> Iterator[EvalBatch]: ...

    def views(self, clip: torch.Tensor) -> torch.Tensor:
        """(1,T,C,H,W) frames of one clip to its views (V,T,C,S,S), on the clip's device."""
        ...
