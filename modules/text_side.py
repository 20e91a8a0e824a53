"""Class embeddings made inside the model, where the text side trains: `VideoCLIP.classifier`.

Each is a module that gives (K, D) class embeddings as they stand now, not normalised, or those of `rows` (n,) int64.
K classes, n rows, D embedding, M context tokens, L tokens of a text, W width of the text tower.
"""

from collections.abc import Sequence

import torch
from torch import nn

from clip import ClipModel
from modules.text_classifier import tokenize
from utils.errors import UserError

PLACEHOLDER = "x"  # a word of one token, where a learned vector will stand
CONTEXT_STD = 0.02  # of a random context (CoOp, arXiv 2109.01134)


class TrainedMatrix(nn.Module):
    """The matrix itself is the parameter."""

    def __init__(self, matrix: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(matrix.detach().float().clone())

    def forward(self, text: None, rows: torch.Tensor | None = None) -> torch.Tensor:
        return self.weight if rows is None else self.weight[rows]


class TrainedText(nn.Module):
    """One prompt a class, through a text tower that trains. It has no parameters of its own.

    Args:
        tokens: (K, L) int64.
    """

    def __init__(self, tokens: torch.Tensor):
        super().__init__()
        self.register_buffer("tokens", tokens, persistent=False)

    def forward(self, text: nn.Module, rows: torch.Tensor | None = None) -> torch.Tensor:
        return text(self.tokens if rows is None else self.tokens[rows])


class LearnedContext(nn.Module):
    """CoOp: M learned vectors stand in the text in place of words, beside the class name.

    Args:
        tokens: (K, L) int64, with a placeholder wherever the context goes.
        places: (K, M) int64, the placeholders' places in each row.
        context: (M, W) shared, or (K, M, W) for each class: where it starts from.
    """

    def __init__(self, tokens: torch.Tensor, places: torch.Tensor, context: torch.Tensor):
        super().__init__()
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.context = nn.Parameter(context.detach().float().clone())

    def forward(self, text: nn.Module, rows: torch.Tensor | None = None) -> torch.Tensor:
        tokens, places, context = self.tokens, self.places, self.context
        if rows is not None:
            tokens, places = tokens[rows], places[rows]
            context = context[rows] if context.ndim == 3 else context

        def insert(module: nn.Module, inputs: tuple, embedded: torch.Tensor) -> torch.Tensor:
            where = places[..., None].expand(-1, -1, embedded.shape[-1])
            return embedded.scatter(1, where, context.to(embedded.dtype).expand(len(tokens), -1, -1))

        # Where tokens become vectors is the one place that every text tower of open_clip has under this name.
        hook = text.token_embedding.register_forward_hook(insert)
        try:
            return text(tokens)
        finally:
            hook.remove()


def learned_context(
    clip_model: ClipModel, names: Sequence[str], num_tokens: int, init: str | None, position: str, per_class: bool
) -> LearnedContext:
    """A context of `num_tokens` for the classes `names`: "context name.", or as `position` says.

    Args:
        init: words that the context starts from; None: normal values of standard deviation 0.02.
        position: where the class name stands: end, front, or middle (after the first half of the context).
        per_class: a context for each class.

    Raises:
        UserError: a name too long beside the context, `init` of another length, a text tower or tokenizer of another
            kind than CLIP's.
    """
    if not isinstance(getattr(clip_model.text, "token_embedding", None), nn.Embedding):
        raise UserError("network.context_tokens: this text tower cannot take a learned context; CLIP's own can")
    before = {"end": num_tokens, "front": 0, "middle": num_tokens // 2}[position]
    after = num_tokens - before
    texts = [" ".join([PLACEHOLDER] * before + [name] + [PLACEHOLDER] * after) + "." for name in names]
    lengths = torch.tensor([_length(clip_model, name) for name in names])
    context_length = tokenize(clip_model, names[:1]).shape[1]
    for name, length in zip(names, lengths.tolist()):
        if num_tokens + length + 3 > context_length:  # start, full stop, end
            raise UserError(
                f"network.context_tokens {num_tokens}: leave no room for the class {name!r} in {context_length} tokens"
            )
    tokens = tokenize(clip_model, texts)
    number = torch.arange(num_tokens)
    # 1: the start token. What stands after the name is moved on by the name's length.
    places = 1 + number[None] + (number[None] >= before) * lengths[:, None]
    if not (tokens.gather(1, places) == tokenize(clip_model, [PLACEHOLDER])[0, 1]).all():
        raise UserError("network.context_tokens: this model's tokenizer cannot take a learned context; CLIP's own can")
    width = clip_model.text.token_embedding.embedding_dim
    start = _start(clip_model, num_tokens, init, width)
    return LearnedContext(tokens, places, start.expand(len(names), -1, -1) if per_class else start)


def _start(clip_model: ClipModel, num_tokens: int, init: str | None, width: int) -> torch.Tensor:
    """(M, W) values that the context starts from."""
    if init is None:
        return CONTEXT_STD * torch.randn(num_tokens, width)
    length = _length(clip_model, init)
    if length != num_tokens:
        raise UserError(
            f"network.context_init {init!r}: has {length} tokens; set context_tokens to {length}, or change the words"
        )
    tokens = tokenize(clip_model, [init])[0, 1 : 1 + num_tokens]
    return clip_model.text.token_embedding(tokens).detach()


def _length(clip_model: ClipModel, words: str) -> int:
    """How many tokens the words are, without start and end."""
    row = tokenize(clip_model, [words])[0]
    return int(row.argmax()) - 1  # CLIP's end token has the highest number
