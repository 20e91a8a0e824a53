"""Sample videos of the demo data set."""

from datasets.pyav_source import PyAVVideo
from demo.shapes_samples import CLASS_NAMES, SAMPLE_CLASSES, sample_videos


def test_each_motion_has_a_sample(tmp_path):
    samples = sample_videos(tmp_path / "samples")
    assert [name for name, _ in samples] == [c.name for c in SAMPLE_CLASSES] and len(CLASS_NAMES) == 40
    for clip_class, (name, path) in zip(SAMPLE_CLASSES, samples):
        assert name in CLASS_NAMES and path.name == f"{clip_class.folder}.mp4"  # as the history shows it
        with PyAVVideo(path) as source:
            assert 25 <= source.num_frames <= 60
