import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets import lists
from datasets.entries import Entries, ListEntry
from tests.faults_of import fault_of
from tests.reading import read_frame_list, read_video_list
from utils.errors import UserError


def written(tmp_path, content: str | bytes):
    path = tmp_path / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_frame_list(tmp_path):
    path = written(tmp_path, "a/b 30 0\n\n  my clip\t300   2 \n")
    assert [*read_frame_list(path, 3)] == [ListEntry("a/b", 30, 0, 1), ListEntry("my clip", 300, 2, 3)]


def test_video_list_with_spaces_byte_order_mark_and_crlf(tmp_path):
    path = written(tmp_path, b"\xef\xbb\xbfa.mp4 0\r\nfolder one/b (1).mp4 2\r\n")
    assert [*read_video_list(path, 3)] == [
        ListEntry("a.mp4", None, 0, 1),
        ListEntry("folder one/b (1).mp4", None, 2, 2),
    ]


def test_inner_white_space_of_a_path_is_kept(tmp_path):
    assert read_video_list(written(tmp_path, "a  b\u2028c.mp4 1\n"), 3)[0].path == "a  b\u2028c.mp4"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("v 2", "num_frames column is missing"),
        ("v", "one column instead of three"),
        ("v ten 2", "num_frames is 'ten', not an integer"),
        ("v 10 two", "label is 'two', not an integer"),
        ("v 10 1.0", "label is '1.0', not an integer"),
        ("v 10 1_0", "not an integer"),
        ("v 10 3", "label 3 is outside 0..2"),
        ("v 10 -1", "label -1 is outside 0..2"),
        ("v -5 1", "num_frames is -5"),
        ("# v 10 1", "comments are not part"),
        ("v\0x 10 1", "NUL byte"),
        ("v 10 1\rw 10 1", "contains a carriage return"),
        ("v" * 20_000 + " 10 1", "has 20005 characters"),
        ("/etc/v 10 1", "is absolute"),
        ("../v 10 1", "is outside its root"),
        ("a/../../v 10 1", "is outside its root"),
        (".. 10 1", "is outside its root"),
    ],
)
def test_errors_in_a_frame_list_name_the_line(tmp_path, line, words):
    path = written(tmp_path, f"good 10 0\n\n{line}\n")
    fault = fault_of(read_frame_list, path, 3)
    assert fault.startswith(f"{path}:3: ") and words in fault


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("v.mp4", "one column instead of two"),
        ("v.mp4 0.5 2.5 2", "for lines 'path start end label', with the times of a segment in seconds, set"),
        ("v 30 2", "three columns instead of two: this looks like a frame list"),
        ("v.mp4 two", "label is 'two'"),
        ("v.mp4 9", "label 9 is outside 0..2 (data.num_classes is 3)"),
        ("# comment 1", "comments"),
        ("/v.mp4 1", "is absolute"),
        ("../v.mp4 1", "is outside its root"),
    ],
)
def test_errors_in_a_video_list_name_the_line(tmp_path, line, words):
    path = written(tmp_path, f"good.mp4 0\r\n{line}\r\n")
    fault = fault_of(read_video_list, path, 3)
    assert fault.startswith(f"{path}:2: ") and words in fault


def test_paths_outside_the_root_when_allowed(tmp_path):
    path = written(tmp_path, "/a/v 10 0\n../v 10 0\na/../b 10 0\n..v 10 0\n")
    assert len(read_frame_list(path, 3, allow_outside_root=True)) == 4
    assert len(read_frame_list(written(tmp_path, "a/../b 10 0\n..v 10 0\n"), 3)) == 2


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\r\n \t\r\n"])
def test_empty_list(tmp_path, content):
    for read in (read_frame_list, read_video_list):
        with pytest.raises(UserError, match="the list is empty"):
            read(written(tmp_path, content), 3)


def test_missing_unreadable_and_binary_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match="exp/demo/world/lists/a.csv: no such file; run 'sh scripts/run_demo.sh' to create it"
    ):
        lists.read_labels("exp/demo/world/lists/a.csv")
    with pytest.raises(UserError, match="nowhere.txt: no such file$"):
        read_frame_list(tmp_path / "nowhere.txt", 3)
    with pytest.raises(UserError, match="cannot be read"):
        read_video_list(tmp_path, 3)
    path = written(tmp_path, b"a 10 0\ncaf\xe9 10 0\n")
    with pytest.raises(UserError, match=r"list.txt:2: not UTF-8"):
        read_frame_list(path, 3)


def test_files_without_permission(tmp_path, monkeypatch):
    def refuse(self: Path) -> None:  # root may open every file
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    path = written(tmp_path, "a 10 0\n")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    for read in (lists.read_labels, lambda path: read_frame_list(path, 3)):
        with pytest.raises(
            UserError, match=r"list.txt: cannot be read \(Permission denied\); change its mode or owner"
        ):
            read(path)


def test_short_entries():
    entries = [ListEntry("a", 7, 0, 1), ListEntry("b", 8, 0, 2), ListEntry("c", None, 0, 3)]
    kept, num_short = lists.drop_short_entries(Entries(entries))
    assert [*kept] == entries[1:] and num_short == 1


def test_labels(tmp_path):
    path = written(tmp_path, '\ufeffid,name\r\n1,"wave, both hands"\r\n\r\n0, run \r\n')
    assert lists.read_labels(path) == ["run", "wave, both hands"]
    assert lists.read_labels(path, 2) == ["run", "wave, both hands"]


@pytest.mark.parametrize(
    ("content", "num_classes", "words"),
    [
        ("", None, ": the file is empty"),
        ("id,name\n", None, ": no class follows the header"),
        ("0,run\n1,jump\n", None, ":1: the header is '0,run'"),
        ("id,name\n0,run\n0,jump\n", None, ":3: class id 0 is already given on line 2"),
        ("id,name\n0,run\n2,jump\n", None, ":3: class id 2 is outside 0..1 (the file has 2 classes)"),
        ("id,name\n0,run\n", 2, ": no line for class id 1"),
        ("id,name\n0,run\n1,jump\n", 1, ":3: class id 1 is outside 0..0 (data.num_classes is 1)"),
        ("id,name\nzero,run\n", None, ":2: class id is 'zero', not an integer"),
        ("id,name\n0\n", None, ":2: 1 column(s) instead of two"),
        ("id,name\n0,a,b\n", None, ":2: 3 column(s) instead of two, 'id,name'; put a name"),
        ("id,name\n0,\n", None, ":2: class 0 has an empty name"),
        ("id,name\n0,run\n1,jump\n2,run\n", None, ":4: class 2 has the same name as class 0 on line 2, 'run'; "),
        ("id,name\n0,run\n1, run \n", 2, ":3: class 1 has the same name as class 0"),
        ("id,name\n1,Open  door\n0,open door\n", 2, ":3: class 0 has the same name as class 1 on line 2, 'open door'"),
        ('id,name\n0,"run\n', None, "not a valid CSV line"),
        (b"id,name\n0,caf\xe9\n", None, ":2: not UTF-8"),
    ],
)
def test_errors_in_label_files(tmp_path, content, num_classes, words):
    path = written(tmp_path, content)
    with pytest.raises(UserError) as error:
        lists.read_labels(path, num_classes)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


@given(st.binary(max_size=200))
def test_any_bytes_give_entries_or_a_user_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "list"
    path.write_bytes(data)
    for read in (read_frame_list, read_video_list, lists.read_labels):
        try:
            assert read(path, 3)
        except UserError as error:
            assert str(error).startswith(str(path))


def test_few_shot_selections():
    labels = np.random.default_rng(0).integers(0, 5, 200)
    labels = np.append(labels, 7)
    picks = lists.pick_few_shot(labels, 4, seed=1)
    assert picks.tolist() == sorted(set(picks.tolist()))
    chosen = labels[picks]
    assert {label: int((chosen == label).sum()) for label in np.unique(labels)} == {0: 4, 1: 4, 2: 4, 3: 4, 4: 4, 7: 1}
    assert picks.tolist() == lists.pick_few_shot(labels, 4, seed=1).tolist()
    assert picks.tolist() != lists.pick_few_shot(labels, 4, seed=2).tolist()
    assert set(lists.pick_few_shot(labels, 2, seed=1)) < set(picks)
    only_three = np.where(labels == 3, 3, 0)
    assert {p for p in lists.pick_few_shot(only_three, 4, 1) if labels[p] == 3} == {p for p in picks if labels[p] == 3}


def test_several_labels_on_a_line_are_named_as_such(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4 0,2\n")
    with pytest.raises(UserError, match="label is '0,2', not an integer"):
        read_video_list(tmp_path / "list.txt", 3)


def test_several_labels(tmp_path):
    entries = read_frame_list(written(tmp_path, "a b 9 2,0\nc 9 1\nd 9 -\n"), 3, multi_label=True)
    assert [entry.label for entry in entries] == [(0, 2), (1,), ()]
    assert [entry.text for entry in entries] == ["a b 9 0,2", "c 9 1", "d 9 -"]
    assert read_video_list(written(tmp_path, "x y.mp4 1,2\n"), 3, multi_label=True)[0].classes == (1, 2)


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ("0,3", "label 3 is outside 0..2"),
        ("1,", "label is '', not"),
        ("1,1", "contains a class twice"),
        ("a", "not an int"),
    ],
)
def test_errors_in_lists_of_labels(tmp_path, label, part):
    with pytest.raises(UserError, match=f"list.txt:1: {part}|{part}"):
        read_frame_list(written(tmp_path, f"a 9 {label}\n"), 3, multi_label=True)
    with pytest.raises(UserError, match="no video has a class"):
        read_frame_list(written(tmp_path, "a 9 -\n"), 3, multi_label=True)
