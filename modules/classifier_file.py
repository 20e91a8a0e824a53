"""Files of class embeddings with their sources, and a cache of them.

K classes, D embedding. A file is an .npz without pickles: `matrix` float32 (K, D), `class_names` (K,), `kind`,
`prompts` (JSON: M texts for each class), `source_hash` and `content_hash` (SHA-256 in hex).
"""

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from utils.archives import check_archive_sizes
from utils.errors import UserError, first_line
from utils.files import atomic_path
from utils.hashing import content_hash

FORMAT_VERSION = 1  # increase if the matrix or the file format changes for the same sources
log = logging.getLogger(__name__)


class ClassifierFile(NamedTuple):
    """A classifier and where it came from."""

    matrix: torch.Tensor  # float32 (K, D), not normalised
    class_names: list[str]  # K names, in the order of the rows
    kind: str  # as in `network.classifier`
    prompts: list[list[str]]  # the M texts of each class; empty if there are none
    source_hash: str  # hash of everything the matrix depends on: names, texts, weights, seed ...


class _CorruptedFile(Exception):
    pass


def save_classifier(path: str | Path, classifier: ClassifierFile) -> None:
    """Write a classifier atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            matrix=classifier.matrix.numpy(),
            class_names=np.array(classifier.class_names),
            kind=np.array(classifier.kind),
            prompts=np.array(json.dumps(classifier.prompts, ensure_ascii=False)),
            source_hash=np.array(classifier.source_hash),
            content_hash=np.array(content_hash(list(classifier))),
        )


def load_classifier(path: str | Path) -> ClassifierFile:
    """Read what `save_classifier` wrote. Raises a UserError if the file is missing, corrupted, or not a classifier
    file."""
    if not Path(path).is_file():
        raise UserError(
            f"{path}: no such classifier file; python -m tools.fit_lda writes one, and every run saves its own in "
            "logging.cache_dir"
        )
    try:
        return _load(path)
    except _CorruptedFile as damage:
        raise UserError(f"{path}: corrupted or truncated classifier file ({damage}); create it again") from damage


def rows_of(classifier: ClassifierFile, names: Sequence[str], width: int, source: str) -> torch.Tensor:
    """(K, D) rows of the classes `names`, in this order. Raises a UserError if a class is missing, or the embeddings
    have another width."""
    if classifier.matrix.shape[1] != width:
        raise UserError(
            f"{source}: its class embeddings have {classifier.matrix.shape[1]} dimensions, but the image tower has "
            f"{width}; it was created for another network.arch"
        )
    if list(names) == classifier.class_names:
        return classifier.matrix
    rows = {name: row for row, name in enumerate(classifier.class_names)}
    missing = [name for name in names if name not in rows]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of the {len(names)} classes are missing, such as {', '.join(missing[:4])}"
        )
    return classifier.matrix[[rows[name] for name in names]]


def cached_classifier(
    cache_dir: str | Path | None,
    kind: str,
    names: Sequence[str],
    prompts: Sequence[Sequence[str]],
    source: Callable[[], Any],
    make: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """The float32 (K, D) matrix computed by `make`, cached in the folder `cache_dir` (None: no cache) by its sources.

    Several processes may use the folder at the same time, because files are written atomically. If it is not writable,
    a warning is logged.

    Args:
        source: gives what the matrix depends on besides kind, names and prompts, as nested data for `content_hash`.
    """
    if cache_dir is None:
        return make()
    prompts = [list(of_class) for of_class in prompts]
    source_hash = content_hash([FORMAT_VERSION, kind, list(names), prompts, source()])
    path = Path(cache_dir) / f"classifier-{kind}-{source_hash[:32]}.npz"
    if os.path.exists(path):  # noqa: PTH110 - Path.exists raises without permission
        try:
            cached = _load(path)
            if cached.source_hash != source_hash:
                raise _CorruptedFile("it belongs to other inputs")
            return cached.matrix
        except _CorruptedFile as damage:
            log.warning("%s: corrupted cache of class embeddings (%s); computing them again", path, damage)
    matrix = make()
    try:
        save_classifier(path, ClassifierFile(matrix, list(names), kind, prompts, source_hash))
        log.info("class embeddings (%s) computed and saved: %s", kind, path)
    except OSError as error:
        log.warning(
            "WARNING: logging.cache_dir: %s cannot be written (%s); class embeddings are computed each time",
            cache_dir,
            error.strerror,
        )
    return matrix


def _load(path: str | Path) -> ClassifierFile:
    try:
        check_archive_sizes(path)
        with np.load(path, allow_pickle=False) as file:
            classifier = ClassifierFile(
                matrix=torch.from_numpy(file["matrix"]),
                class_names=file["class_names"].tolist(),
                kind=str(file["kind"]),
                prompts=json.loads(str(file["prompts"])),
                source_hash=str(file["source_hash"]),
            )
            stored_hash = str(file["content_hash"])
    except Exception as error:  # zipfile, its decoders and NumPy's parser raise anything on arbitrary bytes
        raise _CorruptedFile(first_line(error)) from error
    if stored_hash != content_hash(list(classifier)):
        raise _CorruptedFile("its content was modified")
    return classifier
