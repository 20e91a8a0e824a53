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
    """Outputs of two passes through a head in a training step: (B, T, D) float32 as from `Head.over_frames`, and the
    mean squared difference (B,) between the second output and the input frames."""

    drawn: torch.Tensor
    merged: torch.Tensor
    difference: torch.Tensor


class Head(Component, nn.Module):
    """(B, T, D) frame embeddings -> (B, D) float32 video embeddings. All parameters train at the full learning rate."""

    table = HEADS
    described: ClassVar[str]  # description of a checkpoint with this head, for messages
    mark: ClassVar[str | None] = None  # a parameter that only its checkpoints have; None: it has no parameters
    # Name endings of parameters whose zeroing makes the output of the head's branches 0, so that the video embedding
    # has the direction of the mean of the frames (modules.weight_space).
    fades: ClassVar[tuple[str, ...]] = ()
    loss: ClassVar[str | None] = None  # the `solver.loss_type` that it requires, if any
    published_zeros: ClassVar[str | None] = None  # pattern of tensors that are 0 in all published checkpoints

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel) -> "Head":
        """Create the head with initial values, drawn from torch's global generator, for frame embeddings of D =
        `clip_model.embed_dim`; without an override, from its settings alone. Raises a UserError if the config is not
        supported."""
        return cls(**cls.settings(cfg).model_dump())

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, D) frame embeddings, not normalised, of any float dtype -> (B, D) float32."""
        return self.over_frames(frames).mean(dim=1)

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D) float32, of which the mean over the frames is the video embedding. Raises a UserError
        if the head has no outputs per frame."""
        raise UserError(f"network.scorer: needs outputs per frame, which {self.described} does not have; use another")

    def passes(self, frames: torch.Tensor) -> Passes:
        """Both passes of (B, T, D) frame embeddings through a head with its own `loss`."""
        raise NotImplementedError

    def draw(self, generator: np.random.Generator) -> None:
        """Draw random values for the next training step; `generator` is the same on all processes."""

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        """Why tensors of a checkpoint with this kind of head do not fit this one, and which key to set; None if they
        do. The message follows the name of the checkpoint: "its temporal head has 4 layers; set ..."."""
        return None


def head_of(state: dict[str, torch.Tensor]) -> type[Head] | None:
    """The head class of a checkpoint's tensors (names within the head); None: unknown."""
    return next((head for head in Head.listed().values() if (head.mark in state if head.mark else not state)), None)
