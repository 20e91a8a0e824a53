"""Output paths are checked before the work starts."""

import os

import pytest

from tests.faults_of import fault_of
from utils.files import check_writable, write_text_atomic


def test_checking_a_writable_path_leaves_no_file(tmp_path):
    (tmp_path / "old.json").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    for path in ("old.json", "new.json", "a/b/c.json", "pipe"):
        check_writable(tmp_path / path, "--json")
    for path in ("", "new", "a/b"):
        check_writable(tmp_path / path, "--out", is_folder=True)
    check_writable(os.devnull, "--json")
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["old.json", "pipe"]
        and (tmp_path / "old.json").read_text() == "old"
    )


def test_an_unwritable_path_is_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert fault_of(check_writable, tmp_path, "--json").endswith(f"--json {tmp_path}: is a folder; give a file name")
    assert "is a file; give a folder" in fault_of(check_writable, tmp_path / "file", "--out", is_folder=True)
    assert "Not a directory" in fault_of(check_writable, tmp_path / "file" / "x.json", "--json")
    assert "Not a directory" in fault_of(check_writable, tmp_path / "file" / "x" / "y.json", "--json")
    assert "name too long" in fault_of(check_writable, tmp_path / ("x" * 300), "--json")
    assert "cannot be written" in fault_of(check_writable, "/proc/nope/x.json", "--json")
    assert "cannot be written" in fault_of(check_writable, "/proc/nope", "--out", is_folder=True)


def test_a_file_of_another_user_cannot_be_replaced_in_a_sticky_folder(tmp_path, monkeypatch):
    tmp_path.chmod(0o1777)
    (tmp_path / "theirs.json").touch()
    check_writable(tmp_path / "theirs.json", "--json")
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    line = f"--json {tmp_path / 'theirs.json'}: cannot be written (it belongs to another user); choose another path"
    assert fault_of(check_writable, tmp_path / "theirs.json", "--json") == line
    check_writable(tmp_path / "ours.json", "--json")


def test_an_output_must_not_replace_an_input(tmp_path):
    (tmp_path / "a.pt").write_text("weights")
    (tmp_path / "link.pt").symlink_to("a.pt")
    inputs = (None, "0", "rtsp://x", tmp_path / "no.pt", tmp_path / "a.pt")
    for name in ("a.pt", "link.pt"):
        line = f"--out {tmp_path / name}: would replace a file that this command reads; give another name"
        assert fault_of(check_writable, tmp_path / name, "--out", inputs=inputs) == line
    check_writable(tmp_path / "b.pt", "--out", inputs=inputs)


def test_a_path_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_writable("x.json", "--json")
    check_writable("a/b/x.json", "--json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["c" * 255, "\u6f22" * 85], ids=["ascii", "three bytes each"])
def test_a_name_as_long_as_the_file_system_allows(tmp_path, name):
    write_text_atomic(tmp_path / name, "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "whole")]
