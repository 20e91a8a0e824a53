"""Small CLIP weights in OpenAI's state-dict layout, and video checkpoints on top of them, made from a seed.

The numbers in this folder were computed from exactly these weights. Values come from numpy's legacy
RandomState, whose streams never change, so every machine makes the same tensors.
"""

import numpy as np
import torch

CONTEXT, VOCAB = 77, 49408


class _Draw:
    def __init__(self, seed):
        self.rng = np.random.RandomState(seed)

    def __call__(self, *shape, std=0.02):
        return torch.from_numpy((self.rng.standard_normal(shape) * std).astype(np.float32))


def _half_exact(state):
    """Round to values that float16 holds exactly, as OpenAI's released weights are."""
    return {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}


def _norm(draw, name, width):
    return {f"{name}.weight": 1 + draw(width), f"{name}.bias": draw(width)}


def _block(draw, name, width):
    std = width**-0.5
    return {
        f"{name}.attn.in_proj_weight": draw(3 * width, width, std=std),
        f"{name}.attn.in_proj_bias": draw(3 * width),
        f"{name}.attn.out_proj.weight": draw(width, width, std=std),
        f"{name}.attn.out_proj.bias": draw(width),
        **_norm(draw, f"{name}.ln_1", width),
        f"{name}.mlp.c_fc.weight": draw(4 * width, width, std=std),
        f"{name}.mlp.c_fc.bias": draw(4 * width),
        f"{name}.mlp.c_proj.weight": draw(width, 4 * width, std=(4 * width) ** -0.5),
        f"{name}.mlp.c_proj.bias": draw(width),
        **_norm(draw, f"{name}.ln_2", width),
    }


def _text(draw, width, layers, embed_dim):
    state = {
        "token_embedding.weight": draw(VOCAB, width),
        "positional_embedding": draw(CONTEXT, width, std=0.01),
        **_norm(draw, "ln_final", width),
        "text_projection": draw(width, embed_dim, std=width**-0.5),
        "logit_scale": torch.tensor(np.log(1 / 0.07), dtype=torch.float32),
    }
    for i in range(layers):
        state.update(_block(draw, f"transformer.resblocks.{i}", width))
    return state


def vit(seed=0, image=32, patch=8, width=64, layers=3, embed_dim=64, text_width=64, text_layers=2):
    """A ViT CLIP. Heads are width // 64, as everywhere in OpenAI's layout."""
    draw = _Draw(seed)
    state = _text(draw, text_width, text_layers, embed_dim)
    state.update(
        {
            "visual.class_embedding": draw(width, std=width**-0.5),
            "visual.positional_embedding": draw((image // patch) ** 2 + 1, width, std=width**-0.5),
            "visual.conv1.weight": draw(width, 3, patch, patch, std=(3 * patch * patch) ** -0.5),
            **_norm(draw, "visual.ln_pre", width),
            **_norm(draw, "visual.ln_post", width),
            "visual.proj": draw(width, embed_dim, std=width**-0.5),
        }
    )
    for i in range(layers):
        state.update(_block(draw, f"visual.transformer.resblocks.{i}", width))
    return _half_exact(state)


def _conv(draw, name, out, inp, k):
    return {f"{name}.weight": draw(out, inp, k, k, std=(inp * k * k) ** -0.5)}


def _bn(draw, name, n):
    return {
        f"{name}.weight": 1 + draw(n),
        f"{name}.bias": draw(n),
        f"{name}.running_mean": draw(n),
        f"{name}.running_var": 1 + draw(n).abs(),
        f"{name}.num_batches_tracked": torch.tensor(0),
    }


def resnet(seed=0, image=64, width=16, counts=(2, 1, 1, 1), embed_dim=64, text_width=64, text_layers=2):
    """A CLIP ModifiedResNet (three-conv stem, anti-aliased strides, attention pooling)."""
    draw = _Draw(seed)
    state = _text(draw, text_width, text_layers, embed_dim)
    v, half = "visual", width // 2
    for i, (o, c) in enumerate([(half, 3), (half, half), (width, half)], 1):
        state.update(_conv(draw, f"{v}.conv{i}", o, c, 3) | _bn(draw, f"{v}.bn{i}", o))
    inp = width
    for layer, count in enumerate(counts, 1):
        planes = width * 2 ** (layer - 1)
        for b in range(count):
            p = f"{v}.layer{layer}.{b}"
            state.update(_conv(draw, f"{p}.conv1", planes, inp, 1) | _bn(draw, f"{p}.bn1", planes))
            state.update(_conv(draw, f"{p}.conv2", planes, planes, 3) | _bn(draw, f"{p}.bn2", planes))
            state.update(_conv(draw, f"{p}.conv3", planes * 4, planes, 1) | _bn(draw, f"{p}.bn3", planes * 4))
            if b == 0 and (layer > 1 or inp != planes * 4):
                state.update(
                    _conv(draw, f"{p}.downsample.0", planes * 4, inp, 1) | _bn(draw, f"{p}.downsample.1", planes * 4)
                )
            inp = planes * 4
    dim = width * 32
    state[f"{v}.attnpool.positional_embedding"] = draw((image // 32) ** 2 + 1, dim, std=dim**-0.5)
    for name, out in [("k_proj", dim), ("q_proj", dim), ("v_proj", dim), ("c_proj", embed_dim)]:
        state[f"{v}.attnpool.{name}.weight"] = draw(out, dim, std=dim**-0.5)
        state[f"{v}.attnpool.{name}.bias"] = draw(out)
    return _half_exact(state)


def temporal_head(seed=1, embed_dim=64, layers=6):
    """The six-layer temporal transformer over frame embeddings, under its published names."""
    draw = _Draw(seed)
    state = {"frame_position_embeddings.weight": draw(CONTEXT, embed_dim)}
    for i in range(layers):
        state.update(_block(draw, f"transformer.resblocks.{i}", embed_dim))
    return state


def video_checkpoint(clip_state, head_state=None, epoch=29, module_prefix=False):
    """A published-layout video checkpoint: visual.*, fusion_model.*, logit_scale, as train.py saved them."""
    model = {k: v for k, v in clip_state.items() if k.startswith("visual.")}
    model["logit_scale"] = clip_state["logit_scale"]
    model.update({f"fusion_model.{k}": v for k, v in (head_state or {}).items()})
    if module_prefix:
        model = {f"module.{k}": v for k, v in model.items()}
    return {"epoch": epoch, "model_state_dict": model, "optimizer_state_dict": {}}


def clips(seed=2, batch=2, frames=8, size=32):
    """Normalised random clips, (batch, frames, 3, size, size) float32."""
    return torch.from_numpy(
        np.random.RandomState(seed).standard_normal((batch, frames, 3, size, size)).astype(np.float32)
    )
