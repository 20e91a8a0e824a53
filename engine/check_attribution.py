"""`python -m tools.check_attribution`: tests relevance maps by masking patches."""

import argparse
import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from inference.model import VideoModel, load_model
from inference.video_inputs import expand_inputs
from modules.attribution import has_relevance_maps, last_parameters, relevance_maps
from modules.video_clip import VideoCLIP
from utils.errors import UserError
from utils.progress import progress
from utils.results import format_table


def check_attribution(args: argparse.Namespace) -> None:
    """Print the mean probability of the predicted class for each selection of masked patches."""
    model = load_model(args.weights, args.config, overrides=args.overrides)
    if not has_relevance_maps(model.network):
        raise UserError(f"{args.weights}: relevance maps need a ViT, ResNet or ConvNeXt image tower")
    shuffled = shuffled_network(model)
    text = torch.from_numpy(model.class_matrix).to(model.device)
    rng = np.random.default_rng(0)
    rows, correlations = [], []
    videos = expand_inputs([args.videos])
    for path in progress(videos, "videos", unit="video", leave=False, plain=args.plain, disable=args.quiet):
        clip = model.clips(path)[:1]
        probabilities = model.classify(model.embed(clip, str(path)))[0]
        label = int(probabilities.argmax())
        labels = torch.tensor([label], device=model.device)
        maps = relevance_maps(model.network, clip.to(model.device), text, labels)[0].cpu()
        other = relevance_maps(shuffled, clip.to(model.device), text, labels)[0].cpu()
        correlations.append(np.corrcoef(maps.flatten(), other.flatten())[0, 1])
        values = maps.flatten().numpy()
        count = max(1, round(args.share * len(values)))
        most_relevant = np.argsort(-values)[:count]
        random = rng.permutation(len(values))[:count]
        least_relevant = np.argsort(np.abs(values))[:count]
        selections = (most_relevant, random, least_relevant)
        masked = torch.stack([mask_patches(clip[0], maps.shape, patches) for patches in selections])
        rows.append([probabilities[label], *model.classify(model.embed(masked, str(path)))[:, label]])
    means = np.mean(rows, axis=0)
    names = ["original frames", *(f"{kind} patches masked" for kind in ("most relevant", "random", "least relevant"))]
    print(f"{len(rows)} videos, {args.share:.0%} of the patches; mean probability of the predicted class")
    print(format_table([("frames", "probability"), *((name, f"{mean:.3f}") for name, mean in zip(names, means))]))
    print(f"correlation with the maps of a model with shuffled last layers: {np.mean(correlations):.2f}")


def shuffled_network(model: VideoModel) -> VideoCLIP:
    """A copy of the network whose last parameters are randomly permuted."""
    network = copy.deepcopy(model.network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in last_parameters(network):
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten().cpu()[order].view_as(parameter))
    return network


def mask_patches(clip: torch.Tensor, grid: Sequence[int], patches: np.ndarray) -> torch.Tensor:
    """Mask patches of a clip uint8 (T,C,S,S), given as flat indices into the grid (T,h,w), with the clip's mean
    colour."""
    mask = torch.zeros(int(np.prod(grid)))
    mask[torch.from_numpy(patches.copy())] = 1
    mask = F.interpolate(mask.view(*grid)[:, None], size=clip.shape[-2:], mode="nearest").bool()
    colour = clip.float().mean(dim=(0, 2, 3), keepdim=True).to(clip.dtype)
    return torch.where(mask, colour, clip)
