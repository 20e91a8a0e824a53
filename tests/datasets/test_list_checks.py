"""Warnings of --check and check_data about valid lists that are probably wrong."""

from datasets.entries import ListEntry
from datasets.list_checks import list_warnings
from utils.schema import DataConfig

NAMES = ["walking", "running", "diving"]


def entries(*pairs):
    return [ListEntry(path, None, label, line) for line, (path, label) in enumerate(pairs, 1)]


def warnings(train, val, val_root="videos/val"):
    data = DataConfig(train_list="train.txt", val_list="val.txt", train_root="videos/train", val_root=val_root)
    return list_warnings(data, entries(*train), entries(*val), NAMES)


SOUND = [("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 2)]


def test_valid_lists_give_no_warning():
    assert warnings(SOUND, SOUND) == []  # the same names below other roots are other videos


def test_a_video_in_both_lists():
    (line,) = warnings(SOUND, [("d.mp4", 0), ("./b.mp4", 1)], val_root="videos/../videos/train")
    assert line == "1 video (./b.mp4) of val.txt also in train.txt: scores will be too high"


def test_a_video_under_two_labels_and_a_repeated_line():
    lines = warnings([*SOUND, ("a.mp4", 1), ("./b.mp4", 1)], [("x.mp4", 0), ("x.mp4", 0)])
    assert lines == [
        "train.txt: 1 video (a.mp4) listed with different labels",
        "train.txt: 1 video (b.mp4) listed more than once",
        "val.txt: 1 video (x.mp4) listed more than once",
    ]


def test_classes_without_a_training_clip():
    assert warnings(SOUND[:1], []) == ["train.txt: 2 classes (running, diving) without a training clip"]
