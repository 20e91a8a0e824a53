"""The model that a config asks for."""

import torch
from open_clip.modified_resnet import ModifiedResNet

from clip import ClipError, ClipModel, load_clip
from modules.temporal import add_temporal
from modules.temporal_head import FrameMean, TemporalTransformer, check_num_frames, num_heads_for
from modules.text_classifier import class_embeddings, fill_templates
from modules.video_clip import VideoCLIP
from utils.errors import UserError


def load_clip_model(cfg) -> ClipModel:
    """CLIP as `network.arch`, `network.weights`, `network.init` and `data.input_size` say.

    Raises:
        UserError: whatever is wrong with the name, the weights or the size.
    """
    try:
        return load_clip(
            cfg.network.arch, cfg.network.weights, image_size=cfg.data.input_size, visual_only=not cfg.network.init
        )
    except ClipError as error:
        raise UserError(str(error)) from error


def build_text(cfg, clip_model: ClipModel, names: list[str], device: torch.device | None = None) -> torch.Tensor:
    """(K, D) float32 class embeddings of `names` under `network.prompt`, cached in `logging.cache_dir`."""
    prompts = fill_templates(names, [cfg.network.prompt])
    return class_embeddings(clip_model, prompts, cfg.logging.cache_dir, device)


def build_model(cfg, clip_model: ClipModel) -> VideoCLIP:
    """The video model on the CPU, in float32. It takes `clip_model.visual` over.

    Raises:
        UserError: the tower cannot take what the config adds to it, or the head cannot take so many frames.
    """
    network = cfg.network
    if network.sim_header == "Transf":
        check_num_frames(cfg.data.num_segments)
        num_heads = num_heads_for(clip_model.embed_dim, clip_model.text_width)
        head = TemporalTransformer(clip_model.embed_dim, num_heads)
    else:
        head = FrameMean()
    visual = add_temporal(
        clip_model.visual,
        network.tm,
        cfg.data.num_segments if network.joint_st else None,
        network.drop_out,
        network.emb_dropout,
    )
    if cfg.solver.activation_checkpointing:
        if isinstance(visual, ModifiedResNet):
            raise UserError(
                "solver.activation_checkpointing: ResNet towers cannot; their batch statistics would count twice"
            )
        visual.set_grad_checkpointing(True)
    return VideoCLIP(
        visual,
        head,
        clip_model.logit_scale,
        clip_model.embed_dim,
        clip_model.mean,
        clip_model.std,
        fix_video=network.fix_video,
    )
