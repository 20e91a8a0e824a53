"""Text classifier: embeds the prompts of the classes with CLIP's frozen text tower into a K x D matrix.

K classes, M prompts per class, D embedding. The matrix is cached on disk by a hash of names, prompts and the weights of
the text tower.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from open_clip.transformer import TextTransformer
from torch import nn
from torch.nn import functional as F

from clip import ClipModel
from modules.classifier_file import cached_classifier
from utils.errors import UserError
from utils.hashing import content_hash

BATCH_SIZE = 64  # prompts per forward pass of the text tower
CPU = torch.device("cpu")


def text_weights_hash(clip_model: ClipModel) -> str:
    """SHA-256, in hex, of the tensors and the structure of the text tower."""
    return content_hash([clip_model.text_config, clip_model.text.state_dict()])


def encode_texts(clip_model: ClipModel, texts: Sequence[str], device: torch.device = CPU) -> torch.Tensor:
    """(N, D) float32 embeddings of N texts on the CPU, not normalised; computed in float32 without gradient."""
    tokens = clip_model.tokenize(texts)
    text = clip_model.text.to(device)
    was_training = text.training
    text.eval()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        parts = [text(batch.to(device)).float().cpu() for batch in tokens.split(BATCH_SIZE)]
    text.train(was_training)
    return torch.cat(parts)


def class_features_of_words(clip_model: ClipModel, texts: Sequence[str], device: torch.device = CPU) -> torch.Tensor:
    """(K, 1 + W, D) float32 on the CPU for K texts: the embedding from `encode_texts`, then each of the W tokens after
    the tower's last norm and projection. Raises a UserError if the text tower is not from open_clip."""
    text = clip_model.text
    if not isinstance(text, TextTransformer) or not isinstance(text.text_projection, nn.Parameter):
        raise UserError("word embeddings are only supported for CLIP's text towers; use another network.arch")
    words: list[torch.Tensor] = []
    # The tower only returns the embedding; the tokens are the output of its last norm.
    hook = text.ln_final.register_forward_hook(
        lambda module, inputs, output: words.append((output @ text.text_projection).float().cpu())
    )
    try:
        embeddings = encode_texts(clip_model, texts, device)
    finally:
        hook.remove()
    return torch.cat([embeddings[:, None], torch.cat(words)], dim=1)


def encode_classes(clip_model: ClipModel, prompts: Sequence[Sequence[str]], device: torch.device = CPU) -> torch.Tensor:
    """(K, D) float32 class embeddings of the prompts of each class, see `merge_prompts`."""
    texts = [prompt for of_class in prompts for prompt in of_class]
    return merge_prompts(encode_texts(clip_model, texts, device), [len(of_class) for of_class in prompts])


def merge_prompts(embeddings: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """(K, D) class embeddings of the (sum of counts, D) embeddings of the classes' prompts.

    A class with one prompt gets its embedding unchanged; with several, the mean of their normalised embeddings, so that
    all have the same weight (ensembling as in section 3.1.4 of CLIP's paper).
    """
    assert counts and min(counts) > 0
    if max(counts) == 1:
        return embeddings
    return torch.stack([F.normalize(part, dim=-1).mean(dim=0) for part in embeddings.split(list(counts))])


def class_embeddings(
    clip_model: ClipModel,
    names: Sequence[str],
    prompts: Sequence[Sequence[str]],
    cache_dir: str | Path | None = None,
    device: torch.device = CPU,
) -> torch.Tensor:
    """`encode_classes`, cached in the folder `cache_dir` (None: no cache)."""
    encode = partial(encode_classes, clip_model, prompts, device)
    source_hash = partial(text_weights_hash, clip_model)
    return cached_classifier(cache_dir, "clip_text", names, prompts, source_hash, encode)
