"""Attribution: the frames and regions that a prediction relies on.

Shapes: B clips, T frames, C channels, S side, D embedding, K classes, h w grid of patches, L tokens.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from modules.additions.addition import MixesFrames
from modules.tower_blocks import VITS, ImageTower
from modules.video_clip import VideoCLIP


class ShownClip(NamedTuple):
    """A clip as pictures show it, on the CPU.

    Attributes:
        frames: uint8 (T, 3, S, S).
        contributions: float32 (T,) of `drop_one_frame`, in nats; None: not computed.
        lit: uint8 (T, 3, S, S) of `spotlight`; None: not computed, or the image tower has no relevance maps.
    """

    frames: torch.Tensor
    contributions: torch.Tensor | None = None
    lit: torch.Tensor | None = None

    def bars(self) -> list[tuple[float, str]]:
        """The contribution of each frame divided by the largest of the clip (-1 to 1), and as text in nats.

        The text has 1 to 3 decimals, enough for a tenth of the largest contribution, and no sign if it is zero.
        Below 0.001 the bars are shorter, because such differences are rounding errors.
        """
        if self.contributions is None:
            return []
        largest = max(float(self.contributions.abs().max()), 0.001)
        decimals = next((decimals for decimals in (1, 2) if largest >= 0.5 * 10 ** (1 - decimals)), 3)
        bars = []
        for value in self.contributions.tolist():
            sign = "+" if round(value, decimals) > 0 else ""
            text = f"{sign}{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0 turns -0.0 into 0.0
            bars.append((value / largest, text.replace("-", "\u2212")))
        return bars


def explain(
    model: VideoCLIP, clip: torch.Tensor, text: torch.Tensor, label: int, clips_per_forward: int = 8
) -> ShownClip:
    """A clip with all that supports a class in it; arguments as for `drop_one_frame`."""
    added = drop_one_frame(model, clip, text, label, clips_per_forward)
    lit = None
    if has_relevance_maps(model):
        maps = relevance_maps(model, clip[None], text, torch.tensor([label], device=clip.device))
        lit = spotlight(clip[None], maps)[0]
    return ShownClip(clip.cpu(), added, lit)


@torch.inference_mode()
def drop_one_frame(
    model: VideoCLIP, clip: torch.Tensor, text: torch.Tensor, label: int, clips_per_forward: int = 8
) -> torch.Tensor:
    """The contribution of each frame to the log-odds of a class: log-odds of the clip minus those without the frame.

    Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901) in time. A frame is replaced with the previous one (the first
    with the second), so that the clip keeps its length. The log-odds are log(p / (1 - p)), with p the probability of
    the class in evaluation.

    Args:
        clip: (T, C, S, S) uint8 on the model's device. text: class features (K, ...), on the same device.
        label: index of the class.
        clips_per_forward: clips per forward pass of an image tower that mixes frames.

    Returns:
        (T,) float32 on the CPU, in nats: positive if the frame supports the class; 0 for a clip of one frame or a
        single class.
    """
    num_frames = len(clip)
    if len(text) < 2 or num_frames < 2:
        return torch.zeros(num_frames)
    # Row 0 is the whole clip, row 1+t the clip without frame t.
    kept = torch.arange(num_frames, device=clip.device).repeat(num_frames + 1, 1)
    for t in range(num_frames):
        kept[1 + t, t] = t - 1 if t else 1
    looks_over_time = any(isinstance(module, MixesFrames) for module in model.visual.modules())
    if looks_over_time or model.scorer.needs_patches:
        videos = torch.cat([model.video_features(clip[rows]) for rows in kept.split(clips_per_forward)])
    else:  # frames are independent in the tower, so embed them once
        videos = model.scorer.of_frames(model.fusion_model, model.encode_frames(clip[None])[0][kept])
    probabilities = model.scorer(videos, text).double().log_softmax(dim=-1)
    others = probabilities.clone()
    others[:, label] = -torch.inf
    log_odds = probabilities[:, label] - others.logsumexp(dim=-1)
    return (log_odds[0] - log_odds[1:]).float().cpu()


def relevance_maps(model: VideoCLIP, clips: torch.Tensor, text: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Relevance maps of a class: gradient times activation (HiResCAM, arXiv 2011.08891).

    The activations are the patches at the input of a ViT's last block, or the last feature map of a convolutional
    tower. With s the cosine of a clip and its class minus the mean of its cosines with all classes, the value of a
    patch is the sum over channels of d s / d activation times the activation: to first order, the decrease of s without
    the patch. The gradient includes everything after the activations: the last block, pooling and the temporal head.

    Args:
        clips: (B, T, C, S, S), see `VideoCLIP.encode_frames`. text: (K, D) class embeddings.
        labels: (B,) int64, the class of each clip. All on the model's device.

    Returns:
        (B, T, h, w) float32, in cosine similarity: positive if a patch supports the class.
    """
    spatial = _spatial_source(model.visual)
    assert spatial is not None, "ask has_relevance_maps first"
    source, is_input = spatial
    caught: list[torch.Tensor] = []

    def forget(*_: object) -> None:
        """Disable gradients up to the activations; `encode_frames` restores the mode."""
        torch.set_grad_enabled(False)

    def catch(activations: torch.Tensor) -> torch.Tensor:
        torch.set_grad_enabled(True)
        caught.append(activations.detach().requires_grad_())
        return caught[-1]

    hooks = [model.visual.register_forward_pre_hook(forget)]
    if is_input:
        hooks.append(source.register_forward_pre_hook(lambda _, args: (catch(args[0]), *args[1:])))
    else:
        hooks.append(source.register_forward_hook(lambda *args: catch(args[-1])))
    try:
        with torch.enable_grad():
            cosines = model.scorer(model.video_features(clips), text, 1.0)
            score = cosines.gather(1, labels[:, None])[:, 0] - (cosines.mean(dim=1) if len(text) > 1 else 0)
            (gradient,) = torch.autograd.grad(score.sum(), caught[0])
    finally:
        for hook in hooks:
            hook.remove()
    values = gradient.float() * caught[0].detach().float()
    batch_size, num_frames = clips.shape[:2]
    if not is_input:
        return values.sum(dim=1).unflatten(0, (batch_size, num_frames))  # of (B*T, C, h, w)
    tower = ImageTower(model.visual)
    height, width = tower.grid
    patches = values.sum(dim=2)[:, tower.num_prefix_tokens :]  # of (B*T, L, C), or (B, 1 + T*h*w, C) joint
    num_patches = height * width * (num_frames if len(patches) == batch_size and num_frames > 1 else 1)
    return patches[:, :num_patches].reshape(batch_size, num_frames, height, width)


def has_relevance_maps(model: VideoCLIP) -> bool:
    """Whether `relevance_maps` supports this image tower."""
    return _spatial_source(model.visual) is not None


def last_parameters(model: VideoCLIP) -> list[nn.Parameter]:
    """The parameters after the activations of `relevance_maps`: the last block or stage of the tower, and the head."""
    spatial = _spatial_source(model.visual)
    assert spatial is not None, "ask has_relevance_maps first"
    return [*spatial[0].parameters(), *model.fusion_model.parameters()]


def spotlight(clips: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Darken and desaturate regions that do not support the class: uint8 (B, T, 3, S, S), on the CPU.

    Args:
        clips: uint8 (B, T, 3, S, S). maps: (B, T, h, w) of `relevance_maps`. The maximum of a clip is undimmed.
    """
    positive = maps.cpu().float().clamp(min=0)
    largest = positive.flatten(1).amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    light = (positive / largest[:, None, None, None]).sqrt()  # closer to perceived brightness
    light = F.interpolate(light, size=clips.shape[-2:], mode="bicubic").clamp(0, 1)[:, :, None]
    pixels = clips.cpu().float()
    grey = pixels.mean(dim=2, keepdim=True)
    return (light * pixels + (1 - light) * 0.35 * grey).round().to(torch.uint8)


def _spatial_source(visual: nn.Module) -> tuple[nn.Module, bool] | None:
    """The module whose input (True) or output (False) is the last spatial feature map; None: unknown."""
    tower = ImageTower(visual)
    if tower.kind in VITS:
        return tower.last_block, True
    trunk = getattr(visual, "trunk", visual)  # timm's towers are wrapped
    stage = getattr(trunk, "layer4", None) or getattr(trunk, "stages", None)  # ResNet; ConvNeXt
    return None if stage is None else (stage, False)
