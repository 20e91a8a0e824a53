"""A frozen image tower as a function of clips, and what identifies it: for embeddings that are kept on disk.

Legend: B batch, T frames, C channels, S input size, D embedding.
"""

from collections.abc import Callable

import torch

from modules.video_clip import VideoCLIP
from utils.distributed import Process
from utils.hashing import content_hash
from utils.precision import autocast


def frame_encoder(model: VideoCLIP, process: Process, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """uint8 clips (B,T,C,S,S) -> float32 frame embeddings (B,T,D), both on the CPU."""
    assert model.fix_video

    @torch.inference_mode()
    def encode(clips: torch.Tensor) -> torch.Tensor:
        with autocast(precision, process.device):
            return model.encode_frames(clips.to(process.device, non_blocking=True)).float().cpu()

    return encode


def tower_key(cfg, model: VideoCLIP, precision: str) -> str:
    """Hash of all that `frame_encoder`'s output depends on: structure, weights, pixel scaling, arithmetic."""
    structure = cfg.network.model_dump(include={"arch", "tm", "joint_st"})
    return content_hash([structure, model.visual.state_dict(), model.pixel_scale, model.pixel_shift, precision])
