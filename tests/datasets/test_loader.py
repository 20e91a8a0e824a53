import gc
import logging
import multiprocessing
import os
import re
import signal
import traceback

import numpy as np
import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from datasets import build, lists
from datasets.augmentations.color_jitter import ColorJitter
from datasets.augmentations.erasing import Erasing
from datasets.augmentations.grayscale import Grayscale
from datasets.augmentations.randaug import RandAug
from datasets.loader import _usable
from datasets.samplers import plan_epoch
from datasets.transforms import EvalTransform, Resize, TrainTransform, make_views
from tests.datasets.helpers import frame_config, picture, write_video
from utils.config import load_config
from utils.data_sections import ColorJitterConfig
from utils.errors import MachineError, UserError
from utils.schema import Config


@pytest.fixture(autouse=True)
def no_workers_left():
    _usable.cache_clear()
    yield
    gc.collect()
    assert not multiprocessing.active_children()


def by_index(batches) -> dict[int, tuple[torch.Tensor, int]]:
    """index -> (frames, label) of the real samples."""
    items = {}
    for batch in batches:
        for row, index in enumerate(batch["index"].tolist()):
            if batch["weight"][row] == 1:
                assert index not in items
                items[index] = (batch["frames"][row], int(batch["label"][row]))
    return items


def assert_same_items(one, other) -> None:
    assert one.keys() == other.keys()
    for index in one:
        assert torch.equal(one[index][0], other[index][0])
        assert one[index][1] == other[index][1]


def test_training_batches(tmp_path):
    loader = build.build_train_loader(frame_config(tmp_path))
    batches = list(loader)
    assert len(loader) == len(batches) == 4
    assert [len(batch["label"]) for batch in batches] == [2, 2, 2, 1]
    for batch in batches:
        frames = batch["frames"]
        assert frames.shape[1:] == (4, 3, 32, 32) and frames.dtype == torch.uint8
        assert frames.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        assert batch["label"].dtype == batch["index"].dtype == torch.int64
        assert batch["weight"].dtype == torch.float32
        assert batch["label"].tolist() == [index % 3 for index in batch["index"].tolist()]
    assert sorted(by_index(batches)) == list(range(7))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_clips_for_any_number_of_workers(tmp_path, workers):
    alone = build.build_train_loader(frame_config(tmp_path, randaug={"N": 1, "M": 9}))
    helped = build.build_train_loader(frame_config(tmp_path, randaug={"N": 1, "M": 9}, workers=workers))
    for epoch in (0, 1, 0):
        alone.start_epoch(epoch)
        helped.start_epoch(epoch)
        for one, other in zip(list(alone), list(helped), strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_same_clips_for_any_number_of_processes(tmp_path, world_size):
    cfg = frame_config(tmp_path)
    expected = by_index(list(build.build_train_loader(cfg)))
    shares = [list(build.build_train_loader(cfg, world_size, rank)) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    assert_same_items(by_index(sum(shares, [])), expected)


def test_a_process_without_a_sample_gets_one_of_weight_zero(tmp_path):
    cfg = frame_config(tmp_path, num_videos=5)
    loaders = [build.build_train_loader(cfg, 2, rank) for rank in range(2)]
    last = [list(loader)[-1] for loader in loaders]
    assert [batch["weight"].tolist() for batch in last] == [[1.0], [0.0]]
    assert torch.equal(last[0]["frames"], last[1]["frames"])


def test_resume_in_the_middle_of_an_epoch(tmp_path):
    cfg = frame_config(tmp_path)
    loader = build.build_train_loader(cfg)
    loader.start_epoch(2)
    expected = list(loader)[2:]
    loader.start_epoch(2, start_sample=4)
    resumed = list(loader)
    for one, other in zip(expected, resumed, strict=True):
        assert torch.equal(one["frames"], other["frames"]) and torch.equal(one["index"], other["index"])


def test_epochs_differ_in_order_and_in_pixels(tmp_path):
    loader = build.build_train_loader(frame_config(tmp_path))
    epochs = []
    for epoch in (0, 1):
        loader.start_epoch(epoch)
        epochs.append(list(loader))
    assert [b["index"].tolist() for b in epochs[0]] != [b["index"].tolist() for b in epochs[1]]
    first, second = map(by_index, epochs)
    assert not any(torch.equal(first[index][0], second[index][0]) for index in first)


@pytest.mark.parametrize("num_crops", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_batches_are_the_same_for_any_number_of_processes(tmp_path, num_crops, workers):
    cfg = frame_config(tmp_path, workers=workers, batch_size=4)
    how = {"views": build.Views(2, num_crops)}
    alone = {tuple(b["index"].tolist()): b for b in build.build_eval_loader(cfg, **how)}
    assert [len(index) for index in alone] == [2, 2, 2, 1]
    for world_size in (2, 3, 5):
        batches = [b for rank in range(world_size) for b in build.build_eval_loader(cfg, world_size, rank, **how)]
        assert {tuple(b["index"].tolist()) for b in batches} == set(alone)
        for batch in batches:
            expected = alone[tuple(batch["index"].tolist())]
            assert all(torch.equal(one, other) for one, other in zip(batch["frames"], expected["frames"]))
        if workers:
            break


def test_evaluation_returns_one_resized_copy_of_each_frame(tmp_path):
    cfg = frame_config(tmp_path, workers=1, batch_size=4)
    several = next(iter(build.build_eval_loader(cfg, views=build.Views(2, 10))))
    assert [frames.shape for frames in several["frames"]] == [(2, 4, 3, 32, 39)] * 2
    assert several["frames"][0].movedim(-3, -1).is_contiguous()
    one = next(iter(build.build_eval_loader(cfg, views=build.Views(2))))
    assert [frames.shape for frames in one["frames"]] == [(2, 4, 3, 32, 32)] * 2
    assert torch.equal(make_views(several["frames"][0], 1, 32), one["frames"][0])


def test_a_batch_has_the_same_number_of_clips_for_any_clips_per_video(tmp_path):
    cfg = frame_config(tmp_path, batch_size=4)
    for num_clips, videos in ((1, [4, 3]), (2, [2, 2, 2, 1]), (9, [1] * 7)):
        loader = build.build_eval_loader(cfg, views=build.Views(num_clips, 3))
        assert [len(batch["frames"]) for batch in loader] == videos


def test_videos_of_different_sizes_share_an_evaluation_batch(tmp_path):
    (tmp_path / "v").mkdir()
    write_video(tmp_path / "v" / "a.mp4", 12, size=(48, 64))
    write_video(tmp_path / "v" / "b.mkv", 12, size=(64, 48))
    (tmp_path / "videos.txt").write_text("a.mp4 0\nb.mkv 1\n")
    cfg = frame_config(tmp_path, modality="video", val_root=str(tmp_path / "v"), val_list=str(tmp_path / "videos.txt"))
    (batch,) = build.build_eval_loader(cfg, views=build.Views(1, 3))
    assert [frames.shape for frames in batch["frames"]] == [(1, 4, 3, 32, 42), (1, 4, 3, 42, 32)]
    assert batch["label"].tolist() == [0, 1]


def test_training_from_videos(tmp_path):
    (tmp_path / "v").mkdir()
    for name in "abc":
        write_video(tmp_path / "v" / f"{name}.mp4", 12)
    (tmp_path / "videos.txt").write_text("a.mp4 0\nb.mp4 1\nc.mp4 2\n")
    videos = {"modality": "video", "train_root": str(tmp_path / "v"), "train_list": str(tmp_path / "videos.txt")}
    batches = list(build.build_train_loader(frame_config(tmp_path, workers=1, **videos)))
    assert sorted(by_index(batches)) == [0, 1, 2]


def test_validation_and_testing_choose_their_frames(tmp_path):
    cfg = frame_config(tmp_path, input_size=36)
    (validation,) = list(build.build_eval_loader(cfg))[:1]
    (testing,) = list(build.build_eval_loader(cfg, views=build.Views()))[:1]
    assert torch.equal(validation["frames"][0], testing["frames"][0])
    # Frames 0, 2, 5, 7 of ten, each a picture of its own seed, resized by nothing and cut in the middle.
    for frame, index in zip(validation["frames"][0][0], (0, 2, 5, 7)):
        assert (frame.int() - picture(index, 36, 44)[..., 4:40].int()).abs().float().mean() < 8
    dense = next(iter(build.build_eval_loader(cfg, views=build.Views(dense=True))))
    assert not torch.equal(dense["frames"][0], testing["frames"][0])


def test_short_entries_are_left_out_of_training_and_validation_only(tmp_path):
    cfg = frame_config(tmp_path)
    path = tmp_path / "list.txt"
    path.write_text(path.read_text().replace("v1 10", "v1 7"))
    entries = build.read_train_entries(cfg)
    assert entries.num_short == 1 and entries.picks is None
    assert [entry.path for entry in entries.entries] == ["v0", "v2", "v3", "v4", "v5", "v6"]
    assert len(build.build_eval_loader(cfg).dataset) == 6
    assert len(build.build_eval_loader(cfg, views=build.Views()).dataset) == 7
    path.write_text("v0 3 0\n")
    with pytest.raises(UserError, match=r"list.txt: every entry has fewer than 8 frames"):
        build.read_train_entries(cfg)


def test_folders_without_a_frame_count_are_counted(tmp_path, caplog):
    """As in published lists: `path 0 label`."""
    cfg = frame_config(tmp_path)
    path = tmp_path / "list.txt"
    path.write_text(path.read_text().replace("v1 10", "v1 0").replace("v2 10", "v2 0"))
    (tmp_path / "frames" / "v2" / "img_00010.jpg").unlink()
    (tmp_path / "frames" / "v2" / "flow_00001.jpg").touch()
    with caplog.at_level("INFO"):
        entries = build.read_train_entries(cfg).entries
    assert [entry.num_frames for entry in entries] == [10, 10, 9, 10, 10, 10, 10]
    assert caplog.messages == [f"{path}: num_frames is 0 in 2 lines; the frames in their folders were counted"]
    for views in (None, build.Views()):
        dataset = build.build_eval_loader(cfg, views=views).dataset
        assert [entry.num_frames for entry in dataset.entries] == [10, 10, 9, 10, 10, 10, 10]
    for frame in (tmp_path / "frames" / "v1").iterdir():
        frame.unlink()
    with pytest.raises(UserError, match=r"list.txt:2: num_frames is 0, so the frames in .*v1 were counted"):
        build.read_train_entries(cfg)


def test_few_shot_training(tmp_path):
    cfg = frame_config(tmp_path, shot=1, shot_seed=3)
    read = build.read_train_entries(cfg)
    assert len(read.entries) == 7
    assert sorted(entry.label for entry in read.picks) == [0, 1, 2]
    assert {entry.path for entry in read.entries} == {entry.path for entry in read.picks}
    assert [*build.read_train_entries(cfg).entries] == [*read.entries]
    loader = build.build_train_loader(cfg, entries=read.entries)
    items = by_index(list(loader))
    assert len(items) == 7
    # The same video twice in an epoch is two samples, with draws of their own.
    assert read.entries[0] == read.entries[3]
    assert not torch.equal(items[0][0], items[3][0])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("train", [True, False])
def test_an_error_in_a_worker_is_reported_in_one_line(tmp_path, workers, train):
    cfg = frame_config(tmp_path, workers=workers)
    for frame in (tmp_path / "frames" / "v3").glob("*.jpg"):
        frame.unlink()
    loader = build.build_train_loader(cfg) if train else build.build_eval_loader(cfg, views=build.Views())
    with pytest.raises(UserError) as error:
        list(loader)
    message = str(error.value)
    assert "v3" in message and f"{tmp_path}/list.txt:4" in message and "\n" not in message
    assert not multiprocessing.active_children(), "the workers are stopped before the error is raised"


def test_freed_memory_is_returned_from_time_to_time(tmp_path, monkeypatch):
    times = []
    monkeypatch.setattr("datasets.loader.CLIPS_PER_TRIM", 4)
    monkeypatch.setattr("datasets.loader.return_freed_memory", lambda: times.append(1))
    assert len(list(build.build_train_loader(frame_config(tmp_path, workers=0, batch_size=2)))) == 4
    assert len(times) == 1  # of 7 clips


def test_a_bug_in_a_worker_keeps_its_traceback(tmp_path, monkeypatch):
    loader = build.build_train_loader(frame_config(tmp_path, workers=1))
    monkeypatch.setattr(loader.dataset, "_choose_frames", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="Traceback") as error:
        list(loader)
    traceback.clear_frames(error.tb)  # they hold the workers
    loader.close()


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("stack expects each tensor to be equal size", RuntimeError),
        ("DataLoader worker (pid 1) is killed by signal: Killed.", RuntimeError),
        ("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)", MachineError),
    ],
)
def test_a_runtime_error_in_a_worker_is_reported_by_its_cause(tmp_path, monkeypatch, message, kind):
    def fail(*_):
        raise RuntimeError(message)

    loader = build.build_train_loader(frame_config(tmp_path, workers=1))
    if kind is MachineError:
        monkeypatch.setattr(torch.UntypedStorage, "_new_shared", fail)
    else:
        monkeypatch.setattr(loader.dataset, "_choose_frames", fail)
    with pytest.raises(
        kind, match="(?s)--shm-size.*data.workers" if kind is MachineError else "(?s)Traceback"
    ) as error:
        list(loader)
    traceback.clear_frames(error.tb)
    loader.close()


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGBUS, "--shm-size")], ids=str
)
def test_a_killed_worker_is_reported_as_killed(tmp_path, monkeypatch, number, how):
    # PyTorch looks every 5 s whether the workers are alive.
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    loader = build.build_train_loader(frame_config(tmp_path, workers=1))
    with pytest.raises(MachineError) as error:
        for _ in loader:
            os.kill(multiprocessing.active_children()[0].pid, number)
    assert how in str(error.value)
    traceback.clear_frames(error.tb)
    loader.close()


def test_no_more_workers_than_cores(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("datasets.loader.num_cores", lambda: 1)
    cfg = frame_config(tmp_path, workers=7)
    loaders = [build.build_train_loader(cfg), build.build_eval_loader(cfg)]
    assert [loader._loader.num_workers for loader in loaders] == [1, 1]
    assert caplog.messages == ["data.workers is 7, but only 1 loader processes are started, one per available core"]


def test_a_config_of_text4vis_for_something_something_gets_its_keys_and_they_are_named(tmp_path, caplog):
    keys = {"scale": [34, 46], "crop": "multi_scale", "flip_pairs": [[86, 87], [93, 94], [166, 167]]}
    by_name = frame_config(tmp_path, dataset="Something-v2", num_classes=174)
    assert {key: getattr(by_name.data, key) for key in keys} == keys
    assert "data.scale=[34, 46]" in caplog.text and "data.crop=multi_scale" in caplog.text
    by_keys = frame_config(tmp_path, num_classes=174, **keys)
    transform = build.build_train_loader(by_name).dataset.transform
    assert transform == build.build_train_loader(by_keys).dataset.transform
    pairs = {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
    assert transform == TrainTransform(
        Resize((34, 46), "squash"), 32, multi_scale=True, flip_pairs=pairs, augmentations=(Grayscale(0.2),)
    )
    for cfg in (by_name, by_keys):
        assert build.build_eval_loader(cfg).dataset.transform == EvalTransform(transform.resize, 32)
    assert frame_config(tmp_path, dataset="something", num_classes=90).data.flip_pairs == [[86, 87]]


def test_one_key_switches_the_name_off(tmp_path):
    cfg = frame_config(tmp_path, dataset="something-v2", crop="random_resized")
    assert build.train_transform(cfg) == TrainTransform(Resize(32), 32, augmentations=(Grayscale(0.2),))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ["data.flip_pairs=[[0, 1], [1, 2]]"],
            "data.flip_pairs and data.num_classes: must be pairs",
        ),
        (["data.flip_pairs=[[0, 3]]"], "must be pairs of class ids"),
        (["data.flip_pairs=[[0]]"], "must be pairs of class ids"),
        (
            ["data.scale=[240, 320]", "data.input_size=256"],
            "data.scale and data.input_size: the frames",
        ),
    ],
)
def test_invalid_flip_pairs_and_scales_are_named(keys, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(None, ["data.num_classes=3", *keys], "train")


def test_config_reaches_the_transform(tmp_path):
    cfg = frame_config(tmp_path, flip=0.0, grayscale=1.0, area_range=[0.5, 0.6], randaug={"N": 2, "M": 7})
    transform = build.build_train_loader(cfg).dataset.transform
    assert transform.flip_prob == 0 and transform.area_range == (0.5, 0.6)
    assert transform.augmentations == (RandAug(2, 7), Grayscale(1.0))
    more = frame_config(tmp_path, color_jitter={"prob": 0.8}, erasing={"prob": 0.3, "area_range": [0.1, 0.2]})
    jitter = ColorJitter(ColorJitterConfig(prob=0.8))
    assert build.train_transform(more).augmentations == (jitter, Grayscale(0.2), Erasing(0.3, (0.1, 0.2)))


def test_random_shift_off_takes_the_validation_frames(tmp_path):
    cfg = frame_config(tmp_path, random_shift=False)
    choose = build.build_train_loader(cfg).dataset._choose_frames
    assert choose(10, np.random.default_rng(0)).tolist() == [0, 2, 5, 7]


def test_errors_in_the_list_are_raised_before_anything_is_read(tmp_path):
    cfg = frame_config(tmp_path, num_classes=2)
    with pytest.raises(UserError, match=r"list.txt:3: label 2 is outside 0..1"):
        build.build_train_loader(cfg)
    outside = frame_config(tmp_path)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/frames/v0 10 0\n")
    with pytest.raises(UserError, match="is absolute"):
        build.build_train_loader(outside)
    allowed = Config.model_validate(
        {"data": {**outside.data.model_dump(), "allow_outside_root": True, "randaug": {"N": 0}}}
    )
    assert len(list(build.build_train_loader(allowed))) == 1


def test_plan_of_an_epoch():
    assert plan_epoch(10, 2, 2) == [4, 4, 2]
    assert plan_epoch(10, 2, 2, start_sample=8) == [2]
    assert plan_epoch(10, 2, 2, start_sample=10) == []


def test_short_entries_rule_matches_the_spec():
    assert lists.MIN_TRAIN_FRAMES == 8
