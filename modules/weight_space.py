"""Interpolation between pretrained CLIP and a fine-tuned model (WiSE-FT, arXiv 2109.01903), and averages.

Shapes: B batch, D embedding, A mixing weights.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from modules.adapters.adapter import Adapter
from modules.additions.addition import owner_of
from modules.checkpoint_layout import saved_class_names, saved_config, saved_network, to_model_state
from modules.video_clip import VideoCLIP
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

State = dict[str, torch.Tensor]

# Keys that, besides the weights, determine what a model computes or which text its embeddings match.
_SAME_IN_CONFIG = ("arch", "weights", "tm", "adapter", "joint_st", "sim_header", "scorer", "prompt", "classifier")


def pretrained_counterpart(model: VideoCLIP, fresh: State, head: str) -> State:
    """The tensors at mixing weight 0 for a fine-tuned model.

    CLIP's weights, and the initial values of additions inside the tower; of an adapter's `factors` the tuned ones. For
    the temporal head, which CLIP does not have, `head` is:
        fade: the tuned head with the outputs of its branches set to zero (`modules.heads.head.Head.fades`), so that the
            result is pretrained CLIP with the mean of the frames;
        keep: the tuned head for all mixing weights.
    Classifier and scorer (classifier.*, scorer.*) are also kept.

    Args:
        fresh: tensors of the model before the checkpoint was loaded.
    """
    assert head in ("fade", "keep"), head
    start = {}
    factors = None if model.adapter is None else model.adapter.factors
    for name, value in copy_of(model).items():
        if name.startswith("fusion_model."):
            fades = head == "fade" and name.endswith(model.fusion_model.fades)
            start[name] = torch.zeros_like(value) if fades else value
        else:
            is_kept = name.startswith(("classifier.", "scorer.")) or (factors and re.search(factors, name))
            start[name] = value if is_kept else fresh[name]
    return start


def mix(start: State, end: State, alpha: float) -> State:
    """(1 - alpha) * start + alpha * end; exactly `start` at 0 and `end` at 1. Counters come from `end`."""
    return {
        name: torch.lerp(start[name], value, alpha) if value.is_floating_point() else value
        for name, value in end.items()
    }


class InterpolatedModel:
    """A model interpolated between two states. `encode` is for `modules.embed.embed_videos`: each video is read once
    for all mixing weights."""

    def __init__(self, model: VideoCLIP, start: State, end: State):
        self._model, self._start, self._end = model, start, end

    def apply(self, alpha: float) -> None:
        """Load the state at `alpha` into the model."""
        self._model.load_state_dict(mix(self._start, self._end, alpha))

    def encode(self, clips: torch.Tensor, alphas: Sequence[float]) -> torch.Tensor:
        """uint8 clips (B,T,C,S,S) -> embeddings (B, A*D) or (B, A*R, D), those of the first mixing weight first."""
        embeddings = []
        for alpha in alphas:
            self.apply(alpha)
            embeddings.append(self._model.video_features(clips))
        return torch.cat(embeddings, dim=1)


def copy_of(model: torch.nn.Module) -> State:
    """A copy of a model's tensors."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


class Loaded(NamedTuple):
    path: str
    raw: dict[str, Any]
    state: State


def average_checkpoints(paths: Sequence[str]) -> dict[str, Any]:
    """The uniform average of checkpoints of one model ("model soup", arXiv 2203.05482), as a checkpoint.

    Counters, class names and config come from the last of them.

    Raises:
        UserError: fewer than two are given, one cannot be read, or they differ in names, shapes, classes or config.
    """
    if len(paths) < 2:
        raise UserError("an average needs at least two checkpoints")
    total: State = {}
    of_adapter: list[State] = []  # all of them, because its average may need more than their sum
    first: Loaded | None = None
    for path in map(str, paths):
        raw = load_checkpoint(path)
        raw.pop("optimizer_state_dict", None)  # large and not needed
        state = to_model_state(raw, path)
        loaded = Loaded(path, raw, state)
        first = first or loaded
        _check_same(loaded, first)
        adapter = saved_network(raw).get("adapter")
        of_adapter.append({name: value for name, value in state.items() if adapter and owner_of(name)})
        for name, value in state.items():
            # In double precision, so that the order of the files does not matter.
            total[name] = total.get(name, 0) + value.double() if value.is_floating_point() else value
    average = {
        name: (value / len(paths)).to(state[name].dtype) if state[name].is_floating_point() else value
        for name, value in total.items()
    }
    if name := saved_network(raw).get("adapter"):
        config = saved_config(raw)
        components = config.get("components") or {}
        tensors, settings = Adapter.named(name).average(of_adapter, components.get(name, {}))
        average |= tensors
        if settings:
            raw["config"] = yaml.safe_dump({**config, "components": {**components, name: settings}}, sort_keys=False)
    return mixed_checkpoint(raw, average, average_of=list(map(str, paths)))


def _check_same(loaded: Loaded, first: Loaded) -> None:
    """Raise a UserError unless two checkpoints have the same model and classes."""
    path, raw, state = loaded
    first_path, first_raw, first_state = first
    if raw.get("base") != first_raw.get("base"):
        raise UserError(
            f"{path}: was trained on other base weights than {first_path}; average adapters of the same CLIP"
        )
    network, first_network = saved_network(raw), saved_network(first_raw)
    for key in _SAME_IN_CONFIG:
        if key not in network or key not in first_network:
            continue
        if Path(str(network[key])).name != Path(str(first_network[key])).name:  # files may have been moved
            raise UserError(
                f"{path}: was trained with network.{key}: {network[key]}, but {first_path} with {first_network[key]}; "
                "average checkpoints of one model"
            )
    components = saved_config(raw).get("components") or {}
    first_components = saved_config(first_raw).get("components") or {}
    if components != first_components:
        raise UserError(
            f"{path}: was trained with components {components}, but {first_path} with {first_components}; average "
            "checkpoints of one model"
        )
    different = sorted(state.keys() ^ first_state.keys())
    if different:
        raise UserError(
            f"{path}: is not the same model as {first_path}: {len(different)} names are in only one of them, such as "
            f"{different[0]} in {path if different[0] in state else first_path}; average checkpoints of one "
            "architecture and head"
        )
    for name, value in state.items():
        if value.shape != first_state[name].shape:
            raise UserError(
                f"{path}: is not the same model as {first_path}: {name} is {tuple(value.shape)} instead of "
                f"{tuple(first_state[name].shape)}; average checkpoints of one architecture and head"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{path}: {name} is not finite; leave this checkpoint out")
    if saved_class_names(raw) != saved_class_names(first_raw):
        raise UserError(f"{path}: was trained on other classes than {first_path}; average runs on the same classes")


def mixed_checkpoint(raw: dict[str, Any], state: State, **origin: Any) -> dict[str, Any]:
    """A checkpoint of averaged weights: like `raw`, without the training state.

    Args:
        origin: description of its sources, saved as `mixed_from`.
    """
    kept = {name: raw[name] for name in ("epoch", "class_names", "config", "base") if name in raw}
    if "base" in raw:  # a checkpoint of trained parameters
        state = {name: state[name] for name in raw["model_state_dict"]}
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    return {**kept, "model_state_dict": state, "mixed_from": origin}
