"""Averages of the weights that are validated and saved instead (`solver.ema`, `solver.average_epochs`)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

WARM_UP = 10  # as in TensorFlow's ExponentialMovingAverage, so that the initial weights do not dominate short runs


class WeightAverage:
    """Exponential moving average of a model's trainable parameters, on their device, in their dtype.

    In update n (from 0) the average moves by 1 - min(decay, (1 + n) / (10 + n)) towards the weights.

    Attributes:
        num_epochs: number of averaged epochs (`EpochMean` only).
    """

    num_epochs = 0

    def __init__(self, model: nn.Module, decay: float):
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._decay = decay
        self._is_applied = False

    @torch.no_grad()
    def update(self, step: int, ends_epoch: bool) -> None:
        """Add the weights after optimiser step `step` (from 0). `ends_epoch`: it was the last step of its epoch."""
        assert not self._is_applied
        decay = min(self._decay, (1 + step) / (WARM_UP + step))
        torch._foreach_lerp_(list(self._average.values()), list(self._parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the model's parameters are the average; the trained ones are restored at its end."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def trained_weights(self) -> dict[str, torch.Tensor]:
        """The trained parameters by name, inside and outside of `applied`."""
        return dict(self._average if self._is_applied else {n: p.detach() for n, p in self._parameters.items()})

    @torch.no_grad()
    def restart(self) -> None:
        """Set the average to the current weights."""
        for name, parameter in self._parameters.items():
            self._average[name].copy_(parameter)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            trained = parameter.detach().clone()
            parameter.copy_(self._average[name])  # in place, because DDP, FSDP and the optimiser refer to the memory
            self._average[name].copy_(trained)
        self._is_applied = not self._is_applied


class EpochMean(WeightAverage):
    """The mean of the weights at the ends of epochs; until the first end, the weights themselves."""

    def __init__(self, model: nn.Module):
        super().__init__(model, decay=0.0)

    @torch.no_grad()
    def update(self, step: int, ends_epoch: bool) -> None:
        assert not self._is_applied
        if ends_epoch:
            self.num_epochs += 1
            torch._foreach_lerp_(list(self._average.values()), list(self._parameters.values()), 1 / self.num_epochs)

    @contextmanager
    def applied(self) -> Iterator[None]:
        if self.num_epochs == 0:
            yield
        else:
            with super().applied():
                yield
