"""`scorer: vcs`: video concept spotting (BIKE, arXiv 2301.00182), frames weighted by the words of a class.

Shapes: B videos, T frames, W tokens of a text, D embedding, K classes.
"""

from functools import partial

import torch
from torch.nn import functional as F

from clip import ClipModel
from modules.classifier_file import cached_classifier
from modules.classifiers.rules import has_one_prompt
from modules.classifiers.trained import trained_classifier
from modules.heads.head import Head
from modules.prompts import class_prompts
from modules.scorers.scorer import Scale, Scorer
from modules.text_classifier import class_features_of_words, text_weights_hash
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.metrics import EVAL_LOGIT_SCALE
from utils.schema import Config


class VideoConceptSpotting(Scorer):
    """No parameters. A table contains the T frames of each view after the temporal head, before averaging.

    Class features are (K, 1 + W, D): the class embedding, then all W tokens of its text (including padding) after the
    last norm and projection of the text tower.
    """

    class Settings(Section):
        temperature: float = key(0.01, "divides the cosines of words and frames before the softmax over frames", gt=0)

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, text: torch.Tensor | None) -> "VideoConceptSpotting":
        if not has_one_prompt(cfg) or trained_classifier(cfg) is not None:
            raise UserError(
                "network.scorer vcs: needs one frozen prompt per class; set classifier to clip_text and "
                "prompt_set to null, and freeze the text (fix_text, context_tokens, train_classifier, a text adapter)"
            )
        return cls(cls.settings(cfg))

    @classmethod
    def embed_classes(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        prompts = class_prompts(names, cfg.network.prompt, None)
        source = partial(text_weights_hash, clip_model)
        make = partial(class_features_of_words, clip_model, [prompt for (prompt,) in prompts], device)
        return cached_classifier(cfg.logging.cache_dir, "clip_words", names, prompts, source, make)

    def of_frames(self, head: Head, frames: torch.Tensor) -> torch.Tensor:
        return head.over_frames(frames)

    def of_joined(self, frames: torch.Tensor, joined: torch.Tensor) -> torch.Tensor:
        return joined

    def forward(self, videos: torch.Tensor, classes: torch.Tensor, scale: Scale = EVAL_LOGIT_SCALE) -> torch.Tensor:
        with torch.autocast(videos.device.type, enabled=False):
            frames, classes = F.normalize(videos.float(), dim=-1), F.normalize(classes.float(), dim=-1)
            text, words = classes[:, 0], classes[:, 1:]
            similarity = torch.einsum("kwd,btd->bkwt", words, frames) / self.own_settings.temperature
            saliency = similarity.softmax(dim=-1).mean(dim=2)  # (B, K, T), sums to 1 over the frames
            return scale * (saliency * torch.einsum("kd,btd->bkt", text, frames)).sum(dim=-1)
