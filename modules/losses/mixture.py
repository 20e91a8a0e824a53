"""`loss_type: mixture` (MoTE, arXiv 2410.10589): cross-entropy with drawn and merged experts, and a regularisation."""

import torch
from torch import nn

from modules.heads.head import Head
from modules.losses.cross_entropy import weighted_cross_entropy
from modules.losses.loss import Loss
from modules.scorers.scorer import Scorer
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.loaders import Batch
from utils.schema import Config


class MixtureLoss(Loss):
    """CE(drawn) + `merged` CE(merged) + `difference` x the mean squared difference of the merged pass's frames and the
    head's input."""

    takes_class_weights = True

    class Settings(Section):
        merged: float = key(0.5, "factor of the cross-entropy of the merged pass", ge=0)
        difference: float = key(
            0.1, "factor of the difference between the output of the merged pass and the head's input", ge=0
        )

    def __init__(self, cfg: Config, world_size: int):
        super().__init__(cfg, world_size)
        self.factors = self.settings(cfg)
        if Head.named(cfg.network.sim_header).loss != "mixture":
            raise UserError("solver.loss_type mixture: needs network.sim_header MoTE; set network.sim_header=MoTE")
        if Scorer.named(cfg.network.scorer).needs_patches:
            raise UserError(
                f"solver.loss_type mixture: not supported with network.scorer {cfg.network.scorer}, which needs "
                "patches; set network.scorer=modulated"
            )

    def __call__(self, model: nn.Module, batch: Batch, text: torch.Tensor | None = None) -> torch.Tensor:
        drawn, merged, difference = model(batch["frames"], text, passes=True)
        labels, weights = batch["label"], batch["weight"]
        loss = weighted_cross_entropy(drawn, labels, weights, self.class_weights)
        loss = loss + self.factors.merged * weighted_cross_entropy(merged, labels, weights, self.class_weights)
        return (loss + self.factors.difference * (difference * weights).sum()) * self.world_size
