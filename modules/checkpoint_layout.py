"""Loads video checkpoints of all known layouts into VideoCLIP.

Layouts, each with or without the `module.` that DDP puts before every name:
1. `model_state_dict` with visual.*, fusion_model.*, logit_scale (ours and the published one; ours may also have text.*
   and classifier.*);
2. contrastive runs: `model_state_dict` is CLIP's whole state in OpenAI's names, `fusion_model_state_dict` the head;
3. a bare state dict with the names of either.
"""

import logging
import re
from typing import Any, Literal

import torch
import yaml

from clip import check_fit, fit_positions
from clip.weights import check_not_transformers
from modules.additions import TM
from modules.additions.addition import Addition, owner_of
from modules.classifiers.classifier import Classifier
from modules.classifiers.trained import TrainedClassifier
from modules.heads.head import Head, head_of
from modules.scorers.scorer import Scorer
from modules.trained_part import with_base
from modules.transformers_layout import from_transformers, is_transformers_xclip
from modules.video_clip import VideoCLIP
from utils.checkpoint import weights_of, without_prefixes
from utils.errors import UserError
from utils.schema import Config

OWN_PARTS = ("visual", "fusion_model", "logit_scale", "text", "classifier", "scorer")
TRAINING_PARTS = ("distillation",)  # only needed in training, and saved separately
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # entries in state dicts of OpenAI's archives
log = logging.getLogger(__name__)


def split_training_parts(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Split a state dict into the tensors of the video model and those of TRAINING_PARTS."""
    of_training = {name: value for name, value in state.items() if name.split(".")[0] in TRAINING_PARTS}
    return {name: value for name, value in state.items() if name not in of_training}, of_training


def to_model_state(raw: dict[str, Any], source: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint under VideoCLIP's names. Raises a UserError if it has no state dict of a video
    model."""
    state = model_state = weights_of(raw, source)
    if is_transformers_xclip(state):
        state = from_transformers(state)
    check_not_transformers(state, source)
    head = without_prefixes(raw.get("fusion_model_state_dict", {}))
    state |= {"fusion_model." + name.removeprefix("fusion_model."): value for name, value in head.items()}
    state = {_own_name(name): value for name, value in state.items() if not _is_constant(name, value)}
    if not any(name.startswith("visual.") for name in state) and "base" not in raw:
        names = ", ".join(list(model_state)[:3])
        raise UserError(f"{source}: contains no image tower (visual.*); its names start with {names}")
    for name, value in state.items():
        if not _is_plain(value):
            kind = str(value.dtype).removeprefix("torch.") if value.layout == torch.strided else "sparse"
            raise UserError(
                f"{source}: {name} is {kind}{' without values' * value.is_meta}; weights must be dense and of at least "
                "16-bit floating point; quantised ones are not supported"
            )
    return state


def _is_plain(value: torch.Tensor) -> bool:
    """Whether a tensor is a dense weight, or a buffer such as int64 positions; not quantised, complex or empty."""
    is_float = value.is_floating_point() and value.itemsize >= 2
    is_buffer = value.dtype in (torch.int64, torch.int32, torch.bool)
    return (is_float or is_buffer) and value.layout == torch.strided and not value.is_meta


def _is_constant(name: str, value: torch.Tensor) -> bool:
    """Whether a tensor with this published name is a constant that training does not change."""
    zeros = [head.published_zeros for head in Head.listed().values() if head.published_zeros]
    is_zero = any(re.search(pattern, name) for pattern in zeros) and not value.any()
    return name.removeprefix("text.") in NOT_WEIGHTS or is_zero


def _own_name(name: str) -> str:
    for kind in (*Addition.listed().values(), *Head.listed().values(), *Scorer.listed().values()):
        for pattern, own in kind.published_names:
            name = re.sub(pattern, own, name)
    return name if name.split(".")[0] in OWN_PARTS else f"text.{name}"


def load_video_weights(model: VideoCLIP, raw: dict[str, Any], source: str, new_classes: bool = False) -> None:
    """Load all parts of a checkpoint of any layout into a model.

    A text tower in the checkpoint is ignored, with a warning, if the model has none (frozen CLIP text). Position
    embeddings for another image size are resized, with a warning. Since the shifts (network.tm: tsm, tokenshift) have
    no weights, the config saved in the checkpoint is checked for them; with `new_classes`, a different `tm` only logs a
    warning.

    Args:
        new_classes: fine-tuning on other classes: parameters of the classes (`classifier.*`) start from scratch.

    Raises:
        UserError: the checkpoint has another architecture, head or temporal addition, or lacks parts.
    """
    state = with_base(model, raw, to_model_state(raw, source), source)
    _check_shifts(model, raw, source, new_classes)
    if not new_classes:
        model.scorer.fit(_part(state, "scorer"))
    expected, of_training = split_training_parts(model.state_dict())
    if new_classes:
        state |= {f"scorer.{name}": expected[f"scorer.{name}"] for name in model.scorer.of_classes}
        state |= _fresh_adapter(model, state, source)
    kept_parts = _fit_parts(state, expected, source, new_classes)
    if state.get("logit_scale") is not None and state["logit_scale"].numel() == 1:
        state["logit_scale"] = state["logit_scale"].reshape(())
    messages = fit_positions(state, expected)
    _check_head(state, model, source)
    messages += _fit_tower(state, expected, source)
    for message in messages:
        log.warning("%s: %s", source, message)
    if not new_classes:
        _check_classifier(state, model, source)
    wanted = {name: value for name, value in expected.items() if name.split(".")[0] not in kept_parts}
    check_fit(state, wanted, source)
    model.load_state_dict(state, strict=not kept_parts and not of_training)


def saved_config(raw: dict[str, Any]) -> dict[str, Any]:
    """The config in a checkpoint as a nested dict; {} if there is none."""
    config = raw.get("config")
    try:
        tree = yaml.safe_load(config) if isinstance(config, str) else None
    except yaml.YAMLError:  # of another program
        tree = None
    return tree if isinstance(tree, dict) else {}


def saved_class_names(raw: dict[str, Any]) -> list[str]:
    """The names of the training classes in a checkpoint; empty if there are none."""
    names = raw.get("class_names")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return []
    return list(names)


def saved_network(raw: dict[str, Any]) -> dict[str, Any]:
    """The `network` section of `saved_config`."""
    network = saved_config(raw).get("network")
    return network if isinstance(network, dict) else {}


def warn_of_other_classifier(cfg: Config, raw: dict[str, Any], source: str) -> None:
    """Warn if the class embeddings of `cfg` are not those of the training."""
    trained = saved_network(raw).get("classifier", cfg.network.classifier)
    seed = saved_config(raw).get("seed", cfg.seed)
    if trained != cfg.network.classifier:
        difference = f"network.classifier={trained}, and is tested with {cfg.network.classifier}"
    elif Classifier.named(trained).is_drawn and seed != cfg.seed:
        difference = f"network.classifier={trained} drawn from seed={seed}, and is tested with seed={cfg.seed}"
    else:
        return
    log.warning("WARNING: %s: was trained with %s: other class embeddings", source, difference)


def _check_shifts(model: VideoCLIP, raw: dict[str, Any], source: str, may_differ: bool) -> None:
    """Check a `network.tm` without parameters against published names or the saved config."""
    chosen = [name for name in TM if name in model.additions]
    own: str | Literal[False] = chosen[0] if chosen else False
    trained = saved_network(raw).get("tm", _published_tm(raw) or own)
    if trained == own:
        return
    if may_differ:
        log.warning("%s: was trained with network.tm: %s; continuing with %s, as in the config", source, trained, own)
    elif not any(name and Addition.named(name).new_parameters for name in (trained, own)):  # see `_check_tower`
        raise UserError(
            f"{source}: was trained with network.tm: {trained}, but the config has {own}; set network.tm={trained}"
        )


def _published_tm(raw: dict[str, Any]) -> str | None:
    """The `network.tm` that published tensor names imply, if any."""
    names = [name.removeprefix("module.") for name in raw.get("model_state_dict", raw)]
    for tm in TM:
        if any(re.search(pattern, name) for pattern, _ in Addition.named(tm).published_names for name in names):
            return tm
    return None


def _fit_parts(
    state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], source: str, new_classes: bool
) -> set[str]:
    """Remove tensors from `state` that the model does not have (text) or should not load (old classes).

    Returns the parts of the model that are not loaded.
    """
    parts = {name.split(".")[0] for name in state}
    own = {name.split(".")[0] for name in expected}
    kept = set()
    if "text" in parts and "text" not in own:
        log.warning(
            "%s: its text tower is not loaded, because the config uses CLIP's frozen text tower (network.fix_text)",
            source,
        )
        _drop(state, "text")
    elif "text" in own and "text" not in parts:
        log.warning("%s: contains no text tower; CLIP's own weights are used", source)
        kept.add("text")
    if "scorer" in parts and "scorer" not in own:
        log.warning("%s: the parameters of its scorer are not loaded, because network.scorer has none", source)
        _drop(state, "scorer")
    if new_classes and "classifier" in own | parts:
        log.warning("%s: the parameters of its classes (classifier.*) are not loaded", source)
        _drop(state, "classifier")
        kept.add("classifier")
    return kept


def _fresh_adapter(model: VideoCLIP, state: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """The initial tensors of the model's adapter, if the checkpoint has no adapter weights."""
    adapter = model.adapter
    if adapter is None or any(owner_of(name) is adapter for name in state):
        return {}
    fresh = {name: value for name, value in model.state_dict().items() if owner_of(name) is adapter}
    if fresh:
        log.warning("%s: contains no weights of %s, which start from scratch", source, adapter.setting)
    return fresh


def _drop(state: dict[str, torch.Tensor], part: str) -> None:
    for name in [name for name in state if name.split(".")[0] == part]:
        del state[name]


def _check_head(state: dict[str, torch.Tensor], model: VideoCLIP, source: str) -> None:
    """Check the temporal head."""
    state = _part(state, "fusion_model")
    saved, own = head_of(state), model.fusion_model
    if saved is type(own):
        if fault := own.fault(state):
            raise UserError(f"{source}: {fault}")
    elif saved is not None:
        name = next(name for name, head in Head.listed().items() if head is saved)
        raise UserError(f"{source}: contains {saved.described}; set network.sim_header to {name}")


def _fit_tower(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], source: str) -> list[str]:
    """Check the image tower and adapt its additions to the number of frames; returns a line for each change. Raises a
    UserError if the image tower does not fit."""
    saved, own = _additions_of(state), _additions_of(expected)
    for addition in sorted(saved ^ own, key=lambda addition: addition.setting):
        if addition in saved:
            raise UserError(f"{source}: contains the weights of {addition.setting}; set it")
        raise UserError(f"{source}: does not contain the weights of {addition.setting}; do not set it")
    messages = [message for addition in own for message in addition.fit(state, expected)]
    described, wanted = _describe_tower(state), _describe_tower(expected)
    if described != wanted:
        raise UserError(
            f"{source}: different architecture: its image tower is {described}, the config's is {wanted}; set "
            "network.arch"
        )
    return messages


def _additions_of(state: dict[str, torch.Tensor]) -> set[type[Addition]]:
    return {addition for name in state if (addition := owner_of(name)) is not None}


def _check_classifier(state: dict[str, torch.Tensor], model: VideoCLIP, source: str) -> None:
    """Check a trained classifier."""
    state = _part(state, "classifier")
    saved = next((kind for kind in TrainedClassifier.listed().values() if kind.mark in state), None)
    own = model.classifier if model.classifier is not None and model.classifier.mark else None
    if own is not None and saved is type(own):
        if fault := own.fault(state):
            raise UserError(f"{source}: {fault}")
    elif saved is not None:
        raise UserError(f"{source}: contains {saved.describe(state)}")
    elif own is not None:
        raise UserError(f"{source}: contains {own.absent}")


def _part(state: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """The tensors of one part of VideoCLIP, with the names within the part."""
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def _describe_tower(state: dict[str, torch.Tensor]) -> str:
    """A description of an image tower."""
    num_values = sum(value.numel() for name, value in state.items() if name.startswith("visual.trunk."))
    if num_values:
        return f"a timm tower of {num_values:,} values"
    stem = state.get("visual.conv1.weight")
    if stem is None:
        return "unknown"
    if "visual.proj" in state:
        layers = {name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")}
        return f"a ViT with patches of {stem.shape[-1]}, width {stem.shape[0]}, {len(layers)} layers"
    counts = [len({n.split(".")[2] for n in state if n.startswith(f"visual.layer{i}.")}) for i in (1, 2, 3, 4)]
    return f"a ResNet of width {2 * stem.shape[0]}, {'-'.join(map(str, counts))} blocks"
