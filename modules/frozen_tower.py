"""A frozen image tower as a function of clips, and its hash, for caching embeddings on disk.

Legend: B batch, T frames, C channels, S input size, D embedding.
"""

from collections.abc import Callable

import torch

from modules.video_clip import VideoCLIP
from utils.context import RunContext
from utils.hashing import content_hash
from utils.schema import Config


def frame_encoder(model: VideoCLIP, context: RunContext) -> Callable[[torch.Tensor], torch.Tensor]:
    """uint8 clips (B,T,C,S,S) on any device -> float32 frame embeddings (B,T,D) on the CPU."""
    assert not model.tower_trains

    @torch.inference_mode()
    def encode(clips: torch.Tensor) -> torch.Tensor:
        with context.autocast():
            return model.encode_frames(clips.to(context.device, non_blocking=True)).float().cpu()

    return encode


def tower_key(cfg: Config, model: VideoCLIP, precision: str) -> str:
    """Hash of everything that affects the output of `frame_encoder`: structure, weights, normalisation, precision."""
    structure = [cfg.network.arch, model.additions]
    return content_hash([structure, model.visual.state_dict(), model.pixel_scale, model.pixel_shift, precision])
