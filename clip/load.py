"""Loads CLIP models with their weights: `load_clip`."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import huggingface_hub
import open_clip
import torch
from open_clip.coca_model import CoCa
from open_clip.convert import convert_state_dict
from open_clip.model import CustomTextCLIP
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from clip import names
from clip.download import announce_download, announce_hub_download, cached_weights, weights_url
from clip.fast_layers import use_fast_layers
from clip.fit import check_fit, fit_positions
from clip.openai_layout import config_from_shapes
from clip.pixels import image_side, pixels_of
from clip.weights import WeightsFile, read_weights
from utils.errors import UserError, first_line
from utils.recipe import looks_like_file

NETWORK_ONCE = "connect to the network: it is downloaded once, and later read from the cache"
RESNET_STRIDE = 32  # pixels of the image per position of a ModifiedResNet's last feature map
log = logging.getLogger(__name__)


@dataclass
class ClipModel:
    """The two towers of a CLIP model with their tokenizer and preprocessing. N images or texts, D embedding."""

    name: str  # the requested name, with the source of the weights
    visual: nn.Module  # (N, 3, image_size, image_size) float32, normalised -> (N, D); open_clip's, with OpenAI's names
    text: nn.Module  # (N, context_length) int64 tokens -> (N, D)
    logit_scale: torch.Tensor  # () float32, logarithm of the inverse temperature
    embed_dim: int
    text_width: int  # width of the text tower; the temporal head has text_width // 64 attention heads
    text_config: dict[str, Any]  # open_clip's, with `quick_gelu`; with the tensors it determines text embeddings
    image_size: int  # side of the input in pixels
    mean: tuple[float, float, float]  # of each channel, of pixels in 0..1
    std: tuple[float, float, float]
    make_tokenizer: Callable[[], Callable[[list[str]], torch.Tensor]]
    _tokenizer: Callable[[list[str]], torch.Tensor] | None = None

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, context_length) int64 tokens of N texts. Texts that are too long are truncated, with a warning. Raises a
        UserError if the tokenizer of the model cannot be downloaded."""
        if self._tokenizer is None:
            self._tokenizer = self.make_tokenizer()
        if isinstance(self._tokenizer, SimpleTokenizer):
            assert self._tokenizer.context_length is not None
            for text in texts:
                if len(self._tokenizer.encode(text)) + 2 > self._tokenizer.context_length:  # start and end tokens
                    log.warning("text longer than %d tokens is truncated: %s", self._tokenizer.context_length, text)
        return self._tokenizer(list(texts))


def load_clip(
    arch: str, weights: str = "openai", image_size: int | None = None, visual_only: bool = False
) -> ClipModel:
    """Load a CLIP model in float32 on the CPU, in evaluation mode.

    Args:
        arch: OpenAI's name (ViT-B/32, ..., RN50x64), any open_clip model name, or the path of an OpenAI-format file,
            whose shapes define the architecture.
        weights: a tag that open_clip knows for the model (downloaded at first use); the path of a file (OpenAI's
            TorchScript archive, a state dict, safetensors); or `none` for random weights. If arch is a path,
            `openai` means the same file.
        image_size: side of the input in pixels if it differs from that of the weights; positions are then resized.
        visual_only: do not load the text tower and the temperature.

    QuickGELU is used where the weights were trained with it: tags that say so; files in OpenAI's own format; any file
    or random weights for one of OpenAI's names. For a file with open_clip's own weights of, say, ViT-B/32, use
    open_clip's name (ViT-B-32).

    Raises:
        UserError: unknown name or tag, a file that is missing, corrupted or does not fit, a failed download, or an
            unsupported image size.
    """
    config, source, file = _resolve(arch, weights)
    if file is None:
        log.warning("%s: RANDOM weights, nothing is loaded (weights: none)", arch)
    weights_size = _fit_image_size(config["vision_cfg"], image_size, arch)
    model: Any = _build(config, source)  # the towers are of many classes
    if file is not None:
        _load_strictly(model, file.tensors, source, visual_only)
    if isinstance(model.visual, TimmModel) and weights_size != config["vision_cfg"]["image_size"]:
        _resize_timm(model.visual, config["vision_cfg"]["image_size"], source)
    towers: tuple[Any, ...] = (model.visual, model.text)
    for tower in towers:
        if getattr(tower, "output_tokens", False):
            tower.output_tokens = False  # CoCa's towers also return their tokens
    text_config = config["text_cfg"]
    pixels = pixels_of(arch, weights, config["vision_cfg"]["image_size"])
    return ClipModel(
        name=source,
        visual=use_fast_layers(model.visual.eval()),
        text=use_fast_layers(model.text.eval()),
        logit_scale=model.logit_scale.detach().reshape(()).clone(),
        embed_dim=config["embed_dim"],
        text_width=text_config.get("width", config["embed_dim"]),
        text_config={**text_config, "quick_gelu": config.get("quick_gelu", False)},
        image_size=config["vision_cfg"]["image_size"],
        mean=pixels.mean,
        std=pixels.std,
        make_tokenizer=lambda: _make_tokenizer(arch, text_config),
    )


def _resolve(arch: str, weights: str) -> tuple[dict[str, Any], str, WeightsFile | None]:
    """Config, description and tensors (None: random) for `arch` and `weights`."""
    if names.is_file(arch):
        file = read_weights(arch)
        config = config_from_shapes(file.tensors, arch)
        if weights in ("openai", "none"):
            return config, arch, file if weights == "openai" else None
        return config, f"{weights} for {arch}", read_weights(weights)

    name = names.open_clip_name(arch)
    config: Any = open_clip.get_model_config(name)
    if weights == "none":
        config["quick_gelu"] = config.get("quick_gelu", False) or arch in names.OPENAI_NAMES
        return config, arch, None
    tag = open_clip.get_pretrained_cfg(name, weights)
    if tag:
        config["quick_gelu"] = bool(tag.get("quick_gelu", False))
        return config, f"{arch} ({weights})", _download(name, weights, tag)
    if not Path(weights).exists() and not looks_like_file(weights):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UserError(
            f"weights {weights}: neither a tag of {arch} nor a file; use one of the tags ({tags}), the path of a file, "
            "or `none`"
        )
    file = read_weights(weights)
    config["quick_gelu"] = config.get("quick_gelu", False) or arch in names.OPENAI_NAMES or file.is_openai
    return config, f"{weights} for {arch}", file


def _download(name: str, tag: str, config: dict[str, Any]) -> WeightsFile:
    """The weights of a tag: from the local cache, else downloaded."""
    cached = cached_weights(config)
    if cached is not None and config.get("hf_hub"):  # huggingface_hub would use the network first
        return read_weights(cached)
    remedy = "download them on a machine with a network and set network.weights to the path of the file"
    if cached is None and not huggingface_hub.constants.HF_HUB_OFFLINE:
        announce_download(f"weights {tag} of {name}", weights_url(config), remedy)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs many lines if there is no network
    try:
        path = open_clip.download_pretrained(config)
    except Exception as error:  # the remedy is the same for all errors
        raise UserError(
            f"weights {tag} of {name} could not be downloaded ({type(error).__name__}); {remedy}"
        ) from error
    return read_weights(path)


def _fit_image_size(vision: dict[str, Any], image_size: int | None, arch: str) -> int:
    """Set the image size of the config to `image_size` (if given); returns the original size."""
    original = image_side(vision)
    wanted = image_size or original
    is_timm = bool(vision.get("timm_model_name"))
    step = RESNET_STRIDE if isinstance(vision.get("layers"), (list, tuple)) else vision.get("patch_size", 1)
    if not is_timm and wanted % step:
        near = max(step, round(wanted / step) * step)
        raise UserError(f"input_size {wanted}: {arch} needs a multiple of {step} pixels, such as {near}")
    vision["image_size"] = wanted
    return original


def _build(config: dict[str, Any], source: str) -> nn.Module:
    """The model with its text tower as `text`, freshly initialised."""
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
    config.pop("custom_text", None)
    # Prevent open_clip from downloading pretrained weights for a part of the model.
    if config["vision_cfg"].get("timm_model_name"):
        config["vision_cfg"]["timm_model_pretrained"] = False
    hub_text = config["text_cfg"].get("hf_model_name")
    if hub_text:
        config["text_cfg"]["hf_model_pretrained"] = False
        announce_hub_download(f"the text tower's config of {source}", hub_text, "config.json", NETWORK_ONCE)
    model_class = CoCa if "multimodal_cfg" in config else CustomTextCLIP
    try:
        return model_class(**config)
    except Exception as error:  # third-party towers: a missing package, a tokenizer's config out of reach, a size
        raise UserError(f"{source}: the model cannot be built: {first_line(error)}") from error


def _load_strictly(
    model: CustomTextCLIP | CoCa, state: dict[str, torch.Tensor], source: str, visual_only: bool
) -> None:
    """Load tensors with the names of OpenAI or open_clip. Raises a UserError if any is missing or unexpected."""
    state = convert_state_dict(cast(Any, model), dict(state))
    state = {_own_name(name): value for name, value in state.items()}
    state.pop("text.transformer.embeddings.position_ids", None)  # a constant that older transformers stored
    expected = model.state_dict()
    if visual_only:
        log.warning("%s: only the image tower's weights are loaded; the text tower is RANDOM", source)
        state = {name: value for name, value in state.items() if name.startswith("visual.")}
        expected = {name: value for name, value in expected.items() if name.startswith("visual.")}
    for name in ("logit_scale", "logit_bias"):  # stored as () or (1,)
        if name in state and name in expected and state[name].numel() == 1:
            state[name] = state[name].reshape(expected[name].shape)
    for message in fit_positions(state, expected):
        log.warning("%s: %s", source, message)
    check_fit(state, expected, source)
    model.load_state_dict(state, strict=not visual_only)


def _own_name(name: str) -> str:
    """Add the prefix `text.` to the text tower, which is at the top level in OpenAI's models."""
    top = name.split(".")[0]
    return name if top in ("visual", "text", "text_decoder", "logit_scale", "logit_bias") else f"text.{name}"


def _resize_timm(visual: TimmModel, image_size: int, source: str) -> None:
    try:
        visual.set_input_size(image_size)
    except Exception as error:  # timm's towers raise different errors for unsupported sizes
        raise UserError(f"input_size {image_size}: not supported by {source}: {first_line(error)}") from error
    log.warning("%s: input size set to %d", source, image_size)


def _make_tokenizer(arch: str, text_config: dict[str, Any]) -> Callable[[list[str]], torch.Tensor]:
    context_length = text_config.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    if not names.is_model_name(arch):
        return SimpleTokenizer(context_length=context_length)
    hub_tokenizer = text_config.get("hf_tokenizer_name")
    if hub_tokenizer:
        announce_hub_download(f"the tokenizer of {arch}", hub_tokenizer, "tokenizer_config.json", NETWORK_ONCE)
    try:
        return open_clip.get_tokenizer(names.open_clip_name(arch))
    except Exception as error:  # tokenizers of Hugging Face are downloaded
        raise UserError(
            f"the tokenizer of {arch} could not be loaded ({first_line(error)}); it is downloaded at first use, and "
            "tokenizers from Hugging Face need: pip install transformers"
        ) from error
