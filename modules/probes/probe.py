"""Base class of probes, and training of several probes at once.

Shapes: B clips, L tokens of a clip, C their width, K classes, P probes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from modules.probes import PROBES
from utils.components import Component
from utils.distributed import Process, sum_over_processes
from utils.schema import Config


class Probe(Component, nn.Module):
    """(B, L, C) float32 tokens of clips -> (B, K) logits."""

    table = PROBES

    @classmethod
    def build(cls, cfg: Config, width: int, num_classes: int) -> "Probe":
        """Create it for tokens of C = `width` and K = `num_classes`, with initial values drawn from torch's global
        generator. Raises a UserError if its settings do not support the width."""
        return cls(width, num_classes)


class Setting(NamedTuple):
    """Hyperparameters of a probe: its kind, learning rate and weight decay."""

    kind: str
    lr: float
    weight_decay: float


class ProbeSweep:
    """P probes trained independently on the same tokens, each with its own loss, gradient and AdamW.

    Args:
        cfg: `seed` for the initialisation of each probe, `components` with their settings.
        width: C.
        num_steps: n, number of training steps. The learning rate of step i, from 0, is that of its setting times
            (1 + cos(pi i / n)) / 2; V-JEPA 2's code counts from 1, so that its last step changes nothing.
    """

    def __init__(self, cfg: Config, settings: Sequence[Setting], width: int, num_steps: int, process: Process):
        self.settings = list(settings)
        self._num_steps = num_steps
        self._step = 0
        self._process = process
        self.probes: list[Probe] = []
        for setting in self.settings:
            torch.manual_seed(cfg.seed)
            probe = Probe.named(setting.kind).build(cfg, width, cfg.data.num_classes)
            self.probes.append(probe.to(process.device))
        self._optimizers = [
            torch.optim.AdamW(probe.parameters(), lr=setting.lr, weight_decay=setting.weight_decay)
            for probe, setting in zip(self.probes, self.settings)
        ]

    def step(self, tokens: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """One step of each probe on the clips of all processes; returns their mean losses (P,).

        Args:
            tokens: (B, L, C). labels: int64 (B,). weights: float32 (B,) 1, or 0 for a clip that does not count.
        """
        num_clips = sum_over_processes(weights.sum(), self._process)
        factor = 0.5 * (1 + math.cos(math.pi * self._step / self._num_steps))
        self._step += 1
        losses = []
        for probe, setting, optimizer in zip(self.probes, self.settings, self._optimizers):
            optimizer.param_groups[0]["lr"] = factor * setting.lr
            loss = (F.cross_entropy(probe(tokens), labels, reduction="none") * weights).sum() / num_clips
            loss.backward()
            for parameter in probe.parameters():
                assert parameter.grad is not None
                sum_over_processes(parameter.grad, self._process)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        return sum_over_processes(torch.stack(losses), self._process)

    def probabilities(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, P*K) float32: class probabilities of each probe, in order."""
        return torch.cat([probe(tokens).softmax(dim=-1) for probe in self.probes], dim=1)
