"""Sample videos of the demo data set."""

from datasets.pyav_source import PyAVVideo
from demo.shapes_samples import CLASS_NAMES, SAMPLE_CLASSES, sample_videos


def test_without_the_demo_they_are_rendered(tmp_path):
    samples = sample_videos(tmp_path / "none", tmp_path / "samples")
    assert [name for name, _ in samples] == [c.name for c in SAMPLE_CLASSES] and len(CLASS_NAMES) == 40
    for name, path in samples:
        assert name in CLASS_NAMES
        with PyAVVideo(path) as source:
            assert 25 <= source.num_frames <= 60


def test_the_demos_test_videos_are_taken(tmp_path):
    (tmp_path / "lists").mkdir()
    lines = [f"{c.folder}/val_000.mp4 0\n" for c in SAMPLE_CLASSES]
    (tmp_path / "lists" / "val_videos.txt").write_text("".join(lines[:-1]))
    (tmp_path / "lists" / "heldout_videos.txt").write_text(lines[-1])
    for clip_class in SAMPLE_CLASSES:
        path = tmp_path / "videos" / clip_class.folder / "val_000.mp4"
        path.parent.mkdir(parents=True)
        path.write_text(clip_class.name)
    samples = sample_videos(tmp_path, tmp_path / "samples")
    assert [path.name for _, path in samples] == [f"{c.folder}.mp4" for c in SAMPLE_CLASSES]  # as the history shows it
    assert [path.read_text() for _, path in samples] == [c.name for c in SAMPLE_CLASSES]
