import types

import numpy as np
import pytest
import torch

from modules.embed import embed_videos
from utils.context import RunContext


def run(videos: list[torch.Tensor], clips_per_forward: int, seen: list[int]):
    """Two videos per batch, with three views of a clip, x, x + 1 and x + 2; the embedding is the mean of a view."""
    entries = [types.SimpleNamespace(path=f"v{i}", name=f"v{i}", label=i) for i in range(len(videos))]
    loader = [
        {
            "frames": videos[begin : begin + 2],
            "index": torch.arange(begin, min(begin + 2, len(videos))),
            "is_faulty": torch.zeros(len(videos[begin : begin + 2]), dtype=torch.bool),
        }
        for begin in range(0, len(videos), 2)
    ]

    class Loader(list):
        dataset = types.SimpleNamespace(entries=entries, num_classes=None)

        def views(self, clip: torch.Tensor) -> torch.Tensor:
            assert clip.shape[0] == 1, "one clip at a time is cut"
            return torch.cat([clip, clip + 1, clip + 2])

    def encode(clips: torch.Tensor) -> torch.Tensor:
        seen.append(len(clips))
        return clips.float().flatten(1).mean(dim=1, keepdim=True)

    return embed_videos(encode, Loader(loader), RunContext(), clips_per_forward)


@pytest.mark.parametrize("num_clips", [1, 4])
@pytest.mark.parametrize("clips_per_forward", [1, 5, 64])
def test_views_are_cropped_when_the_model_needs_them(num_clips, clips_per_forward):
    rng = np.random.default_rng(0)
    videos = [torch.from_numpy(rng.integers(0, 200, (num_clips, 2, 3, 4, 4), dtype=np.uint8)) for _ in range(5)]
    seen = []
    table = run(videos, clips_per_forward, seen)
    expected = [[video.float().mean().item() + 1] for video in videos]
    assert np.allclose(table.embeddings, expected, atol=1e-4)
    assert table.labels.tolist() == [0, 1, 2, 3, 4]
    assert max(seen) <= clips_per_forward and sum(seen) == 5 * num_clips * 3
