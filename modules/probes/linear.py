"""`--probes linear`: a linear layer on the mean of all tokens."""

import torch
from torch import nn

from modules.probes.probe import Probe


class LinearProbe(Probe):
    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classifier(tokens.mean(dim=1))
