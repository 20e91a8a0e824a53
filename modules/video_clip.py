"""VideoCLIP: frames -> CLIP's image tower -> temporal head -> logits with the class texts.

Shapes: B batch, T frames, C channels (3), H W image, D embedding, K classes.

Names in state dicts, as in published checkpoints: `visual.*` (CLIP's names), `fusion_model.*`, `logit_scale`. If the
text is trained: `text.*` (open_clip's names) and `classifier.*`; if the scorer has tensors: `scorer.*`.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F

from clip import ClipModel
from modules.adapters.adapter import Adapter
from modules.additions.addition import MixesFrames, chosen_additions, owner_of
from modules.classifiers.trained import TrainedClassifier
from modules.heads.head import Head
from modules.scorers.scorer import Scorer
from modules.tower_tokens import embed_with_tokens
from utils.schema import Config


class VideoCLIP(nn.Module):
    """A video model on top of CLIP.

    Args:
        cfg: `network.fix_video`: CLIP's parameters of the image tower are frozen, and so are normalisation statistics
            and dropout; added parameters are trained. `network.adapter`: only those parameters of the tower that the
            adapter tunes are trained. `network.fix_text`: the text tower is frozen.
        clip_model: the original CLIP; its text tower is used if `classifier` needs it.
        visual: (N, C, H, W) -> (N, D); with joint space-time attention (B*T, C, H, W) -> (B, D).
        fusion_model: (B, T, D) -> (B, D), the temporal head.
        scorer: compares videos with classes.
        classifier: computes trained class embeddings. None: they are passed in.

    Attributes:
        embed_dim: D.
        additions: names of the additions to the image tower (modules.additions, modules.adapters).
        adapter: the class of `network.adapter`, or None.
        distillation: modules.distillation, or None.
        embeddings: with distillation, those of the last training pass: frames (B, T, D), classes (K, D).
        tower_trains: whether any parameter of the image tower is trained, so that it needs gradients.
    """

    pixel_scale: torch.Tensor
    pixel_shift: torch.Tensor

    def __init__(
        self,
        cfg: Config,
        clip_model: ClipModel,
        visual: nn.Module,
        fusion_model: Head,
        scorer: Scorer,
        classifier: TrainedClassifier | None = None,
    ):
        super().__init__()
        self.visual = visual
        self.fusion_model = fusion_model
        self.scorer = scorer
        self.logit_scale = nn.Parameter(clip_model.logit_scale.detach().float().clone())
        self.text = clip_model.text if classifier is not None and classifier.reads_text else None
        self.classifier = classifier
        self.distillation: nn.Module | None = None
        self.embeddings: tuple[torch.Tensor, torch.Tensor] | None = None
        self.embed_dim = clip_model.embed_dim
        self.additions = chosen_additions(cfg)
        self.adapter = None if cfg.network.adapter is None else Adapter.named(cfg.network.adapter)
        self.fix_video, self.fix_text = cfg.network.fix_video, cfg.network.fix_text
        # Levels 0..255 to normalised pixels in one multiplication and addition.
        std = torch.tensor(clip_model.std)
        self.register_buffer("pixel_scale", (1 / (255 * std)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("pixel_shift", (-torch.tensor(clip_model.mean) / std).view(1, -1, 1, 1), persistent=False)
        tunes = "" if self.adapter is None else self.adapter.tunes  # the empty regex matches all
        for name, parameter in self.named_parameters():
            trains = not self.fix_video and tunes is not None and re.search(tunes, name)
            if name.startswith("visual.") and self.is_pretrained(name) and not trains:
                parameter.requires_grad_(False)
        self.tower_trains = any(parameter.requires_grad for parameter in visual.parameters())
        if self.text is not None and self.fix_text:
            self.text.requires_grad_(False)
        # Additions that mix frames need T to find the frames of a clip among the images.
        self._over_time = [module for module in visual.modules() if isinstance(module, MixesFrames)]

    def train(self, mode: bool = True) -> "VideoCLIP":
        super().train(mode)
        if self.fix_video:
            self.visual.eval()
        if self.text is not None and self.fix_text:
            self.text.eval()
        return self

    def encode_frames(self, clips: torch.Tensor) -> torch.Tensor:
        """Frame embeddings, not normalised.

        Args:
            clips: (B, T, C, H, W), either uint8 (scaled and normalised here) or normalised float. Or (B, T, D),
                cached frame embeddings of a frozen image tower, which are returned unchanged.

        Returns:
            (B, T, D); (B, 1, D) from a joint space-time tower, which embeds the whole video at once.
        """
        if clips.ndim == 3:
            assert not self.tower_trains, "cached frame embeddings need a frozen tower"
            return clips
        images = self.normalized_images(clips)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tower_trains):
            embeddings = self.visual(images)
        return embeddings.unflatten(0, (len(clips), -1))

    def normalized_images(self, clips: torch.Tensor) -> torch.Tensor:
        """(B, T, C, H, W), see `encode_frames`, -> (B*T, C, H, W) normalised pixels; sets T in the tower."""
        images = clips.flatten(0, 1)
        if images.dtype == torch.uint8:
            images = torch.addcmul(self.pixel_shift, images.float(), self.pixel_scale)
        for module in self._over_time:
            module.num_frames = clips.shape[1]
        return images

    def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips, see `encode_frames`, -> (B, D) video embeddings, not normalised."""
        return self.fusion_model(self.encode_frames(clips))

    def video_features(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips, see `encode_frames`, -> video features for the scorer, (B, D) or (B, R, D)."""
        return self._frames_and_features(clips)[1]

    def _frames_and_features(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Frame embeddings (B, T, D), and the scorer's features."""
        if not self.scorer.needs_patches:
            frames = self.encode_frames(clips)
            return frames, self.scorer.of_frames(self.fusion_model, frames)
        assert clips.ndim == 5, "patches need pixels"
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tower_trains):
            embeddings, tokens = embed_with_tokens(self.visual, self.normalized_images(clips), is_normed=False)
        frames, patches = (rows.unflatten(0, (len(clips), -1)) for rows in (embeddings, tokens[:, 1:]))
        return frames, self.scorer.of_patches(self.fusion_model, frames, patches)

    def class_embeddings(self, rows: torch.Tensor | None = None) -> torch.Tensor:
        """(K, D) class embeddings with the current weights, not normalised; (n, D) of the classes `rows` (n,) int64."""
        return self._class_embeddings(rows)

    def _class_embeddings(self, rows: torch.Tensor | None = None) -> torch.Tensor:
        # For use within a forward pass: with `modules.sharding` the public method is a pass itself, which cannot be
        # nested.
        assert self.classifier is not None, "this model has no classifier: class embeddings are passed in"
        return self.classifier(self.text, rows)

    def forward(
        self,
        clips: torch.Tensor,
        text: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        passes: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits at exp(logit_scale), or with `labels` the inputs of a contrastive loss.

        Args:
            clips: see `encode_frames`.
            text: class features, (K, D) or as required by the scorer; None: `class_embeddings()`.
            labels: (B,) int64 pairs each clip with the text of its class; (B, K) soft labels pair it with the weighted
                mean of the normalised texts.
            passes: return both passes of a head that has two (`modules.heads.head.Passes`).

        Returns:
            (B, K) float32 logits. With `passes`: those of both, and their difference (B,). With `labels`: features of
            the videos and of their texts, (B, ...), not normalised, and the scale ().
        """
        if passes:
            return self._both_passes(clips, self._class_embeddings() if text is None else text)
        frames, video = self._frames_and_features(clips)
        if labels is not None and labels.ndim == 1:
            rows = self._class_embeddings(labels) if text is None else text[labels]
            return video, rows, self.logit_scale.exp()
        text = self._class_embeddings() if text is None else text
        if self.distillation is not None and self.training:
            self.embeddings = frames, text
        if labels is not None:
            rows = labels @ F.normalize(text.float(), dim=-1).flatten(1)
            return video, rows.unflatten(1, text.shape[1:]), self.logit_scale.exp()
        return self.scorer(video, text, self.logit_scale.exp())

    def _both_passes(self, clips: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frames, scale = self.encode_frames(clips), self.logit_scale.exp()
        if self.distillation is not None:
            self.embeddings = frames, text
        passes = self.fusion_model.passes(frames)
        drawn = self.scorer(self.scorer.of_joined(frames, passes.drawn), text, scale)
        merged = self.scorer(self.scorer.of_joined(frames, passes.merged), text, scale)
        return drawn, merged, passes.difference

    def merge_adapter(self) -> None:
        """Merge the adapter into CLIP's weights where possible; the model can then only be used for inference."""
        if self.adapter is not None:
            self.adapter.merge(self.visual)

    def is_pretrained(self, parameter_name: str) -> bool:
        """Whether a parameter belongs to CLIP's image tower or is its temperature: trained at lr * clip_ratio."""
        if parameter_name == "logit_scale":
            return True
        return parameter_name.startswith("visual.") and owner_of(parameter_name) is None
