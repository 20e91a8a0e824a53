"""`adapter: deep_prompts`: learned tokens at the input of blocks, of the image tower (VPT, arXiv 2203.12119) and of the
text tower (ViFi-CLIP, arXiv 2212.03640).

Shapes: N images, L tokens, C width of the image tower; K classes, n rows, W width of the text tower; M learned tokens.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from clip import ClipModel
from modules.adapters.adapter import Adapter
from modules.classifiers.learned_context import context_places, encode_with_context
from modules.classifiers.rules import has_one_prompt
from modules.classifiers.trained import TrainedClassifier
from modules.tower_blocks import ImageTower, tower_blocks
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.schema import Config

STD = 0.02  # standard deviation of the initial tokens, as published


class ImagePrompts(nn.Module):
    """M learned tokens for each of the first blocks, after the tokens of an image."""

    def __init__(self, depth: int, num_tokens: int, width: int):
        super().__init__()
        self.tokens = nn.Parameter(STD * torch.randn(depth, num_tokens, width))

    def append(self, x: torch.Tensor) -> torch.Tensor:
        """The embeddings (N, L, C) -> (N, L + M, C)."""
        return torch.cat([x, self._of(0, x)], dim=1)

    def replace(self, block: int, x: torch.Tensor) -> torch.Tensor:
        """Replace the learned tokens at the input of a later block with its own."""
        return torch.cat([self.drop(x), self._of(block, x)], dim=1)

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        """(N, L + M, C) -> (N, L, C), so that towers which pool all tokens pool only those of the image."""
        return x[:, : -self.tokens.shape[1]]

    def _of(self, block: int, x: torch.Tensor) -> torch.Tensor:
        return self.tokens[block].to(x.dtype).expand(len(x), -1, -1)


class DeepPrompts(Adapter):
    """The defaults are those of ViFi-CLIP. The initial model differs from CLIP because of the random tokens."""

    class Settings(Section):
        tokens: int = key(10, "M, learned tokens per block in both towers", "tokens", ge=1)
        visual_depth: int = key(12, "number of first blocks of the image tower with learned tokens", "blocks", ge=0)
        text_depth: int = key(12, "likewise for the text tower; 0: frozen CLIP text", "blocks", ge=0)

    setting = "network.adapter: deep_prompts"
    new_parameters = r"^visual\.deep_prompts\."

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        own = cls.settings(cfg)
        depth = min(own.visual_depth, len(tower.blocks))
        if depth == 0:
            return
        prompts = ImagePrompts(depth, own.tokens, tower.width)
        tower.visual.deep_prompts = prompts
        tower.before_norm_pre(prompts.append)
        for number, block in enumerate(tower.blocks[1:depth], 1):
            block.before_attention.insert(0, partial(prompts.replace, number))
        tower.blocks[-1].after_mlp.append(prompts.drop)
        cls.recompute(tower, cfg)


class TextPrompts(TrainedClassifier):
    """Learned tokens of the text tower: M before each class name, which are replaced at the input of later blocks.

    The text of a class is "<tokens> name.".

    Args:
        tokens: (K, context_length) int64, with placeholders for the learned tokens.
        places: (K, M) int64, positions of the placeholders.
        prompts: (depth, M, W), shared, not copied.
    """

    tokens: torch.Tensor
    places: torch.Tensor
    mark = "prompts"
    absent = "no learned tokens of the text tower; set components.deep_prompts.text_depth=0"

    def __init__(self, tokens: torch.Tensor, places: torch.Tensor, prompts: nn.Parameter):
        super().__init__()
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.prompts = prompts

    @classmethod
    def is_asked_for(cls, cfg: Config) -> bool:
        return cfg.network.adapter == "deep_prompts" and DeepPrompts.settings(cfg).text_depth > 0

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, names: list[str], text: torch.Tensor | None) -> "TextPrompts":
        own = DeepPrompts.settings(cfg)
        if not cfg.network.fix_text or not has_one_prompt(cfg):
            raise UserError(
                "components.deep_prompts.text_depth: needs a single prompt and a frozen text tower; set "
                "network.fix_text=true, classifier=clip_text and prompt_set=null, or text_depth to 0"
            )
        tokens, places = context_places(clip_model, names, own.tokens, "end", "components.deep_prompts.tokens")
        text_tower: Any = clip_model.text  # has CLIP's token embedding, as checked by `context_places`
        blocks = tower_blocks(text_tower.transformer.resblocks)
        width = text_tower.token_embedding.embedding_dim
        prompts = nn.Parameter(STD * torch.randn(min(own.text_depth, len(blocks)), own.tokens, width))
        classifier = cls(tokens, places, prompts)
        for number, block in enumerate(blocks[1 : len(prompts)], 1):
            block.before_attention.append(partial(_replace, classifier, number))
        return classifier

    def of_classes(self, cfg: Config, clip_model: ClipModel, names: list[str]) -> "TextPrompts":
        num_tokens = self.prompts.shape[1]
        tokens, places = context_places(clip_model, names, num_tokens, "end", "components.deep_prompts.tokens")
        return TextPrompts(tokens, places, self.prompts)

    @staticmethod
    def describe(state: dict[str, torch.Tensor]) -> str:
        depth, num_tokens, _ = state["prompts"].shape
        return (
            f"{num_tokens} learned tokens of {depth} blocks of the text tower; set network.adapter=deep_prompts, "
            f"components.deep_prompts.tokens={num_tokens} and text_depth={depth}"
        )

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        return f"contains {self.describe(state)}" if state["prompts"].shape != self.prompts.shape else None

    def forward(self, text: nn.Module, rows: torch.Tensor | None = None) -> torch.Tensor:
        tokens, places = self.tokens, self.places
        if rows is not None:
            tokens, places = tokens[rows], places[rows]
        return encode_with_context(text, tokens, places, self.prompts[0])


def _replace(classifier: TextPrompts, block: int, x: torch.Tensor) -> torch.Tensor:
    """Replace tokens 1..M of (n, context_length, W) with those of a later block."""
    tokens = classifier.prompts[block].to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], dim=1)
