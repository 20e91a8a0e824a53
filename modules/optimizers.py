"""Optimisers of PyTorch by config name (`solver.optim`); all other names are optimisers of timm.

Without PyTorch, because the rules between config keys read this table.
"""

from typing import NamedTuple


class TorchOptimizer(NamedTuple):
    name: str  # in torch.optim
    num_betas: int = 2
    takes_momentum: bool = False  # `solver.momentum`
    can_shard: bool = True  # whether `solver.shard` is supported


OPTIMIZERS = {
    "adamw": TorchOptimizer("AdamW"),
    "adam": TorchOptimizer("Adam"),
    "sgd": TorchOptimizer("SGD", num_betas=0, takes_momentum=True, can_shard=False),
}
