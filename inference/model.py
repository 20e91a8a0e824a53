"""A loaded video model: from weights to embeddings, class names and probabilities.

    from inference import load_model

    model = load_model("exp/my/best_model.pt", classes=["riding a bike", "cooking"])
    print(model.predict("video.mp4"))

Legend: B clips, T frames, C=3 channels, H,W image, S input size, D embedding, K classes, W windows.
"""

import copy
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from datasets.lists import read_labels
from inference.frames import Video
from inference.timeline import MAX_STRIPS, VideoPrediction, collect, spread
from inference.video_inputs import read_class_names
from inference.windows import Window, build_window_reader
from modules.attribution import ShownClip, explain
from modules.build import build_model, build_text, load_clip_model
from modules.checkpoint_layout import load_video_weights, saved_class_names, saved_config, warn_of_other_classifier
from modules.classifiers.classifier import Classifier
from modules.classifiers.trained import trained_classifier
from modules.embed import VideoTable, are_sound, unsound_message
from modules.pixels import with_preprocessing
from modules.scorers.scorer import scorer_state
from modules.text_classifier import text_weights_hash
from modules.validation import text_matrix
from utils.checkpoint import load_checkpoint
from utils.config import Resolved, dump_config, load_config, resolve_config
from utils.errors import UserError
from utils.hashing import file_hash
from utils.metrics import softmax
from utils.precision import autocast, resolve_precision
from utils.project_paths import REPOSITORY
from utils.recipe import Recipe
from utils.schema import Config, NetworkConfig
from utils.schema_rules import Purpose

DEFAULT_CLASSES = REPOSITORY / "lists" / "kinetics_400_labels.csv"
NAMES_PER_TURN = 32
"""Number of class names that are embedded while the lock of a shared model is held; each may have several prompts."""
log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A loaded checkpoint file; `state` is from `utils.checkpoint.load_checkpoint`, `sha256` the hash of the file."""

    path: str
    state: dict[str, Any]
    sha256: str | None = None

    @property
    def class_names(self) -> list[str]:
        """The training classes; empty if unknown."""
        return saved_class_names(self.state)

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.path, saved_config(self.state), self.class_names)

    def config(self, path: str | Path | None, overrides: Sequence[str], purpose: Purpose) -> Resolved:
        """The config of a command on this checkpoint, from its recipe and the user's options (`utils.recipe`)."""
        resolved = resolve_config(path, overrides, purpose, self.recipe)
        return resolved._replace(config=with_preprocessing(resolved.config))


def read_checkpoint(path: str | Path, with_hash: bool = False) -> Checkpoint:
    """Read a checkpoint file and, if `with_hash`, its hash. Raises a UserError if it is missing or corrupted."""
    path = Path(path)
    while True:
        before = path.stat() if path.is_file() else None
        state = load_checkpoint(path)
        sha256 = file_hash(path) if with_hash else None
        # A training that writes last_model.pt may have replaced it between the two.
        if before is None or sha256 is None or os.path.samestat(before, path.stat()):
            return Checkpoint(str(path), state, sha256)


class VideoModel:
    """A video model in evaluation mode on its device, with its classes; created by `load_model`.

    Attributes:
        cfg: its config.
        network: the PyTorch module.
        class_names: K names. `with_classes` returns the same model with others.
        class_matrix: float32 (K,D), class embeddings, not normalised; (K,S,D) if the scorer uses words.
        trained_classes: names of the training classes; empty if unknown.
        text_tower: hash of CLIP's frozen text tower; empty if the text was trained.
        device, precision: where and how the model computes; precision is fp32, bf16 or fp16.
        description: description of the model in one line.
        reader: reads videos as clips for this model.
    """

    def __init__(self, cfg: Config, class_names: Sequence[str], checkpoint: Checkpoint | None, device: torch.device):
        """Build the model of `cfg` on `device`, with the weights of a checkpoint or, for None, of CLIP.

        Raises:
            UserError: the weights are missing, corrupted or of another model, or a class name cannot be encoded.
        """
        self.cfg = cfg = with_preprocessing(cfg)
        self.class_names, self.device = list(class_names), device
        self.precision = resolve_precision(cfg.solver.precision, device)
        self.trained_classes = checkpoint.class_names if checkpoint else []
        self._clip_model = load_clip_model(cfg)
        self.text_tower = "" if trained_classifier(cfg) else text_weights_hash(self._clip_model)
        text = build_text(cfg, self._clip_model, self.class_names, device)
        self.network = build_model(cfg, self._clip_model, self.class_names, text)
        frames = f"{cfg.data.num_frames} frames"
        self.description = f"CLIP {cfg.network.arch}, not fine-tuned: mean of {frames}, no checkpoint"
        if checkpoint:
            self.load(checkpoint)
            self.network.merge_adapter()
            warn_of_other_classifier(cfg, checkpoint.state, checkpoint.path)
            self.description = f"{checkpoint.path}: {cfg.network.arch}, {_structure(cfg.network)}, {frames}"
        self.network.to(device).eval()
        self.class_matrix = text_matrix(self.network, None if self.network.classifier else text)
        if not are_sound(torch.from_numpy(self.class_matrix)).all():
            raise UserError(f"{self.description}: a class embedding is zero or not finite; use another checkpoint")
        self.reader = build_window_reader(cfg)

    def load(self, checkpoint: Checkpoint) -> None:
        """Load the weights of a checkpoint. Raises a UserError if they belong to a different model."""
        load_video_weights(self.network, checkpoint.state, checkpoint.path)

    def with_classes(self, classes: str | Sequence[str], turn: AbstractContextManager | None = None) -> "VideoModel":
        """The same model with other classes. The network is shared; this object is not changed.

        Args:
            classes: list of names, comma-separated names, or a CSV file `id,name`.
            turn: the lock of a model that others use meanwhile, held for NAMES_PER_TURN names at a time. None: all
                names are embedded at once, with one file in `logging.cache_dir`.

        Raises:
            UserError: the names are invalid, or the class embeddings are those of the training classes.
        """
        names = read_class_names(classes)
        if names == self.class_names:
            return self
        check_other_classes(self.cfg)
        num_at_once = len(names) if turn is None else NAMES_PER_TURN
        parts = []
        for start in range(0, len(names), num_at_once):
            with turn or nullcontext():
                parts.append(self._encode(names[start : start + num_at_once]))
        other = copy.copy(self)
        other.class_names, other.class_matrix = names, np.concatenate(parts)
        return other

    @torch.no_grad()
    def _encode(self, names: list[str]) -> np.ndarray:
        """float32 (K,D) class embeddings of new names."""
        classifier = self.network.classifier
        if classifier is None:
            return build_text(self.cfg, self._clip_model, names, self.device).numpy()
        other = classifier.of_classes(self.cfg, self._clip_model, names)
        return other.to(self.device)(self.network.text).float().cpu().numpy()

    @torch.inference_mode()
    def embed(self, clips: torch.Tensor | np.ndarray, name: str = "a clip") -> np.ndarray:
        """float32 (B,D) embeddings, not normalised, of uint8 clips (B,T,C,S,S) from `clips`.

        (B,R,D) if the scorer needs R rows per clip.

        Raises:
            UserError: an embedding is zero or not finite.
        """
        with autocast(self.precision, self.device):
            embeddings = self.network.video_features(torch.as_tensor(clips).to(self.device)).float().cpu()
        if not are_sound(embeddings).all():
            raise UserError(unsound_message(name))
        return embeddings.numpy()

    @torch.inference_mode()
    def embed_frames(self, clips: torch.Tensor | np.ndarray) -> np.ndarray:
        """float32 (B,T,D) embeddings of each frame, before the temporal head; (B,1,D) with `network.joint_st`."""
        with autocast(self.precision, self.device):
            return self.network.encode_frames(torch.as_tensor(clips).to(self.device)).float().cpu().numpy()

    def classify(self, embeddings: np.ndarray) -> np.ndarray:
        """float32 (B,K) class probabilities for the output of `embed`: softmax of the scorer's logits."""
        rows = embeddings if embeddings.ndim == 2 else embeddings[:, None]
        return softmax(self.network.scorer.table_logits(rows, self.class_matrix, self.device))

    def explain(self, clip: torch.Tensor, label: int, text: torch.Tensor | None = None) -> ShownClip:
        """A clip with what supports a class in it; see `modules.attribution`.

        Args:
            clip: uint8 (T,C,S,S). label: number of the class.
            text: (K,D) class embeddings on the device; None: those of `class_matrix`.
        """
        if text is None:
            text = torch.from_numpy(self.class_matrix).to(self.device)
        with autocast(self.precision, self.device):
            return explain(self.network, clip.to(self.device), text, label, self.cfg.data.batch_size)

    def explained(self, prediction: VideoPrediction, turn: AbstractContextManager | None = None) -> VideoPrediction:
        """A prediction whose clips, at most six, have what supports the top class of their window, for pictures.

        Args:
            turn: the lock of a model that others use meanwhile; it is held for one clip at a time.
        """
        clips = []
        for number, clip in spread(prediction.clips, MAX_STRIPS):
            with turn or nullcontext():
                clips.append((number, self.explain(clip.frames, int(prediction.probabilities[number].argmax()))))
        return replace(prediction, clips=tuple(clips))

    def clips(
        self, video: Video, window: float | None = 0, stride: float | None = None, **options: Any
    ) -> torch.Tensor:
        """uint8 (W,T,C,S,S), the clips of a video for `embed`; by default one for the whole video."""
        return torch.stack([read.clip for read in self.reader.windows(video, window, stride, **options)])

    def predict(
        self,
        video: Video,
        window: float | None = None,
        stride: float | None = None,
        threshold: float = 0.0,
        fps: float = 25,
    ) -> VideoPrediction:
        """The classes of a video over time.

        Args:
            video: a file, a folder of frames, a stream that ends, or frames: uint8 (N,H,W,3) or (N,3,H,W), RGB.
            window, stride: seconds; see `inference.windows.WindowReader.windows`.
            threshold: if the top probability is lower, the class is `unknown`.
            fps: frames per second of a folder of frames or an array.

        Raises:
            UserError: the video is missing or corrupted, or its embedding is not finite.
        """
        name = str(video) if isinstance(video, (str, Path, int)) else "frames"
        return self.predict_windows(self.reader.windows(video, window, stride, fps=fps), name, threshold)

    __call__ = predict

    def predict_windows(
        self, windows: Iterable[Window], name: str = "video", threshold: float = 0.0, batch_size: int | None = None
    ) -> VideoPrediction:
        """`predict` for windows that were already read.

        Args:
            batch_size: windows per forward pass; None: data.batch_size.
        """
        stream = self.stream(windows, name, batch_size or self.cfg.data.batch_size)
        return collect(stream, name, self.class_names, threshold)

    def stream(
        self, windows: Iterable[Window], name: str = "video", batch_size: int = 1
    ) -> Iterator[tuple[Window, np.ndarray]]:
        """Each window and its probabilities (K,), computed for `batch_size` windows at a time."""
        windows = iter(windows)
        while batch := list(itertools.islice(windows, batch_size)):
            yield from zip(batch, self.classify(self.embed(torch.stack([window.clip for window in batch]), name)))

    def signed(self, table: VideoTable, num_clips: int, num_crops: int) -> VideoTable:
        """A table of this model's embeddings, with everything that `text_for_table` needs."""
        return table._replace(
            views=(num_clips, num_crops),
            trained_classes=tuple(self.trained_classes),
            text_tower=self.text_tower,
            recipe=dump_config(self.cfg),
            scorer_state=scorer_state(self.network.scorer),
        )


def load_model(
    weights: str | Path | None = None,
    config: str | Path | None = None,
    classes: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    device: torch.device | str | None = None,
) -> VideoModel:
    """Load a video recognition model.

    Args:
        weights: a checkpoint of train.py, which contains its config and classes, or of another program, which needs
            `config`; None: CLIP without fine-tuning, with the mean of the frame embeddings.
        config: YAML file; None: the config of the checkpoint, or the defaults without weights.
        classes: list of names, comma-separated names, or a CSV file `id,name`; None: data.label_list of the config,
            then the classes of the checkpoint, then those of Kinetics-400.
        overrides: config keys to override, such as ["data.num_segments=16"].
        device: None: the first GPU, or the CPU.

    Raises:
        UserError: config, weights or classes are invalid.
    """
    names = None if classes is None else read_class_names(classes)
    checkpoint, (cfg, warnings, own_names) = resolve(weights, config, overrides, "predict")
    for warning in warnings:
        log.warning("%s", warning)
    names = names or own_names or _names_of(cfg)
    if checkpoint and names != (checkpoint.class_names or names):
        check_other_classes(cfg)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return VideoModel(cfg, names, checkpoint, device)


def _names_of(cfg: Config) -> list[str]:
    if cfg.data.label_list:
        return read_labels(cfg.data.label_list, cfg.data.num_classes)
    names = read_labels(DEFAULT_CLASSES)
    log.warning("no classes given; using the %d classes of Kinetics-400 (%s)", len(names), DEFAULT_CLASSES.name)
    return names


def text_for_table(cfg: Config, names: list[str], table: VideoTable, path: str) -> np.ndarray:
    """float32 (K,D) class embeddings of `cfg` for an existing table of video embeddings.

    Raises:
        UserError: the text side was trained, or the table was created with another CLIP.
    """
    if trained_classifier(cfg) or not table.text_tower:
        raise UserError(f"{path}: cannot be scored again because the text tower was trained; give --weights")
    clip_model = load_clip_model(cfg)
    if text_weights_hash(clip_model) != table.text_tower:
        raise UserError(
            f"{path}: was created with a different text tower than that of {cfg.network.arch} ({cfg.network.weights}); "
            "set network.arch and network.weights to those of the test that created it"
        )
    return build_text(cfg, clip_model, names).numpy()


def check_other_classes(cfg: Config) -> None:
    """Raise a UserError if the class embeddings are not computed from the names by CLIP's text tower."""
    network, trained = cfg.network, trained_classifier(cfg)
    if Classifier.named(network.classifier).takes_any_names:
        setting = trained.own_classes(network) if trained else None
    else:
        setting = f"network.classifier {network.classifier}"
    if setting is not None:
        raise UserError(
            f"{setting}: its class embeddings were trained and cannot be computed for other classes; remove the "
            "classes, or use a model with classifier clip_text"
        )


def resolve(
    weights: str | Path | None,
    config: str | Path | None,
    overrides: Sequence[str],
    purpose: Purpose,
    with_hash: bool = False,
) -> tuple[Checkpoint | None, Resolved]:
    """Checkpoint of a command, if any, and its config or that of `plain_clip`; `with_hash` as in `read_checkpoint`."""
    if weights:
        checkpoint = read_checkpoint(weights, with_hash)
        return checkpoint, checkpoint.config(config, overrides, purpose)
    cfg, warnings = load_config(config, overrides, purpose)
    return None, Resolved(with_preprocessing(plain_clip(cfg)), warnings, None)


def plain_clip(cfg: Config) -> Config:
    """The config without the keys that need a video checkpoint."""
    plain = {"sim_header": "None", "scorer": "cosine", "tm": False, "joint_st": False, "adapter": None}
    frozen = {"fix_text": True, "train_classifier": False, "context_tokens": 0}
    return cfg.model_copy(update={"network": cfg.network.model_copy(update=plain | frozen)})


def _structure(network: NetworkConfig) -> str:
    """A description of the temporal modelling: head, additions inside the tower."""
    if network.joint_st:
        return "joint space-time attention (joint_st)"
    parts = ["mean of frames" if network.sim_header == "None" else f"head {network.sim_header}"]
    if network.tm:
        parts.append(f"tm {network.tm}")
    if network.adapter is not None:
        parts.append(f"adapter {network.adapter}")
    return ", ".join(parts)
