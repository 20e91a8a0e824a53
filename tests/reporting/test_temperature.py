import numpy as np
import pytest

from reporting.confusion_files import write_confusion
from reporting.temperature import calibration_summary, fit_temperature
from utils.metrics import softmax


def drawn(temperature, num_videos=4000, num_classes=6):
    """Random logits, and labels sampled from the softmax of logits / `temperature`."""
    rng = np.random.default_rng(0)
    logits = 8 * rng.standard_normal((num_videos, num_classes))
    chances = softmax(logits / temperature).cumsum(axis=1)
    labels = (rng.random((num_videos, 1)) > chances).sum(axis=1).clip(max=num_classes - 1)
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_temperature_of_sampled_labels_is_found(temperature):
    logits, labels = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.1)
    found = calibration_summary(logits, labels)
    assert found["ece_at_temperature"] < 3 and (temperature == 1 or found["ece_at_temperature"] < found["ece"])


def test_unreadable_videos_are_ignored():
    logits, labels = drawn(4.0, 200)
    expected = fit_temperature(logits[10:], labels[10:])
    logits[:10] = np.nan
    assert fit_temperature(logits, labels) == expected
    logits[::2] = np.nan  # one half has no readable video
    assert np.isfinite(list(calibration_summary(logits, labels).values())).all()


def test_a_confusion_matrix_of_many_classes_and_odd_names(tmp_path):
    for num_classes in (3, 70):
        names = ['a, "b"', "$x$ & 100%", *(f"class {i}" for i in range(2, num_classes))]
        write_confusion(tmp_path, np.eye(num_classes, dtype=np.int64), names)
        assert len((tmp_path / "confusion.csv").read_text().splitlines()) == num_classes + 1
        assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_one_readable_video_has_no_temperature():
    logits, labels = drawn(4.0, 3)
    logits[1:] = np.nan
    assert calibration_summary(logits, labels) == {}
