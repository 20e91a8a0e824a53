"""Base class of temporal heads."""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from clip import ClipModel
from modules.heads import HEADS
from utils.components import Component
from utils.errors import UserError
from utils.schema import Config


class Passes(NamedTuple):
    """A training step's two ways through a head: (B, T, D) float32 as of `Head.over_frames`, and the mean squared
    difference (B,) of the second from the frames that came in."""

    drawn: torch.Tensor
    merged: torch.Tensor
    difference: torch.Tensor


class Head(Component, nn.Module):
    """(B, T, D) frame embeddings -> (B, D) float32 video embeddings. All its parameters train at the full rate."""

    table = HEADS
    described: ClassVar[str]  # what a checkpoint with this head holds, for messages
    mark: ClassVar[str | None] = None  # a parameter that only its checkpoints have; None: it has no parameters
    # Endings of the names of the parameters that are 0 where nothing comes out of the head's branches, so that the
    # video embedding has the direction of the mean of the frames (modules.weight_space).
    fades: ClassVar[tuple[str, ...]] = ()
    loss: ClassVar[str | None] = None  # the `solver.loss_type` that trains it, where only one does
    published_zeros: ClassVar[str | None] = None  # pattern of tensors that are 0 in all published checkpoints

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel) -> "Head":
        """The head as a training starts it.

        Raises:
            UserError: it cannot take what the config asks for.
        """
        return cls()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.over_frames(frames).mean(dim=1)

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D) float32, whose mean over the frames is the video embedding.

        Raises:
            UserError: the head has one vector a video and none of each frame.
        """
        raise UserError(f"network.scorer: holds frames, and {self.described} gives one vector a video; use another")

    def passes(self, frames: torch.Tensor) -> Passes:
        """Both ways of (B, T, D) frame embeddings through a head that `loss` trains."""
        raise NotImplementedError

    def draw(self, generator: np.random.Generator) -> None:
        """Draw what the next training step takes at random; all processes have the same `generator`."""

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        """Why tensors of a checkpoint with this kind of head do not fit this one; None: nothing to say."""
        return None


def head_of(state: dict[str, torch.Tensor]) -> type[Head] | None:
    """The head that a checkpoint's tensors, under the names they have in it, belong to; None: an unknown one."""
    return next((head for head in Head.listed().values() if (head.mark in state if head.mark else not state)), None)
