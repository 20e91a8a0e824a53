"""tools/media_files.py: it finds the same videos and frames as predict.py."""

import shutil

import pytest

from inference.video_inputs import expand_inputs, list_frames
from tests.datasets.helpers import write_frames
from tests.tools.loading import load_tool

media_files = load_tool("media_files")


def test_predictions_and_lists_find_the_same_videos(tmp_path):
    for name in ("a/1.mp4", "a/._1.mp4", ".trash/2.mp4", "b/3.gif", "b/4.asf", "elsewhere/5.vob"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"")
    root = (tmp_path / "root" / "elsewhere").rename(tmp_path / "elsewhere").parent / "root"
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    expected = ["a/1.mp4", "b/3.gif", "b/4.asf", "linked/5.vob"]
    assert expand_inputs([root]) == [f"{root}/{name}" for name in expected]
    assert media_files.find_videos(root) == expected
    write_frames(tmp_path / "frames", 2)
    shutil.copy(next((tmp_path / "frames").glob("*.jpg")), tmp_path / "frames" / "._hidden.jpg")
    assert len(list_frames(tmp_path / "frames")) == 2


@pytest.mark.parametrize("name", [" ", "a ", " a", "a\nb", "a\0b", "\udcff"])
def test_names_that_lists_cannot_contain(name):
    assert "rename it" in media_files.list_fault(name)
    assert media_files.list_fault("a b/c") is None
