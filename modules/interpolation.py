"""Open-VCLIP (arXiv 2302.00624): a second loss in each step, at weights interpolated between CLIP and the model.

The gradient of a step is g(theta) + C g(r CLIP + (1 - r) theta), where r is drawn in each step and C is
`solver.interpolated_loss`. As in the published code, the second part is not multiplied by (1 - r).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from modules.video_clip import VideoCLIP
from utils.schema import Config


def interpolated_parameters(model: VideoCLIP) -> dict[str, nn.Parameter]:
    """The trained parameters of CLIP: image tower, text tower, logit scale."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: p for name, p in trained.items() if model.is_pretrained(name) or name.startswith("text.")}


def clip_weights(model: VideoCLIP) -> dict[str, torch.Tensor]:
    """Copies of `interpolated_parameters`; call it before loading a checkpoint."""
    return {name: parameter.detach().clone() for name, parameter in interpolated_parameters(model).items()}


class Interpolation:
    """The weights of the second pass.

    Args:
        clip: CLIP's weights by their names in `model`, see `clip_weights`; moved to the model's device.

    Attributes:
        weight: C, the factor of the second loss.
    """

    def __init__(self, cfg: Config, model: VideoCLIP, clip: Mapping[str, torch.Tensor]):
        parameters = interpolated_parameters(model)
        self.weight = cfg.solver.interpolated_loss
        self._range, self._seed = cfg.solver.interpolated_range, cfg.seed
        self._parameters = [parameters[name] for name in clip]
        self._clip = [clip[name].to(parameters[name].device) for name in clip]

    def draw(self, epoch: int, consumed_clips: int) -> float:
        """The share r of CLIP in a step, the same on every process and after resuming."""
        # The spawn key makes this generator different from those of clips and orders, which have similar seeds.
        stream = np.random.SeedSequence([self._seed, epoch, consumed_clips], spawn_key=(4,))
        return float(np.random.default_rng(stream).uniform(self._range[0], self._range[1]))

    @contextmanager
    def applied(self, share: float) -> Iterator[None]:
        """Context in which the model's parameters are interpolated with `share` of CLIP; they are restored at its end.

        Gradients are accumulated in the same parameters.
        """
        own = [parameter.data for parameter in self._parameters]
        for parameter, values in zip(self._parameters, torch._foreach_lerp(own, self._clip, share)):
            parameter.data = values
        try:
            yield
        finally:
            for parameter, values in zip(self._parameters, own):
                parameter.data = values
