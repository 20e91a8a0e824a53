"""What every temporal head says of itself."""

from typing import ClassVar

import torch
from torch import nn

from clip import ClipModel
from modules.heads import HEADS
from utils.components import Component
from utils.schema import Config


class Head(Component, nn.Module):
    """(B, T, D) frame embeddings -> (B, D) float32 video embeddings. All its parameters train at the full rate.

    Attributes:
        described: what a checkpoint with this head holds, for messages.
        mark: a parameter that tells its checkpoints from those of other heads; None: it has no parameters.
        fades: endings of the names of the parameters that are 0 where nothing comes out of the head's branches, so that
            the video embedding has the direction of the mean of the frames (modules.weight_space).
    """

    table = HEADS
    described: ClassVar[str]
    mark: ClassVar[str | None] = None
    fades: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel) -> "Head":
        """The head as a training starts it.

        Raises:
            UserError: it cannot take what the config asks for.
        """
        raise NotImplementedError

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        """Why tensors of a checkpoint with this kind of head do not fit this one; None: nothing to say."""
        return None


def head_of(state: dict[str, torch.Tensor]) -> type[Head] | None:
    """The head that a checkpoint's tensors, under the names they have in it, belong to; None: an unknown one."""
    return next((head for head in Head.listed().values() if (head.mark in state if head.mark else not state)), None)
