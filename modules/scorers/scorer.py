"""Base class of scorers, which define what a table stores per video, and compute logits.

Shapes: N videos, V views, B views of a batch, T frames, R rows of a view, D embedding, K classes, S rows of a class.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from clip import ClipModel
from modules.classifiers.classifier import Classifier
from modules.embed import VideoTable
from modules.heads.head import Head
from modules.scorers import SCORERS
from utils.components import Component
from utils.config_fields import Section
from utils.errors import UserError, first_line
from utils.metrics import EVAL_LOGIT_SCALE
from utils.schema import Config

TABLE_BATCH = 64  # batch size for scoring the views of a table
Scale = torch.Tensor | float


class Scorer(Component, nn.Module):
    """Computes logits from video features and class features. Its parameters, `scorer.*` in VideoCLIP, are trained at
    the full learning rate.

    Video features are one vector per view, (B, D), averaged over the views in a table; or R rows per view, (B, R, D),
    which a table stores for every view; `over_views` then averages their logits.
    """

    table = SCORERS
    needs_patches: ClassVar[bool] = False  # whether it also needs patch embeddings
    exports: ClassVar[bool] = False  # whether `export.py` supports it
    of_classes: ClassVar[tuple[str, ...]] = ()  # names of tensors that depend on the training classes

    def __init__(self, settings: Section):
        super().__init__()
        self.own_settings: Any = settings  # an instance of `Settings`

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, text: torch.Tensor | None) -> "Scorer":
        """Create it with initial values.

        Args:
            text: class features of the training classes, if they are frozen.

        Raises:
            UserError: the config is not supported.
        """
        return cls(cls.settings(cfg))

    @classmethod
    def restore(cls, settings: Section, state: dict[str, torch.Tensor]) -> "Scorer":
        """The scorer with the tensors `state`, on the CPU, in evaluation mode."""
        scorer = cls(settings)
        scorer.fit(state)
        scorer.load_state_dict(state)
        return scorer.eval()

    def fit(self, state: dict[str, torch.Tensor]) -> None:
        """Resize the tensors that depend on the training classes to their sizes in `state`."""
        for name in self.of_classes:
            own = getattr(self, name)
            if name in state and state[name].shape != own.shape:
                value = torch.zeros_like(state[name])
                setattr(self, name, nn.Parameter(value) if isinstance(own, nn.Parameter) else value)

    @classmethod
    def embed_classes(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        """Features of K frozen classes, float32 on the CPU: (K, D), or (K, S, D) whose first row is the embedding."""
        return Classifier.named(cfg.network.classifier).embed(cfg, clip_model, names, device)

    def of_frames(self, head: Head, frames: torch.Tensor) -> torch.Tensor:
        """Video features from (B, T, D) frame embeddings and the temporal head."""
        return head(frames)

    def of_patches(self, head: Head, frames: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Video features if it `needs_patches`.

        Args:
            frames: (B, T, D) frame embeddings. patches: (B, T, P, C), output of the tower's last block, before the last
                norm.
        """
        raise NotImplementedError

    def of_joined(self, frames: torch.Tensor, joined: torch.Tensor) -> torch.Tensor:
        """Video features from (B, T, D) frame embeddings and the output of `Head.over_frames`."""
        return joined.mean(dim=1)

    def forward(self, videos: torch.Tensor, classes: torch.Tensor, scale: Scale = EVAL_LOGIT_SCALE) -> torch.Tensor:
        """(B, K) float32 logits of unnormalised video and class features; `scale` multiplies cosines."""
        raise NotImplementedError

    def table_logits(
        self, embeddings: np.ndarray, classes: np.ndarray, device: torch.device | str = "cpu"
    ) -> np.ndarray:
        """float32 (N, K) logits of the rows of a table at the evaluation scale; NaN for unreadable videos.

        Args:
            embeddings: float32 (N, D), or (N, V, R, D). classes: float32 (K, D) or (K, S, D).
            device: used for the computation; that of the scorer's parameters, if it has any.
        """
        views = torch.from_numpy(embeddings if embeddings.ndim == 2 else embeddings.reshape(-1, *embeddings.shape[2:]))
        text = torch.from_numpy(classes).to(device)
        with torch.inference_mode():
            logits = torch.cat([self(part.to(device), text).cpu() for part in views.split(TABLE_BATCH)])
        return self.over_views(logits.unflatten(0, (len(embeddings), -1))).numpy()

    def over_views(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, V, K) logits of the views -> (N, K) logits of the videos."""
        return logits.mean(dim=1)

    def vectors(self, embeddings: np.ndarray) -> np.ndarray:
        """float32 (N, D), the mean of the rows of each video, for embedding maps."""
        return embeddings if embeddings.ndim == 2 else embeddings.mean(axis=(1, 2))


def class_vectors(classes: np.ndarray) -> np.ndarray:
    """float32 (K, D) class embeddings in class features (K, D) or (K, S, D)."""
    return classes if classes.ndim == 2 else classes[:, 0]


def scorer_state(scorer: Scorer) -> dict[str, np.ndarray]:
    """A scorer's tensors for a table."""
    return {name: value.float().cpu().numpy() for name, value in scorer.state_dict().items()}


def scorer_of(table: VideoTable, source: str | Path, classes: np.ndarray) -> Scorer:
    """The scorer of a table, from the recipe that it contains. Raises a UserError if it cannot be restored, or does not
    fit the embeddings and the class features `classes`. `source`: the file of the table."""
    try:
        recipe = table.config
        name = recipe.get("network", {}).get("scorer", "cosine")  # older tables have no such key
        kind = Scorer.named(name)
        settings = kind.Settings.model_validate(recipe.get("components", {}).get(name, {}))
        state = {name: torch.from_numpy(value) for name, value in table.scorer_state.items()}
        scorer = kind.restore(settings, state)
        found = scorer.table_logits(table.embeddings[:1], classes).shape
        if found != (1, len(classes)):
            raise ValueError(f"its scorer {name} returns logits of shape {found}, expected {(1, len(classes))}")
        return scorer
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:  # edited, or of another version
        raise UserError(
            f"{source}: its scorer does not fit its embeddings ({first_line(error)}); run the test again"
        ) from error
