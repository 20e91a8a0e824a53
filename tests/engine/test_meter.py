"""The meter's advice if a run waits for data."""

import logging

import pytest
import torch

from engine.meter import EpochInfo, TrainingMeter
from engine.metrics_writer import MetricsWriter
from modules.training import Progress, StepRecord
from utils.distributed import Process
from utils.schema import Config


@pytest.mark.parametrize(
    ("share", "data", "parts"),  # parts that begin with "not " are absent
    [
        (0.05, {}, ()),
        (0.30, {"cached_draws": 1}, ("put logging.cache_dir", "not data.workers", "not short side")),
        (0.30, {"modality": "video", "cached_draws": 1}, ("put logging.cache_dir", "not data.workers", "not pack")),
        (0.30, {}, ("30% of the time", "raise data.workers (now 4 per process), up to 8", "short side")),
        (0.30, {"workers": 8}, ("run on more processor cores", "not raise")),
        (0.30, {"modality": "video", "workers": 2}, ("now 2", "python -m tools.pack_videos")),
        (0.30, {"modality": "video", "decoder": "decord"}, ("python -m tools.pack_videos", "data.decoder=pyav")),
    ],
)
def test_advice_is_given_once_above_ten_percent(tmp_path, monkeypatch, caplog, share, data, parts):
    advice = show_epochs(tmp_path, monkeypatch, caplog, data, share)
    assert len(advice) == bool(parts)
    assert all((part[4:] not in advice[0]) if part.startswith("not ") else part in advice[0] for part in parts)


def test_packed_clips_are_not_advised_for_packed_clips(tmp_path, monkeypatch, caplog):
    data = {"modality": "video", "decoder": "decord"}
    (advice,) = show_epochs(tmp_path, monkeypatch, caplog, data, 0.30, is_packed=True)
    assert "raise data.workers" in advice and "pack" not in advice and "decoder" not in advice


def test_epochs_of_two_steps_also_give_advice(tmp_path, monkeypatch, caplog):
    (advice,) = show_epochs(tmp_path, monkeypatch, caplog, {}, 0.30, num_steps=2)
    assert "30% of the time" in advice


def test_steps_of_a_resumed_epoch_are_counted_from_its_start(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cfg = Config.model_validate({"data": {"batch_size": 8}, "logging": {"tensorboard": False, "print_freq": 5}})
    process = Process(0, 1, 0, torch.device("cpu"))
    metrics = MetricsWriter(tmp_path, process, cfg, Progress(step=9))
    meter = TrainingMeter(cfg, process, metrics, EpochInfo(0, 3, 8 * 12))
    assert (meter._bar.n, meter._bar.total) == (9, 12)
    for step in range(10, 13):
        meter.show(StepRecord(step, 1.0, {"new": 1e-3}, 8, 1.0, 0.0))
    meter.close()
    metrics.close()
    steps = [message.split()[3] for message in caplog.messages if " step " in message]
    assert steps == ["10/12", "12/12"]


def show_epochs(tmp_path, monkeypatch, caplog, data, share, num_steps=12, **options) -> list[str]:
    """The advice of two epochs of a process that has shown none before."""
    monkeypatch.setattr(TrainingMeter, "_has_advised", False)
    monkeypatch.setattr(TrainingMeter, "_num_warm_up", 0)
    monkeypatch.setattr("engine.meter.num_cores", lambda: 8)
    caplog.set_level(logging.INFO)
    cfg = Config.model_validate({"data": data, "logging": {"tensorboard": False}})
    process = Process(0, 1, 0, torch.device("cpu"))
    metrics = MetricsWriter(tmp_path, process, cfg, Progress())
    for epoch in range(2):
        meter = TrainingMeter(cfg, process, metrics, EpochInfo(epoch, num_steps, 8 * num_steps, **options))
        for step in range(num_steps):
            wait = 5.0 if step < 2 and epoch == 0 else share  # starting up does not count
            meter.show(StepRecord(step, 1.0, {"new": 1e-3}, 8, max(1.0, wait), wait))
        meter.close()
    metrics.close()
    return [r.getMessage() for r in caplog.records if "waiting for data" in r.getMessage()]


def test_records_are_written_once_a_full_disk_has_space(tmp_path, monkeypatch, caplog):
    cfg = Config.model_validate({"logging": {"tensorboard": False}})
    metrics = MetricsWriter(tmp_path, Process(0, 1, 0, torch.device("cpu")), cfg, Progress())
    file, space = metrics._file, [3]

    class FullDisk:
        """Takes so many bytes and no more."""

        def write(self, line):
            taken = line[: space[0]]
            space[0] -= len(taken)
            return file.write(taken)

        def __getattr__(self, name):
            return getattr(file, name)

    metrics._file = FullDisk()
    for step in (1, 2):
        metrics.write("train", step, epoch=0, loss=0.5)
    assert [r.getMessage().split(" (")[0] for r in caplog.records] == [
        f"WARNING: {tmp_path / 'metrics.jsonl'} cannot be written"
    ]
    space[0] = 10_000
    metrics.write("train", 3, epoch=0, loss=0.5)
    metrics.close()
    assert [r["step"] for r in metrics.records()] == [1, 2, 3]


def test_a_line_has_the_speed_since_the_line_before(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cfg = Config.model_validate({"logging": {"tensorboard": False, "print_freq": 2}})
    process = Process(0, 1, 0, torch.device("cpu"))
    meter = TrainingMeter(cfg, process, MetricsWriter(tmp_path, process, cfg, Progress()), EpochInfo(0, 4, 32))
    for step, (seconds, wait) in enumerate([(1.0, 0.0), (1.0, 0.0), (3.0, 2.0), (1.0, 0.0)]):
        meter.show(StepRecord(step, 1.0, {"new": 1e-3}, 8, seconds, wait))
    meter.close()
    first, second = (m for m in caplog.messages if "clips/s" in m)
    assert "8.0 clips/s  data 0%" in first and "4.0 clips/s  data 50%" in second
