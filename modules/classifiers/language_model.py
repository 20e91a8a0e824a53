"""`classifier: language_model`: the class names through another text encoder.

K classes, D embedding of the image tower, E embedding of a language model.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from clip import ClipModel
from clip.download import announce_hub_download
from modules.classifier_file import cached_classifier
from modules.classifiers.classifier import Classifier
from modules.classifiers.drawn_rows import orthonormal_columns
from modules.prompts import class_prompts
from modules.text_classifier import BATCH_SIZE, merge_prompts
from utils.errors import UserError, first_line
from utils.hashing import content_hash
from utils.schema import Config

MAP_SEED = 0  # seed of the fixed projection from the width of the language model to that of the image tower
log = logging.getLogger(__name__)


class LanguageModelText(Classifier):
    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        network, width = cfg.network, clip_model.embed_dim
        prompts = class_prompts(names, "{}", network.prompt_set)  # only the names, as in the paper
        model = LanguageModel(network.language_model, network.language_pooling)
        make = partial(model.encode_classes, prompts, width)
        return cached_classifier(
            cfg.logging.cache_dir, "language_model", names, prompts, lambda: [model.source(), width], make
        )


class LanguageModel:
    """A frozen text encoder of transformers; for encoder-decoder models the encoder.

    Args:
        name: name of an encoder in transformers, or a folder.
        pooling: `mean` over the tokens, or `cls`, the first token.

    Raises:
        UserError: transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, name: str, pooling: str):
        try:
            import transformers
        except ImportError as error:
            raise UserError(
                "network.classifier language_model: transformers is not installed; run 'pip install transformers'"
            ) from error
        self._pooling = pooling
        try:
            announce_hub_download(f"language model {name}", name, "config.json", "give a local folder")
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(name)
            if self._tokenizer.pad_token is None:  # as for GPT-2; padding is masked, so any token can be used
                self._tokenizer.pad_token = self._tokenizer.eos_token
            model = transformers.AutoModel.from_pretrained(name).float().eval()
            self._model = model.get_encoder() if model.config.is_encoder_decoder else model
            self.encode(["a sentence", "and one of a different length"])
        except Exception as error:  # models of all kinds may fail in any way, and some do not accept text
            raise UserError(
                f"network.language_model {name}: could not be loaded, or does not encode text ({first_line(error)}); "
                "use the name of an encoder in transformers, or a folder with one"
            ) from error

    def source(self) -> Any:
        """What the embeddings depend on besides the texts, for hashing."""
        vocabulary = self._tokenizer.get_vocab()
        return [self._model.config.to_dict(), content_hash(self._model.state_dict()), vocabulary, self._pooling]

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, E) float32 embeddings of N texts."""
        parts = []
        for start in range(0, len(texts), BATCH_SIZE):
            batch = list(texts[start : start + BATCH_SIZE])
            tokens = self._tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            ids, mask = tokens["input_ids"], tokens["attention_mask"]
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            if self._pooling == "cls":
                parts.append(hidden[:, 0])
            else:
                mask = mask[..., None]
                parts.append((hidden * mask).sum(1) / mask.sum(1))
        return torch.cat(parts)

    def encode_classes(self, prompts: Sequence[Sequence[str]], width: int) -> torch.Tensor:
        """(K, D) class embeddings of the prompts of each class, projected to D = `width` by `fit_width`."""
        embeddings = self.encode([text for of_class in prompts for text in of_class])
        return fit_width(merge_prompts(embeddings, [len(of_class) for of_class in prompts]), width)


def fit_width(embeddings: torch.Tensor, width: int) -> torch.Tensor:
    """(K, E) -> (K, D = `width`) by a fixed random projection, the same for all lists of classes.

    Cosines are preserved if D >= E, otherwise approximately (Johnson and Lindenstrauss), with a warning.
    """
    own = embeddings.shape[1]
    if own == width:
        return embeddings
    if own > width:
        log.warning("language model: its %d values are projected to the image tower's %d", own, width)
        projection = orthonormal_columns(own, width, MAP_SEED)
    else:
        projection = orthonormal_columns(width, own, MAP_SEED).T
    return embeddings @ torch.from_numpy(projection.astype(np.float32))
