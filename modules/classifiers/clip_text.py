"""`classifier: clip_text`: the prompts of the classes through CLIP's text tower."""

import torch

from clip import ClipModel
from modules.classifiers.classifier import Classifier
from modules.prompts import class_prompts
from modules.text_classifier import class_embeddings
from utils.schema import Config


class ClipText(Classifier):
    takes_any_names = True

    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        prompts = class_prompts(names, cfg.network.prompt, cfg.network.prompt_set)
        return class_embeddings(clip_model, names, prompts, cfg.logging.cache_dir, device)
