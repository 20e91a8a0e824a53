"""The text is the classifier: prompts of the classes, through the frozen text tower, to a K x D matrix.

K classes, M templates, D embedding. The matrix is cached on disk by its content: the prompts, the text tower's weights
and this file's format version; data set and architecture do not enter.
"""

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from clip import ClipError, ClipModel
from utils.errors import UserError
from utils.files import atomic_path
from utils.hashing import content_hash

CACHE_VERSION = 1  # raise when the same prompts and weights would give another matrix or another file
BATCH_SIZE = 64  # prompts through the text tower at a time
log = logging.getLogger(__name__)


def text_weights_hash(clip_model: ClipModel) -> str:
    """SHA-256, in hex, of all that the text tower's outputs depend on but the prompts: its tensors and its shape."""
    assert clip_model.text is not None
    return content_hash([clip_model.text_config, clip_model.text.state_dict()])


def fill_templates(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Prompts, M of them for each of K names: every `{}` of a template becomes the name as listed.

    Raises:
        UserError: a template without `{}`.
    """
    for template in templates:
        if "{}" not in template:
            raise UserError(f"network.prompt {template!r}: must hold {{}} where the class name goes")
    return [[template.replace("{}", name) for template in templates] for name in names]


def encode_texts(clip_model: ClipModel, texts: Sequence[str], device: torch.device | None = None) -> torch.Tensor:
    """(N, D) float32 embeddings, not normalised, of N texts, on the CPU; the tower in float32, without gradient.

    Raises:
        UserError: the model's tokenizer has to be downloaded and cannot be.
    """
    assert clip_model.text is not None
    device = device or torch.device("cpu")
    try:
        tokens = clip_model.tokenize(list(texts))
    except ClipError as error:
        raise UserError(str(error)) from error
    text = clip_model.text.to(device)
    was_training = text.training
    text.eval()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        parts = [text(batch.to(device)).float().cpu() for batch in tokens.split(BATCH_SIZE)]
    text.train(was_training)
    return torch.cat(parts)


def encode_classes(
    clip_model: ClipModel, prompts: Sequence[Sequence[str]], device: torch.device | None = None
) -> torch.Tensor:
    """(K, D) float32 class embeddings of the prompts of each class.

    A class with one prompt gets that prompt's embedding as it comes; with several, the mean of their normalised
    embeddings, so that each counts the same (the ensembling of CLIP's paper, section 3.1.4).
    """
    counts = [len(of_class) for of_class in prompts]
    assert counts and min(counts) > 0
    embeddings = encode_texts(clip_model, [prompt for of_class in prompts for prompt in of_class], device)
    if max(counts) == 1:
        return embeddings
    return torch.stack([F.normalize(part, dim=-1).mean(dim=0) for part in embeddings.split(counts)])


def class_embeddings(
    clip_model: ClipModel,
    prompts: Sequence[Sequence[str]],
    cache_dir: str | Path | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """`encode_classes`, through the cache in the folder `cache_dir` (None: no cache).

    Several processes may call this at once with the same folder: files are whole or absent.
    """
    if cache_dir is None:
        return encode_classes(clip_model, prompts, device)
    key = content_hash([CACHE_VERSION, [list(of_class) for of_class in prompts], text_weights_hash(clip_model)])
    path = Path(cache_dir) / f"text-{key[:32]}.npz"
    cached = _read_cache(path, key, (len(prompts), clip_model.embed_dim))
    if cached is not None:
        return cached
    matrix = encode_classes(clip_model, prompts, device)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, matrix=matrix.numpy(), key=np.array(key))
    return matrix


def _read_cache(path: Path, key: str, shape: tuple[int, int]) -> torch.Tensor | None:
    """The matrix in a cache file; None, with a warning, for a damaged one, and None where there is none."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            matrix, stored_key = content["matrix"], str(content["key"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s: damaged text cache (%s); encoding the classes again", path, type(error).__name__)
        return None
    if stored_key != key or matrix.shape != shape or matrix.dtype != np.float32:
        log.warning("%s: a text cache of something else; encoding the classes again", path)
        return None
    return torch.from_numpy(matrix)
