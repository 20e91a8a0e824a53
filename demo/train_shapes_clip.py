"""Trains the tiny CLIP of the demo, image and text tower, contrastively and from scratch on still pictures.

The training data are the captioned stills of `demo/shapes_stills.py`: pictures of shapes at rest and long exposures of
moving shapes. They contain no clip and no two frames of a clip, and no picture or caption of a held-out class, since
long exposures and class descriptions are of the seen classes only.

The loss is InfoNCE in both directions, and with a small weight that of a linear classifier of each picture's
attributes, which is discarded afterwards. Without it, the towers stay for a long time on the plateau where all
embeddings are equal (in a trial the contrastive loss after 1500 steps was 4.3, and 2.5 with it).

The output is a state dict with the parameter names of OpenAI's CLIP (ViT image tower, 77-token text tower over CLIP's
vocabulary, QuickGELU, 64 channels per head), float16, at most 10 MB. The same seed and number of threads give the same
weights on the same machine; the file in the project was created with the default options and OMP_NUM_THREADS=1.

Examples:
    python -m demo.train_shapes_clip clip/shapes_clip.pt
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import Transformer, VisionTransformer
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from demo.make_shapes_world import in_processes
from demo.shapes_stills import NUM_VALUES, Stills, caption_is_true, render_stills
from utils.cli import Parser, run_command
from utils.cores import num_cores
from utils.files import atomic_path
from utils.progress import progress

IMAGE_SIZE = 64  # pixels
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's CLIP
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
SHARD = 500  # stills rendered from one random stream
READOUT_WEIGHT = 0.2  # weight of the attribute loss
FRAME_NORM = 3.0  # of a frame embedding; no cosine depends on it, but the temporal head starts from small weights


Rendered = tuple[torch.Tensor, list[str], np.ndarray, np.ndarray]
"""Pictures uint8 (N, 3, 64, 64), captions, attributes (N, 8), mentioned (N, 8)."""


class Towers(CLIP):
    """open_clip's CLIP, whose parts are of these kinds."""

    visual: VisionTransformer
    transformer: Transformer
    token_embedding: torch.nn.Embedding
    positional_embedding: torch.nn.Parameter
    ln_final: torch.nn.Module
    text_projection: torch.nn.Parameter
    attn_mask: torch.Tensor


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("out", type=Path, help="the weights file to write, e.g. clip/shapes_clip.pt")
    parser.add_argument("--stills", type=int, default=60_000, help="captioned pictures to train on (default 60000)")
    parser.add_argument("--steps", type=int, default=4000, help="optimiser steps (default 4000)")
    parser.add_argument("--batch_size", type=int, default=128, help="picture-caption pairs per step (default 128)")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default 2e-3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=num_cores(), help="processes that render (default: all cores)")
    return parser.parse_args(arguments)


def build_towers() -> Towers:
    """open_clip's CLIP with the demo's tiny towers, randomly initialised."""
    vision = CLIPVisionCfg(layers=4, width=64, head_width=64, patch_size=8, image_size=IMAGE_SIZE)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=1, layers=2)
    model = Towers(embed_dim=128, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    with torch.no_grad():
        positions = sine_positions(IMAGE_SIZE // vision.patch_size, vision.width)
        model.visual.get_parameter("positional_embedding")[1:] = 0.5 * positions
    return model


def sine_positions(grid: int, width: int) -> torch.Tensor:
    """Sines and cosines of the row and column of each patch, (grid * grid, width), to initialise position embeddings.

    With random position embeddings, a small tower takes thousands of steps to learn which patches are neighbours.
    """
    frequencies = math.pi / grid * torch.logspace(0, math.log10(grid), width // 4)
    places = torch.arange(grid) + 0.5
    row, column = (place.reshape(-1, 1) for place in torch.meshgrid(places, places, indexing="ij"))
    return torch.cat([wave(place * frequencies) for place in (column, row) for wave in (torch.sin, torch.cos)], dim=1)


def render_shard(task: tuple[int, int]) -> Stills:
    """In a worker: the stills of one shard, from its own random stream."""
    seed, shard = task
    return render_stills(SHARD, np.random.default_rng([seed, shard]))


def render_all(num_stills: int, seed: int, workers: int) -> Rendered:
    """Render all stills; they do not depend on the number of workers."""
    tasks = [(seed, shard) for shard in range(math.ceil(num_stills / SHARD))]
    shards = in_processes(render_shard, tasks, workers, f"{SHARD} stills")
    pictures = torch.from_numpy(np.concatenate([s.pictures for s in shards])).permute(0, 3, 1, 2)
    captions = [caption for s in shards for caption in s.captions]
    attributes = np.concatenate([s.attributes for s in shards])
    mentioned = np.concatenate([s.mentioned for s in shards])
    return pictures, captions, attributes, mentioned


def scaled(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) to float32, normalised as OpenAI's CLIP expects."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (IMAGE_MEAN, IMAGE_STD))
    return (pictures.float() - mean) / std


def encode_captions(model: Towers, tokens: torch.Tensor) -> torch.Tensor:
    """`encode_text` of tokens (B, L), L <= 77, without computing the padding after the end.

    Attention is causal, so tokens after a caption's end do not change its embedding.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[range(len(x)), tokens.argmax(dim=1)] @ model.text_projection


def contrastive_loss(
    image: torch.Tensor, text: torch.Tensor, logit_scale: torch.Tensor, also_true: torch.Tensor
) -> torch.Tensor:
    """InfoNCE in both directions, without the negatives whose caption is true for the picture.

    image, text: (B, D); also_true: (B, B) bool, whether caption j is true for picture i.
    """
    logits = logit_scale.exp() * functional.normalize(image, dim=1) @ functional.normalize(text, dim=1).T
    own = torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(also_true & ~own, float("-inf"))
    target = torch.arange(len(logits))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def attribute_loss(scores: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the linear classifier: scores (B, sum of NUM_VALUES), attributes (B, 8) with -1 for not
    shown."""
    parts = zip(scores.split(NUM_VALUES, dim=1), attributes.T)
    losses = (functional.cross_entropy(part, value, ignore_index=-1) for part, value in parts)
    return sum(losses, start=scores.new_zeros(()))


def make_optimiser(model: Towers, lr: float, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """AdamW, weight decay on matrices only, warm-up over the first fortieth, then cosine to 0."""
    plain = [p for n, p in model.named_parameters() if p.ndim < 2 or "embedding" in n]
    matrices = [p for n, p in model.named_parameters() if not (p.ndim < 2 or "embedding" in n)]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    warmup = max(1, steps // 40)

    def rate(step: int) -> float:
        return min((step + 1) / warmup, (1 + math.cos(math.pi * step / steps)) / 2)

    return optimiser, LambdaLR(optimiser, rate)


def train(model: Towers, stills: Rendered, args: argparse.Namespace) -> None:
    """Run the contrastive training in place."""
    pictures, captions, attributes, mentioned = stills
    tokens = open_clip.get_tokenizer("ViT-B-32")(captions)
    tokens = tokens[:, : int(tokens.argmax(dim=1).max()) + 1]
    readout = torch.nn.Linear(model.visual.output_dim, sum(NUM_VALUES))
    model.add_module("readout", readout)  # which the optimiser takes with the towers
    optimiser, schedule = make_optimiser(model, args.lr, args.steps)
    generator = torch.Generator().manual_seed(args.seed)
    order = torch.empty(0, dtype=torch.int64)
    bar = progress(range(args.steps), desc="training")
    for _ in bar:
        if len(order) < args.batch_size:
            order = torch.randperm(len(pictures), generator=generator)
        batch, order = order[: args.batch_size], order[args.batch_size :]
        also_true = torch.from_numpy(caption_is_true(attributes[batch], mentioned[batch]))
        image = model.encode_image(scaled(pictures[batch]))
        contrast = contrastive_loss(image, encode_captions(model, tokens[batch]), model.logit_scale, also_true)
        loss = contrast + READOUT_WEIGHT * attribute_loss(readout(image), torch.from_numpy(attributes[batch]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        bar.set_postfix(refresh=False, loss=f"{contrast.item():.3f}", scale=f"{model.logit_scale.exp().item():.1f}")
    del model.readout


def release(model: Towers, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """The state dict to publish: frame embeddings of norm FRAME_NORM on average, values that are exact in float16."""
    with torch.no_grad():
        norm = model.encode_image(scaled(pictures)).norm(dim=1).mean()
        assert model.visual.proj is not None
        model.visual.proj.mul_(FRAME_NORM / norm)
    return {name: value.half() for name, value in model.state_dict().items()}


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    stills = render_all(args.stills, args.seed, args.workers)
    model = build_towers()
    train(model, stills, args)
    with atomic_path(args.out) as temporary:
        torch.save(release(model, stills[0][:1000]), temporary)
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
