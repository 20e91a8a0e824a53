"""Which frames a prediction rests on: each frame of a clip is taken away in turn.

Shapes: T frames, C channels, S side, D embedding, K classes.
"""

import torch

from modules.additions.addition import MixesFrames
from modules.video_clip import VideoCLIP, scaled_cosine


@torch.inference_mode()
def drop_one_frame(
    model: VideoCLIP, clip: torch.Tensor, text: torch.Tensor, label: int, clips_per_forward: int = 8
) -> torch.Tensor:
    """What each frame adds to the log-odds of a class: those of the clip less those of the clip without the frame.

    Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901) in time. A dropped frame's place is taken by the frame before
    it, the first one's by the second, so that the clip keeps its length and the other frames their places. The
    log-odds are log(p / (1 - p)) of the class's probability, by the logits of evaluation.

    Args:
        clip: (T, C, S, S) uint8 on the model's device. text: (K, D) class embeddings, on the same. label: of the class.
        clips_per_forward: clips that go through the image tower at a time, where it looks over time.

    Returns:
        (T,) float32 on the CPU, in nats: positive where the frame speaks for the class; 0 for a clip of one frame, and
        where there is one class.
    """
    num_frames = len(clip)
    if len(text) < 2 or num_frames < 2:
        return torch.zeros(num_frames)
    # Row 0 is the whole clip, row 1+t the clip without frame t.
    kept = torch.arange(num_frames, device=clip.device).repeat(num_frames + 1, 1)
    for t in range(num_frames):
        kept[1 + t, t] = t - 1 if t else 1
    if any(isinstance(module, MixesFrames) for module in model.visual.modules()):
        videos = torch.cat([model.encode_video(clip[rows]) for rows in kept.split(clips_per_forward)])
    else:  # frames are embedded apart: once is enough
        videos = model.fusion_model(model.encode_frames(clip[None])[0][kept])
    probabilities = scaled_cosine(videos, text).double().log_softmax(dim=-1)
    others = probabilities.clone()
    others[:, label] = -torch.inf
    log_odds = probabilities[:, label] - others.logsumexp(dim=-1)
    return (log_odds[0] - log_odds[1:]).float().cpu()
