"""tools.check_attribution: masked patches, and its table."""

import shutil

import numpy as np
import torch

from engine.check_attribution import mask_patches
from tests.commands.world import call
from tools import check_attribution


def test_masked_patches_have_the_clips_mean_colour():
    clip = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    clip[:, :, :2] = 100
    painted = mask_patches(clip, (2, 2, 2), np.array([0, 7]))
    assert (painted[0, :, :2, :2] == 50).all() and (painted[1, :, 2:, 2:] == 50).all()
    rest = torch.ones(2, 4, 4, dtype=torch.bool)
    rest[0, :2, :2] = rest[1, 2:, 2:] = False
    assert torch.equal(painted.transpose(0, 1)[:, rest], clip.transpose(0, 1)[:, rest])


def test_the_table_has_a_row_for_each_kind_of_mask(world, tmp_path, capsys):
    assert call("train", "--config", world.config, f"logging.run_dir={tmp_path}") == 0
    videos, weights = tmp_path / "videos", tmp_path / "last_model.pt"
    videos.mkdir()
    for name in ("val_0_0.mp4", "val_1_0.mp4"):
        shutil.copy(world.root / "videos" / name, videos)
    arguments = [str(videos), "--weights", str(weights), "--share", "0.25", "data.batch_size=2"]
    capsys.readouterr()
    check_attribution.main(check_attribution.parse_arguments(arguments))
    printed = capsys.readouterr().out
    assert "25% of the patches" in printed and "random patches masked" in printed
    values = [float(line.split()[-1]) for line in printed.splitlines() if line.endswith(tuple("0123456789"))]
    assert len(values) == 5 and all(-1 <= value <= 1 for value in values)
