"""Soft labels: mixup and cutmix of clips by timm, and label smoothing. B clips, T frames, C channels, K classes.

The partner of a clip is its neighbour in the order of the epoch (`datasets.samplers` keeps both in the same batch), and
random parameters are seeded by run seed, epoch, position in the list and repetition. So neither depends on the number
of processes, workers or accumulated batches, or on where a run was resumed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from timm.data.mixup import Mixup, mixup_target

from utils.loaders import Batch
from utils.schema import Config


class Mixing:
    """Converts integer labels to soft labels, and mixes clips if `data.mixup` is enabled."""

    def __init__(self, cfg: Config):
        mixup, solver = cfg.data.mixup, cfg.solver
        self._seed, self._num_classes, self._smoothing = cfg.seed, cfg.data.num_classes, solver.label_smoothing
        self._mixup = None
        if mixup.is_on:
            self._mixup = Mixup(
                mixup_alpha=mixup.mixup,
                cutmix_alpha=mixup.cutmix,
                prob=mixup.prob,
                switch_prob=mixup.switch_prob,
                label_smoothing=solver.label_smoothing,
                num_classes=cfg.data.num_classes,
            )

    @classmethod
    def of(cls, cfg: Config) -> "Mixing | None":
        """None if the config enables neither mixing nor label smoothing."""
        return cls(cfg) if cfg.data.mixup.is_on or cfg.solver.label_smoothing > 0 else None

    def __call__(self, batch: Batch, epoch: int, draws: Sequence[tuple[int, int]]) -> Batch:
        """The batch with `label` float32 (B, K), and mixed `frames` of unchanged dtype.

        Args:
            batch: `frames` (B, T, C, H, W), `label` int64 (B,), on any device.
            draws: (B,) position in the list and repetition of each clip.
        """
        frames, labels = batch["frames"], batch["label"]
        if self._mixup is None:
            return batch | {"label": mixup_target(labels, self._num_classes, smoothing=self._smoothing)}
        mixed, shares = torch.empty_like(frames), []
        for i, draw in enumerate(draws):
            partner = i ^ 1 if i ^ 1 < len(draws) else i  # the last clip of an epoch may have no partner
            # Frames as channels, so that all of a clip have the same box and ratio.
            pair = torch.stack([frames[i], frames[partner]]).flatten(1, 2).float()
            with _seeded(self._seed, epoch, *draw):
                pair, targets = self._mixup(pair, torch.stack([labels[i], labels[partner]]))
            own = pair[0].unflatten(0, frames.shape[1:3])
            mixed[i] = own if frames.is_floating_point() else own.round()
            shares.append(targets[0])
        return batch | {"frames": mixed, "label": torch.stack(shares)}


@contextmanager
def _seeded(*entropy: int) -> Iterator[None]:
    """Context in which NumPy's global generator, which timm uses, is seeded; it is restored at its end."""
    before = np.random.get_state()
    # The spawn key makes this stream different from that of the clip's frames and crops.
    np.random.seed(np.random.SeedSequence(entropy, spawn_key=(2,)).generate_state(4))
    try:
        yield
    finally:
        np.random.set_state(before)
