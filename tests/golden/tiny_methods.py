"""Small seeded parameters for the methods of methods.json, under neutral names.

Values come from numpy's legacy RandomState; every tensor is rounded to what float16 holds exactly. The names say what
a tensor is and not where a program keeps it: map them to your own. CLIP's own weights are `tiny_clip.vit(seed)`.
Linear weights are (out, in), as torch has them.
"""

import numpy as np
import torch


class _Draw:
    def __init__(self, seed):
        self.rng = np.random.RandomState(seed)

    def __call__(self, *shape, std=0.05):
        values = torch.from_numpy((self.rng.standard_normal(shape) * std).astype(np.float32))
        return values.half().float()


def _linear(draw, name, out, inp):
    return {f"{name}.weight": draw(out, inp, std=inp**-0.5), f"{name}.bias": draw(out)}


def _norm(draw, name, width):
    return {f"{name}.weight": 1 + draw(width), f"{name}.bias": draw(width)}


def _attention(draw, name, width):
    """Fused query, key, value projection, then the output projection."""
    return {
        f"{name}.in_proj_weight": draw(3 * width, width, std=width**-0.5),
        f"{name}.in_proj_bias": draw(3 * width),
        **_linear(draw, f"{name}.out_proj", width, width),
    }


def st_adapter(
    seed, layers=3, width=64, adapter_width=16, kernel=(3, 1, 1), places=("before_attn", "before_mlp"), last=3
):
    """Spatio-temporal adapters of the last `last` blocks, at `places` of each."""
    draw, state = _Draw(seed), {}
    for block in range(layers - last, layers):
        for place in places:
            name = f"blocks.{block}.{place}"
            state.update(_linear(draw, f"{name}.down", adapter_width, width))
            state[f"{name}.conv.weight"] = draw(adapter_width, 1, *kernel, std=0.3)
            state[f"{name}.conv.bias"] = draw(adapter_width)
            state.update(_linear(draw, f"{name}.up", width, adapter_width))
    return state


def aim(seed, layers=3, width=64, frames=8, ratio=0.25, two_temporal=False):
    """AIM: a time embedding, and in each block temporal, spatial and MLP adapters."""
    draw, hidden = _Draw(seed), int(width * ratio)
    state = {"time_embedding": draw(frames, width)}
    for block in range(layers):
        for part in ("temporal", "spatial", "mlp") + (("temporal_in",) if two_temporal else ()):
            state.update(_linear(draw, f"blocks.{block}.{part}.down", hidden, width))
            state.update(_linear(draw, f"blocks.{block}.{part}.up", width, hidden))
    return state


def deep_prompts(seed, depth=3, tokens=4, width=64):
    """Learned tokens of the first `depth` blocks: (tokens, width) each."""
    draw = _Draw(seed)
    return {f"blocks.{block}.tokens": draw(tokens, width) for block in range(depth)}


def mote_head(seed, layers=2, width=64, experts=4, context=77):
    """The temporal head whose MLPs are experts."""
    draw = _Draw(seed)
    state = {"position": draw(context, width)}
    for block in range(layers):
        name = f"blocks.{block}"
        state.update(_attention(draw, f"{name}.attn", width))
        state.update(_norm(draw, f"{name}.norm1", width) | _norm(draw, f"{name}.norm2", width))
        for expert in range(experts):
            state.update(_linear(draw, f"{name}.experts.{expert}.up", 4 * width, width))
            state.update(_linear(draw, f"{name}.experts.{expert}.down", width, 4 * width))
    return state


def xclip(seed, layers=3, width=64, dim=64, frames=8, head_layers=1, prompt_layers=2):
    """X-CLIP: message attention in each block, the head over frames, and the prompt generator."""
    draw, state = _Draw(seed), {}
    for block in range(layers):
        name = f"blocks.{block}.message"
        state.update(_linear(draw, f"{name}.fc", width, width) | _norm(draw, f"{name}.norm", width))
        state.update(_attention(draw, f"{name}.attn", width))
    state["head.position"] = draw(frames, dim)
    for block in range(head_layers):
        name = f"head.blocks.{block}"
        state.update(
            _attention(draw, f"{name}.attn", dim)
            | _norm(draw, f"{name}.norm1", dim)
            | _norm(draw, f"{name}.norm2", dim)
        )
        state.update(_linear(draw, f"{name}.mlp.up", 4 * dim, dim) | _linear(draw, f"{name}.mlp.down", dim, 4 * dim))
    state.update(_norm(draw, "patches.norm", width))
    state["patches.proj"] = draw(width, dim, std=width**-0.5)
    state.update(_norm(draw, "prompts.norm", dim))
    state["prompts.alpha"] = 0.1 + draw(dim)
    for block in range(prompt_layers):
        name = f"prompts.blocks.{block}"
        for part in ("query", "key", "value"):
            state[f"{name}.{part}.weight"] = draw(dim, dim, std=dim**-0.5)
        state.update(_linear(draw, f"{name}.out", dim, dim))
        state.update(_norm(draw, f"{name}.norm1", dim) | _norm(draw, f"{name}.norm2", dim))
        state.update(_linear(draw, f"{name}.mlp.up", 4 * dim, dim) | _linear(draw, f"{name}.mlp.down", dim, 4 * dim))
    return state


def attentive_probe(seed, width=64, depth=4, classes=7):
    """A query token, depth - 1 self-attention blocks, a cross-attention block, a linear classifier."""
    draw = _Draw(seed)
    state = {"query": draw(width)}
    for block in range(depth - 1):
        name = f"blocks.{block}"
        state.update(_norm(draw, f"{name}.norm1", width) | _norm(draw, f"{name}.norm2", width))
        state.update(_linear(draw, f"{name}.qkv", 3 * width, width) | _linear(draw, f"{name}.out", width, width))
        state.update(
            _linear(draw, f"{name}.mlp.up", 4 * width, width) | _linear(draw, f"{name}.mlp.down", width, 4 * width)
        )
    state.update(_norm(draw, "cross.norm1", width) | _norm(draw, "cross.norm2", width))
    state.update(_linear(draw, "cross.query", width, width) | _linear(draw, "cross.key_value", 2 * width, width))
    state.update(_linear(draw, "cross.mlp.up", 4 * width, width) | _linear(draw, "cross.mlp.down", width, 4 * width))
    state.update(_linear(draw, "classifier", classes, width))
    return state


def tokens(seed, *shape):
    """Standard normal float32 of any shape."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
