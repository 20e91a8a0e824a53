"""The checkpoints of a run folder."""

import pytest

from engine.keeper import CheckpointKeeper, newest_intact
from utils.errors import UserError


def test_the_newest_intact_checkpoint_is_found_beside_copies_with_other_names(tmp_path):
    keeper = CheckpointKeeper(tmp_path, num_kept=12, save_every=None)
    for epoch in range(12):
        keeper.save({"epoch": epoch})
    assert keeper.failure is None
    (tmp_path / "last_model.1.old.pt").write_bytes(b"a copy by a user")
    for name in ("last_model.pt", "last_model.1.pt"):
        (tmp_path / name).write_bytes(b"damaged")
    path, state = newest_intact(tmp_path)
    assert path.name == "last_model.2.pt" and state["epoch"] == 9

    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="none of its 12 checkpoints could be loaded"):
        newest_intact(tmp_path)
