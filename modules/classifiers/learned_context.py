"""`context_tokens`: learned vectors instead of words around the class name (CoOp, arXiv 2109.01134).

K classes, n rows, D embedding, M context tokens, L tokens of a text, W width of the text tower.
"""

from collections.abc import Sequence

import torch
from torch import nn

from clip import ClipModel
from modules.classifiers.trained import TrainedClassifier
from modules.classifiers.trained_matrix import other_number_of_classes
from utils.errors import UserError
from utils.schema import Config, NetworkConfig

PLACEHOLDER = "x"  # a word of one token, to be replaced by a learned vector
CONTEXT_STD = 0.02  # of a random context


class LearnedContext(TrainedClassifier):
    """M learned vectors, shared by the classes or separate for each class.

    Args:
        tokens: (K, L) int64, with placeholders for the context.
        places: (K, M) int64, positions of the placeholders in each row.
        context: initial context, (M, W) if shared or (K, M, W) per class.
    """

    mark = "context"
    absent = "no learned context; set network.context_tokens=0"
    tokens: torch.Tensor
    places: torch.Tensor

    def __init__(self, tokens: torch.Tensor, places: torch.Tensor, context: torch.Tensor):
        super().__init__()
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.context = nn.Parameter(context.detach().float().clone())

    @classmethod
    def is_asked_for(cls, cfg: Config) -> bool:
        return cfg.network.context_tokens > 0

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, names: list[str], text: torch.Tensor | None) -> "LearnedContext":
        network = cfg.network
        tokens, places = context_places(clip_model, names, network.context_tokens, network.context_position)
        context = _start(clip_model, network.context_tokens, network.context_init)
        return cls(tokens, places, context.expand(len(names), -1, -1) if network.context_per_class else context)

    @classmethod
    def own_classes(cls, network: NetworkConfig) -> str | None:
        return "network.context_per_class" if network.context_per_class else None

    def of_classes(self, cfg: Config, clip_model: ClipModel, names: list[str]) -> "LearnedContext":
        tokens, places = context_places(clip_model, names, len(self.context), cfg.network.context_position)
        return LearnedContext(tokens, places, self.context)

    @staticmethod
    def describe(state: dict[str, torch.Tensor]) -> str:
        num_tokens = state["context"].shape[-2]
        return f"a learned context of {num_tokens} tokens; set network.context_tokens={num_tokens}"

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        saved, own = state["context"], self.context
        if saved.shape[-2] != own.shape[-2]:
            return f"contains {self.describe(state)}"
        if saved.ndim != own.ndim:
            is_per_class = "true" if saved.ndim == 3 else "false"
            return f"its learned context has a different shape; set network.context_per_class={is_per_class}"
        return other_number_of_classes(saved, own) if own.ndim == 3 else None

    def forward(self, text: nn.Module, rows: torch.Tensor | None = None) -> torch.Tensor:
        tokens, places, context = self.tokens, self.places, self.context
        if rows is not None:
            tokens, places = tokens[rows], places[rows]
            context = context[rows] if context.ndim == 3 else context
        return encode_with_context(text, tokens, places, context)


def encode_with_context(
    text: nn.Module, tokens: torch.Tensor, places: torch.Tensor, context: torch.Tensor
) -> torch.Tensor:
    """(n, D) embeddings by the text tower of tokens (n, L), whose vectors at the positions `places` (n, M) are replaced
    by `context`, (M, W) or (n, M, W)."""

    def insert(module: nn.Module, inputs: tuple, embedded: torch.Tensor) -> torch.Tensor:
        where = places[..., None].expand(-1, -1, embedded.shape[-1])
        return embedded.scatter(1, where, context.to(embedded.dtype).expand(len(tokens), -1, -1))

    # Every text tower of open_clip has a token embedding of this name.
    hook = _token_embedding(text).register_forward_hook(insert)
    try:
        return text(tokens)
    finally:
        hook.remove()


def context_places(
    clip_model: ClipModel, names: Sequence[str], num_tokens: int, position: str, setting: str = "network.context_tokens"
) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, L) tokens of the classes with placeholders for a context of M = `num_tokens`, and their (K, M) positions.

    The text of a class is "context name.". `position` is that of the name: end, front, or middle (after the first half
    of the context). Underscores in names are spaces, as in the code of CoOp and ViFi-CLIP. Raises a UserError if a name
    is too long with the context, or the text tower or tokenizer is not CLIP's.
    """
    if not isinstance(getattr(clip_model.text, "token_embedding", None), nn.Embedding):
        raise UserError(f"{setting}: this text tower does not support a learned context; CLIP's does")
    names = [name.replace("_", " ") for name in names]
    before = {"end": num_tokens, "front": 0, "middle": num_tokens // 2}[position]
    after = num_tokens - before
    texts = [" ".join([PLACEHOLDER] * before + [name] + [PLACEHOLDER] * after) + "." for name in names]
    lengths = torch.tensor([_length(clip_model, name) for name in names])
    context_length = clip_model.tokenize(names[:1]).shape[1]
    for name, length in zip(names, lengths.tolist()):
        if num_tokens + length + 3 > context_length:  # start, full stop, end
            raise UserError(
                f"{setting} {num_tokens}: with them the class {name!r} does not fit into {context_length} tokens"
            )
    tokens = clip_model.tokenize(texts)
    number = torch.arange(num_tokens)
    # 1: the start token. Tokens after the name are shifted by its length.
    places = 1 + number[None] + (number[None] >= before) * lengths[:, None]
    if not (tokens.gather(1, places) == clip_model.tokenize([PLACEHOLDER])[0, 1]).all():
        raise UserError(f"{setting}: this model's tokenizer does not support a learned context; CLIP's does")
    return tokens, places


def _start(clip_model: ClipModel, num_tokens: int, init: str | None) -> torch.Tensor:
    """(M, W) initial values of the context: embeddings of the words `init`, or normally distributed. Raises a UserError
    if `init` has a different number of tokens."""
    if init is None:
        return CONTEXT_STD * torch.randn(num_tokens, _token_embedding(clip_model.text).embedding_dim)
    length = _length(clip_model, init)
    if length != num_tokens:
        raise UserError(
            f"network.context_init {init!r}: has {length} tokens; set context_tokens to {length}, or change the words"
        )
    tokens = clip_model.tokenize([init])[0, 1 : 1 + num_tokens]
    return _token_embedding(clip_model.text)(tokens).detach()


def _token_embedding(text: nn.Module) -> nn.Embedding:
    embedding = text.get_submodule("token_embedding")
    assert isinstance(embedding, nn.Embedding)
    return embedding


def _length(clip_model: ClipModel, words: str) -> int:
    """Number of tokens of the words, without start and end token."""
    row = clip_model.tokenize([words])[0]
    return int(row.argmax()) - 1  # CLIP's end token has the highest number
