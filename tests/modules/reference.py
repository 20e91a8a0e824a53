"""The published training written out in plain PyTorch: functions of a checkpoint's tensors under their published names.

Nothing here comes from the project's own model or training code.

Legend: B videos, T frames, N = B*T images, L tokens (class token first), C channels, D embedding, K classes.
"""

import math

import torch
from torch.nn import functional as F

State = dict[str, torch.Tensor]
HEAD_WIDTH = 64


def shift(x: torch.Tensor, num_frames: int, parts: int) -> torch.Tensor:
    """(N, C, ...): a part of the channels from the next frame, one from the previous, zeros past the ends."""
    x = x.view(-1, num_frames, *x.shape[1:])
    fold = x.shape[2] // parts
    out = torch.zeros_like(x)
    out[:, :-1, :fold] = x[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
    return out.flatten(0, 1)


def attention(query: torch.Tensor, tokens: torch.Tensor, weights: list[torch.Tensor], num_heads: int) -> torch.Tensor:
    """Attention of (N, Q, C) to (N, L, C). `weights`: of query, key, value and output, then their four biases."""
    sources = (query, tokens, tokens)
    q, k, v = (F.linear(x, weights[i], weights[4 + i]).unflatten(-1, (num_heads, -1)) for i, x in enumerate(sources))
    scores = torch.einsum("nqhd,nlhd->nhql", q, k) / math.sqrt(q.shape[-1])
    mixed = torch.einsum("nhql,nlhd->nqhd", scores.softmax(-1), v).flatten(2)
    return F.linear(mixed, weights[3], weights[7])


def norm(p: State, name: str, x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], eps)


def block(p: State, name: str, x: torch.Tensor, num_heads: int, eps: float = 1e-5, over_time=None) -> torch.Tensor:
    """A pre-norm transformer block; `over_time` is applied to the stream before attention and before the MLP."""
    over_time = over_time or (lambda x: x)
    weights = [*p[f"{name}.attn.in_proj_weight"].chunk(3), p[f"{name}.attn.out_proj.weight"]]
    weights += [*p[f"{name}.attn.in_proj_bias"].chunk(3), p[f"{name}.attn.out_proj.bias"]]
    x = over_time(x)
    normed = norm(p, f"{name}.ln_1", x, eps)
    x = over_time(x + attention(normed, normed, weights, num_heads))
    hidden = F.linear(norm(p, f"{name}.ln_2", x, eps), p[f"{name}.mlp.c_fc.weight"], p[f"{name}.mlp.c_fc.bias"])
    return x + F.linear(
        hidden * torch.sigmoid(1.702 * hidden), p[f"{name}.mlp.c_proj.weight"], p[f"{name}.mlp.c_proj.bias"]
    )


def num_blocks(p: State, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in p if name.startswith(prefix)})


def vit(p: State, images: torch.Tensor, num_frames: int, kind: str | bool) -> torch.Tensor:
    """(N, 3, H, W) -> (N, D), with `joint_st` (B, D)."""
    conv, positions = p["visual.conv1.weight"], p["visual.positional_embedding"]
    width = len(conv)
    x = F.conv2d(images, conv, stride=conv.shape[-1]).flatten(2).transpose(1, 2) + positions[1:]
    if kind == "joint_st":
        x = (x.view(-1, num_frames, *x.shape[1:]) + p["visual.time_embedding"][:, None]).flatten(1, 2)
    token = p["visual.class_embedding"] + positions[0]
    x = norm(p, "visual.ln_pre", torch.cat([token.expand(len(x), 1, width), x], dim=1))
    for i in range(num_blocks(p, "visual.transformer.resblocks.")):
        name, over_time = f"visual.transformer.resblocks.{i}", None
        if kind == "tsm":
            name += ".net"
            x = torch.cat([x[:, :1], shift(x[:, 1:].transpose(1, 2), num_frames, 8).transpose(1, 2)], dim=1)
        elif kind == "tokenshift":
            over_time = lambda x: torch.cat([shift(x[:, 0], num_frames, 4)[:, None], x[:, 1:]], dim=1)  # noqa: E731
        elif kind == "tokent1d":
            kernel = p[f"{name}.control_point.conv.weight"]

            def over_time(x: torch.Tensor, kernel: torch.Tensor = kernel) -> torch.Tensor:
                tokens = x[:, 0].view(-1, num_frames, width).transpose(1, 2)
                tokens = F.conv1d(tokens, kernel, padding=1, groups=width).transpose(1, 2).reshape(-1, 1, width)
                return torch.cat([tokens, x[:, 1:]], dim=1)

        x = block(p, name, x, width // HEAD_WIDTH, over_time=over_time)
    return norm(p, "visual.ln_post", x[:, 0]) @ p["visual.proj"]


def batch_norm(p: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """By the batch's own statistics, as in training."""
    return F.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)


def resnet(p: State, images: torch.Tensor, num_frames: int, kind: str | bool) -> torch.Tensor:
    """(N, 3, H, W) -> (N, D): CLIP's ResNet. `tsm` shifts the input of each bottleneck's first convolution."""
    x = images
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = F.conv2d(x, p[f"visual.conv{i}.weight"], stride=stride, padding=1)
        x = batch_norm(p, f"visual.bn{i}", x).relu()
    x = F.avg_pool2d(x, 2)
    for layer in (1, 2, 3, 4):
        for i in range(num_blocks(p, f"visual.layer{layer}.")):
            name, stride = f"visual.layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            shifted, conv1 = (shift(x, num_frames, 8), ".conv1.net") if kind == "tsm" else (x, ".conv1")
            out = batch_norm(p, f"{name}.bn1", F.conv2d(shifted, p[f"{name}{conv1}.weight"])).relu()
            out = batch_norm(p, f"{name}.bn2", F.conv2d(out, p[f"{name}.conv2.weight"], padding=1)).relu()
            out = F.avg_pool2d(out, stride)
            out = batch_norm(p, f"{name}.bn3", F.conv2d(out, p[f"{name}.conv3.weight"]))
            if f"{name}.downsample.0.weight" in p:
                x = F.conv2d(F.avg_pool2d(x, stride), p[f"{name}.downsample.0.weight"])
                x = batch_norm(p, f"{name}.downsample.1", x)
            x = (x + out).relu()
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + p["visual.attnpool.positional_embedding"]
    names = [f"visual.attnpool.{part}_proj" for part in "qkvc"]
    weights = [p[f"{name}.weight"] for name in names] + [p[f"{name}.bias"] for name in names]
    return attention(x[:, :1], x, weights, x.shape[-1] // HEAD_WIDTH)[:, 0]


def logits(p: State, clips: torch.Tensor, text: torch.Tensor, kind: str | bool) -> torch.Tensor:
    """(B, T, 3, H, W) and (K, D) -> (B, K)."""
    batch_size, num_frames = clips.shape[:2]
    tower = vit if "visual.proj" in p else resnet
    frames = tower(p, clips.flatten(0, 1), num_frames, kind).view(batch_size, -1, text.shape[1])
    x = frames
    if "fusion_model.frame_position_embeddings.weight" in p:
        x = frames + p["fusion_model.frame_position_embeddings.weight"][:num_frames]
        for i in range(num_blocks(p, "fusion_model.transformer.resblocks.")):
            x = block(p, f"fusion_model.transformer.resblocks.{i}", x, 1, eps=1e-12)
        x = x + frames
    video = x.mean(dim=1)
    video, text = (x / x.norm(dim=-1, keepdim=True) for x in (video, text))
    return p["logit_scale"].exp() * video @ text.T


def rate(epoch: float, lr: float, epochs: int, warmup: float) -> float:
    """Linear from 0 over the warm-up, then half a cosine to 0."""
    if epoch < warmup:
        return lr * epoch / warmup
    return lr * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def train(
    p: State, epochs: list[list[tuple[torch.Tensor, torch.Tensor]]], text: torch.Tensor, kind: str | bool, solver
) -> list[float]:
    """The losses of the optimiser's steps over epochs of batches (clips, labels), starting from the tensors `p`.

    Args:
        solver: lr, clip_ratio, weight_decay, lr_warmup_step, grad_accumulation_steps.
    """
    p = {name: value.detach().clone() for name, value in p.items()}
    slow, fast = [], []
    for name, value in p.items():
        if not value.is_floating_point() or "running_" in name:
            continue
        is_clip = name.startswith("visual.") and "control_point" not in name
        (slow if is_clip or name == "logit_scale" else fast).append(value.requires_grad_())
    shares = [(group, share) for group, share in ((slow, solver.clip_ratio), (fast, 1.0)) if group]
    optimizer = torch.optim.AdamW(
        [{"params": group} for group, _ in shares], betas=(0.9, 0.999), eps=1e-8, weight_decay=solver.weight_decay
    )
    losses, every = [], solver.grad_accumulation_steps
    for epoch, batches in enumerate(epochs):
        for first in range(0, len(batches), every):
            lr = rate(epoch + first / len(batches), solver.lr, len(epochs), solver.lr_warmup_step)
            for group, (_, share) in zip(optimizer.param_groups, shares):
                group["lr"] = lr * share
            losses.append(0.0)
            for clips, labels in batches[first : first + every]:
                loss = F.cross_entropy(logits(p, clips, text, kind), labels) / every
                loss.backward()
                losses[-1] += loss.item()
            optimizer.step()
            optimizer.zero_grad()
    return losses
