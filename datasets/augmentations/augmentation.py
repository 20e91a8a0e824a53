"""Base class of augmentations of training clips."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from datasets.augmentations import AUGMENTATIONS
from utils.components import Component
from utils.schema import Config


class Augmentation(Component):
    """A random change of a clip after crop and flip. Subclasses are frozen dataclasses of its settings.

    Legend: B clips, T frames, C=3 channels, S input size.
    """

    table = AUGMENTATIONS

    @classmethod
    def of(cls, cfg: Config) -> "Augmentation | None":
        """The augmentation of a config; None if it is off."""
        raise NotImplementedError

    def draw(self, size: int, rng: np.random.Generator) -> Sequence[Any]:
        """The parameters of each application to a clip of S = `size`, all drawn from `rng`; empty: none.

        They are hashable: clips with equal parameters are changed together on the device.
        """
        raise NotImplementedError

    def apply(self, frames: torch.Tensor, drawn: Any) -> torch.Tensor:
        """(T,C,S,S) uint8 on the CPU -> same, with the parameters `drawn`. Not in place."""
        raise NotImplementedError

    def apply_on_device(self, clips: torch.Tensor, drawn: Any) -> torch.Tensor:
        """(B,T,C,S,S) uint8 on the device -> same, equal to `apply` of each clip. Runs without autocast."""
        return self.apply(clips, drawn)


class Operation(NamedTuple):
    """An application of an augmentation with its drawn parameters."""

    augmentation: Augmentation
    drawn: Any


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed PyTorch's global generator from `rng` within the block, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        yield
