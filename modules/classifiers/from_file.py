"""`classifier: lda` (tools/fit_lda.py) and `file`: rows of a file, by class name."""

import torch

from clip import ClipModel
from modules.classifier_file import load_classifier, rows_of
from modules.classifiers.classifier import Classifier
from utils.project_paths import given
from utils.schema import Config


class FromFile(Classifier):
    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        path = given(cfg.network.classifier_file)
        return rows_of(load_classifier(path), names, clip_model.embed_dim, path)
