"""Base class of additions to the image tower."""

import re
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import nn

from modules.adapters import ADAPTERS
from modules.additions import ADDITIONS, OWN_KEYS
from modules.tower_blocks import VITS, ImageTower
from utils.components import Component, load_component
from utils.errors import UserError
from utils.schema import Config

INSIDE = ADDITIONS | ADAPTERS
"""All additions and adapters of the image tower, in the order in which they are applied."""


@runtime_checkable
class MixesFrames(Protocol):
    """A module inside the image tower that mixes the frames of a clip; images are ordered by clip, then by frame."""

    num_frames: int  # per clip; the model sets it before each forward pass


class Addition(Component):
    """An addition to the image tower. Subclasses are not instantiated.

    CLIP's own parameters keep their names and values. A module that mixes the frames of a clip is a `MixesFrames`.
    """

    table = ADDITIONS
    setting: ClassVar[str]  # the config key and value that enable it, for messages
    supported_towers: ClassVar[tuple[str, ...]] = VITS  # kinds of towers (modules.tower_blocks)
    needs_class_token: ClassVar[bool] = False  # whether the tower must have a class token
    # Regex of the added parameters, by their names in VideoCLIP; they are trained even if the tower is frozen.
    new_parameters: ClassVar[str | None] = None
    trains_at_full_rate: ClassVar[bool] = True  # False: they are trained at the learning rate of the tower
    excludes: ClassVar[tuple[str, ...]] = ()  # names of other additions that it cannot be combined with

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        """Add it to the tower, in place: append to the hooks of its blocks (`modules.tower_blocks.TowerBlock`), and
        register new modules in the blocks or in `tower.visual`, under names that `new_parameters` matches. Raises a
        UserError if its settings do not fit the tower."""
        raise NotImplementedError

    @classmethod
    def fit(cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
        """Adapt tensors of a checkpoint to another number of frames, in place.

        Args:
            state: tensors of the checkpoint, by their names in VideoCLIP.
            expected: those of the model.

        Returns:
            A message for each change, which is logged as a warning.
        """
        return []


def inside(name: str) -> type[Addition]:
    """The class of an addition or adapter."""
    addition = load_component(INSIDE[name])
    assert issubclass(addition, Addition)
    return addition


def chosen_additions(cfg: Config) -> list[str]:
    """The names of the additions in a config, including its adapter, in the order of `INSIDE`."""
    network = cfg.network
    named = (network.tm, network.adapter)
    return [name for name in INSIDE if (getattr(network, name) if name in OWN_KEYS else name in named)]


def add_to(visual: nn.Module, cfg: Config) -> nn.Module:
    """Apply all additions of a config to the image tower.

    Raises:
        UserError: the tower does not support one of them, or two cannot be combined.
    """
    tower, chosen = ImageTower(visual), chosen_additions(cfg)
    for name in chosen:
        addition = inside(name)
        for other in set(addition.excludes) & set(chosen):
            raise UserError(f"{addition.setting}: cannot be combined with {inside(other).setting}; remove one")
        if tower.kind not in addition.supported_towers:
            raise UserError(
                f"{addition.setting}: not supported by this image tower, {tower.kind}; supported are "
                f"{'; '.join(addition.supported_towers)}"
            )
        if addition.needs_class_token and not tower.has_class_token:
            raise UserError(
                f"{addition.setting}: needs a class token, which this image tower, {tower.kind}, does not have; "
                "use network.tm: tsm, which shifts patches"
            )
        addition.add(tower, cfg)
    return tower.visual


def owner_of(parameter_name: str) -> type[Addition] | None:
    """The addition that owns this parameter, or None."""
    for addition in map(inside, INSIDE):
        if addition.new_parameters and re.search(addition.new_parameters, parameter_name):
            return addition
    return None
