"""`start end` columns of a list: the frames that are on screen between two times."""

import numpy as np
import pytest
import torch

from datasets.build import build_eval_loader, build_train_loader
from datasets.entries import ListEntry
from datasets.frame_folder import FrameFolder
from datasets.frame_source import Jpegs
from datasets.packed_clip import PackedClip, write_packed_clip
from datasets.pyav_source import PyAVVideo
from datasets.readers import open_source
from datasets.segment import Segment
from datasets.video_dataset import SampleKey
from tests.datasets.helpers import write_frames, write_video
from tests.reading import read_frame_list, read_video_list
from utils.errors import UserError
from utils.schema import Config, DataConfig

RATE = 25  # of write_video


@pytest.fixture
def folder(tmp_path):
    write_frames(tmp_path / "frames", 40, height=36, width=48)
    write_video(tmp_path / "v.mp4", 40, size=(36, 48))
    return tmp_path


def all_of(source):
    with source:
        return source.read(np.arange(source.num_frames))


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (0, 0.2, 0, 4),  # the frame at 0.2 s is on screen from there on, so it is not in
        (0.2, 0.4, 5, 9),
        (0.21, 0.41, 5, 10),  # frames of which a part is on screen
        (0.21, 0.22, 5, 5),
        (1.2, 99, 30, 39),
        (1.57, 1.6, 39, 39),
    ],
)
def test_a_segment_is_the_frames_on_screen(folder, start, end, first, last):
    whole = all_of(PyAVVideo(folder / "v.mp4"))
    assert torch.equal(all_of(Segment(PyAVVideo(folder / "v.mp4"), start, end)), whole[first : last + 1])
    frames = FrameFolder(folder / "frames", 40, "img_{:05d}.jpg")
    of_frames = Segment(FrameFolder(folder / "frames", 40, "img_{:05d}.jpg"), start, end, RATE)
    assert torch.equal(all_of(of_frames), all_of(frames)[first : last + 1])


def test_a_packed_clip_uses_its_times_and_its_frames(folder):
    jpegs = [(folder / "frames" / f"img_{i:05d}.jpg").read_bytes() for i in range(1, 41)]
    write_packed_clip(folder / "p.mkv", zip(jpegs, range(0, 4000, 100)), 48, 36)
    segment = Segment(PackedClip(folder / "p.mkv"), 1.0, 1.5)
    assert segment.num_frames == 5
    data, _ = segment.encoded(np.arange(5), (Jpegs,))
    assert data.numpy().tobytes() == b"".join(jpegs[10:15])
    assert torch.equal(all_of(segment), all_of(PackedClip(folder / "p.mkv"))[10:15])


def test_faults(folder):
    write_video(folder / "one.mp4", 1, size=(36, 48))
    for entry, words, part in (
        (ListEntry("v.mp4", None, 0, 7, 0, (9.0, 12.0)), {"modality": "video"}, r"v.mp4.*list:7.*starts at 9 s.*1.6"),
        (ListEntry("v.mp4", None, 0, 7, 0, (1.6, 2.0)), {"modality": "video"}, "starts at 1.6 s.* ends at 1.600 s"),
        (ListEntry("one.mp4", None, 0, 7, 0, (0.1, 2.0)), {"modality": "video"}, "the video has only one frame"),
        (ListEntry("frames", 1, 0, 1, 0, (0.05, 1.0)), {"modality": "RGB", "frame_rate": 25}, "ends at 0.040 s"),
        (ListEntry("frames", 40, 0, 1, 0, (0.0, 1.0)), {"modality": "RGB"}, "data.frame_rate"),
    ):
        with pytest.raises(UserError, match=part):
            open_source(DataConfig(**words), folder, entry, "list")
    (folder / "frames" / "img_00008.jpg").unlink()
    with pytest.raises(UserError, match="img_00008.jpg"):
        all_of(Segment(FrameFolder(folder / "frames", 40, "img_{:05d}.jpg"), 0.2, 0.4, RATE))


def test_the_end_of_the_video_belongs_to_no_segment_but_a_single_frame_is_one_from_0(folder):
    write_video(folder / "one.mp4", 1, size=(36, 48))
    assert Segment(PyAVVideo(folder / "one.mp4"), 0.0, 5.0).num_frames == 1
    assert Segment(PyAVVideo(folder / "v.mp4"), 1.599, 5.0).num_frames == 1
    assert Segment(FrameFolder(folder / "frames", 1, "img_{:05d}.jpg"), 0.03, 1.0, RATE).num_frames == 1


def test_lists_with_times(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a b.mp4 1 2.5 0\na b.mp4 30 31 1\n")
    entries = read_video_list(path, 2, has_times=True)
    assert [(e.path, e.times, e.label) for e in entries] == [("a b.mp4", (1.0, 2.5), 0), ("a b.mp4", (30.0, 31.0), 1)]
    assert [e.name for e in entries] == ["a b.mp4 1 2.5", "a b.mp4 30 31"] and entries[0].text == "a b.mp4 1 2.5 0"
    path.write_text("a 0 2.5 40 0,1\n")
    (entry,) = read_frame_list(path, 2, multi_label=True, has_times=True)
    assert (entry.path, entry.num_frames, entry.label, entry.times) == ("a", 40, (0, 1), (0.0, 2.5))
    assert entry.text == "a 0 2.5 40 0,1"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("v.mp4 0", "2 columns; with data.list_times a list has lines 'path start end label'"),
        ("v.mp4 1 x 0", "start and end are '1' and 'x'; give them in seconds, such as 2.5"),
        ("v.mp4 2 1 0", "give seconds with 0 <= start < end"),
        ("v.mp4 1 1 0", "give seconds with 0 <= start < end"),
        ("v.mp4 -1 1 0", "give seconds with 0 <= start < end"),
        ("v.mp4 0 1e999 0", "give seconds with 0 <= start < end"),
        ("v.mp4 0 nan 0", "give them in seconds"),
        ("v.mp4 0 inf 0", "give them in seconds"),
        ("take 1_0 20 0", "give them in seconds"),  # float("1_0") is 10
    ],
)
def test_faults_of_lists(tmp_path, line, part):
    (tmp_path / "list.txt").write_text(line)
    with pytest.raises(UserError, match=f"list.txt:1: .*{part}"):
        read_video_list(tmp_path / "list.txt", 2, has_times=True)


def config_of(folder, **data):
    data |= {"num_segments": 4, "num_classes": 2, "input_size": 32, "workers": 0, "batch_size": 2, "list_times": True}
    data |= {"train_root": str(folder), "val_root": str(folder)}
    data |= {"train_list": str(folder / "list.txt"), "val_list": str(folder / "list.txt")}
    data |= {"resize_mode": "shortest", "resize_size": 32, "interpolation": "bilinear", "resizer": "torch"}
    return Config.model_validate({"data": data})


def test_a_segment_after_the_end_is_replaced_by_another_one_of_its_video(folder):
    (folder / "list.txt").write_text("v.mp4 9 10 0\nv.mp4 0.41 0.42 0\n")
    loader = build_train_loader(config_of(folder, modality="video", on_error="skip"))
    item = loader.dataset[SampleKey(0, 0)]
    assert "starts at 9 s" in item["fault"] and item["label"] == 0


@pytest.mark.parametrize("pixels_on", ["cpu", "device"])
def test_clips_are_sampled_inside_their_segments(folder, pixels_on):
    """Segments of one frame each, so that each clip is that frame, four times."""
    (folder / "list.txt").write_text("v.mp4 0.41 0.42 0\nv.mp4 1.21 1.22 1\n")
    cfg = config_of(folder, modality="video", pixels_on=pixels_on)
    whole = all_of(PyAVVideo(folder / "v.mp4"))
    loader = build_eval_loader(cfg)
    assert [entry.name for entry in loader.dataset.entries] == ["v.mp4 0.41 0.42", "v.mp4 1.21 1.22"]
    for place, frame in enumerate((10, 30)):
        with open_source(cfg.data, folder, loader.dataset.entries[place]) as source:
            assert torch.equal(source.read(np.zeros(4, dtype=np.int64)), whole[[frame] * 4])
    (batch,) = build_train_loader(cfg)
    for row, label in enumerate(batch["label"].tolist()):
        clip = batch["frames"][row]
        assert torch.equal(clip, clip[:1].expand_as(clip)) and label in (0, 1)
