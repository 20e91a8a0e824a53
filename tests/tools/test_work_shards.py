"""`--shard I/N` and `--merge`: the merged shards of each tool equal a single run; mistakes are one-line errors."""

import fcntl
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.work_shards import FOLDER
from tests.commands.world import call
from tests.tools.loading import load_tool, run_tool
from utils.files import this_process

TOOLS = ("extract_frames", "pack_videos", "check_data", "extract_features", "predict")


class Job(NamedTuple):
    """A tool with its inputs. `run(OUT, option ...)` returns the exit code; `code` is that of a run without shards."""

    name: str
    words: tuple
    code: int

    def run(self, out: Path, *options: str) -> int:
        quick = ("--workers", "1")
        if self.name == "predict":
            where = ("--json", out / "all.json", "--csv", out / "all.csv", "--pictures", out)
            return call("predict", *self.words, *where, "--quiet", *options)
        tool = load_tool(self.name)
        if self.name in ("extract_frames", "pack_videos"):
            return run_tool(tool, *self.words, out, *quick, *options)
        words = ("--out", out) if self.name == "check_data" else (self.words[0], out)
        rest = self.words if self.name == "check_data" else self.words[1:]
        return run_tool(tool, *words, *rest, *quick, *options)


@pytest.fixture(scope="module")
def videos(world, tmp_path_factory) -> Path:
    """Four videos, two of which have the same name, and a damaged one."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "b").mkdir()
    for name in ("val_0_0.mp4", "val_1_0.mp4", "train_0_0.mp4", "b/val_0_0.mp4"):
        shutil.copy(world.root / "videos" / Path(name).name, folder / name)
    (folder / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(params=TOOLS)
def job(request, world, videos) -> Job:
    return {
        "extract_frames": Job("extract_frames", (videos,), 1),
        "pack_videos": Job("pack_videos", (videos,), 1),
        "check_data": Job("check_data", ("--config", world.config), 0),
        "extract_features": Job("extract_features", (videos, "--config", world.video_config, "--quiet"), 2),
        "predict": Job("predict", (videos, "--config", world.video_config), 2),
    }[request.param]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_merged_shards_equal_one_run(job, tmp_path, capsys):
    assert job.run(tmp_path / "whole") == job.code
    for shard in ("2/3", "1/3"):
        job.run(tmp_path / "parts", "--shard", shard)
    capsys.readouterr()
    assert job.run(tmp_path / "parts", "--merge") == 2
    assert capsys.readouterr().err.strip() == "error: --merge: shard 3/3 has not run; run all shards first"
    job.run(tmp_path / "parts", "--shard", "3/3")
    assert "shard 3/3 is done; after all 3 shards, run the command with --merge" in capsys.readouterr().err
    assert job.run(tmp_path / "parts", "--merge") == job.code
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.shards")) and not list(tmp_path.rglob(FOLDER))


def test_a_truncated_shard_is_named(job, tmp_path, capsys):
    for shard in ("1/2", "2/2"):
        job.run(tmp_path, "--shard", shard)
    (part,) = [path for path in tmp_path.rglob("1-of-2.*") if path.suffix != ".lock"]
    cut = re.sub(r'"0": .*?"2": ', '"2": ', part.read_text()) if job.name == "predict" else part.read_text()
    part.write_text(cut if job.name == "predict" else "".join(part.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    assert job.run(tmp_path, "--merge") == 2
    assert "shard 1/2 is not complete: 1 of " in capsys.readouterr().err
    assert job.run(tmp_path, "--shard", "1/3") == 2
    assert "has results of 2 shards; continue with --shard I/2" in capsys.readouterr().err
    job.run(tmp_path, "--shard", "1/2")
    assert job.run(tmp_path, "--merge") == job.code


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (
            {"ID": "1", "MIN": "0", "COUNT": "2"},
            "shard 2/2, from SLURM_ARRAY_TASK_ID; use --shard 1/1 to process everything",
        ),
        ({"ID": "10", "MIN": "4", "STEP": "6", "COUNT": "2"}, "shard 2/2, from SLURM_ARRAY_TASK_ID"),
        ({"ID": "3", "MIN": "3", "COUNT": "1"}, "array has only the task 3, so its share of the work is unknown"),
        ({"ID": "x", "COUNT": "2"}, "task x of 2 (from 0 by 1): not numbers; give --shard I/N"),
        ({"ID": "1", "STEP": "0", "COUNT": "2"}, "task 1 of 2 (from 0 by 0): not numbers"),
        ({"ID": "3", "MIN": "0", "COUNT": "2"}, "task 3 of 2: the array is not evenly numbered; give --shard I/N"),
    ],
)
def test_slurms_array_task_is_the_default(videos, tmp_path, monkeypatch, capsys, array, expected):
    for name, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    code = Job("pack_videos", (videos,), 1).run(tmp_path)
    assert expected in capsys.readouterr().err
    if "shard" in expected.split()[0]:
        assert code == 1 and sorted(path.name for path in tmp_path.rglob("*.mkv")) == ["val_0_0.mkv"]
    else:
        assert code == 2


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_an_invalid_shard_is_a_one_line_error(job, tmp_path, capsys, shard):
    assert job.run(tmp_path, "--shard", shard) == 2
    assert f"--shard {shard}: must be I/N with I from 1 to N, such as 1/4" in capsys.readouterr().err


def test_merging_without_shards_is_a_one_line_error(job, tmp_path, capsys):
    assert job.run(tmp_path, "--merge") == 2
    assert "has no results of shards; run --shard 1/N to N/N first" in capsys.readouterr().err


def test_shards_can_share_a_folder_but_each_runs_once(videos, tmp_path, monkeypatch, capsys):
    tool, out = load_tool("pack_videos"), tmp_path / "out"
    job, real, codes = Job("pack_videos", (videos,), 1), tool.run_job, {}

    def run_job(*arguments):
        if not codes:
            monkeypatch.setattr(tool, "run_job", real)
            for options in (("--shard", "2/2"), ("--shard", "1/2"), ("--merge",), ()):
                codes[options] = job.run(out, *options)
        return real(*arguments)

    monkeypatch.setattr(tool, "run_job", run_job)
    job.run(out, "--shard", "1/2")
    assert codes == {("--shard", "2/2"): 1, ("--shard", "1/2"): 2, ("--merge",): 2, (): 2}
    assert capsys.readouterr().err.count(f"in use by {this_process()}") == 3
    assert job.run(out, "--merge") == 1


@pytest.mark.parametrize("name", ["extract_frames", "pack_videos"])
def test_a_folder_locked_by_another_run_is_not_modified(videos, tmp_path, capsys, name):
    job = Job(name, (videos,), 1)
    assert job.run(tmp_path, "--shard", "1/2") in (0, 1)
    before = files_of(tmp_path)
    with (tmp_path / load_tool(name).SETTINGS_FILE).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for options in ((), ("--shard", "2/2"), ("--merge",)):
            assert job.run(tmp_path, *options) == 2
    assert capsys.readouterr().err.count("in use by another run") == 3
    assert {path: data for path, data in files_of(tmp_path).items() if not path.endswith(".lock")} == {
        path: data for path, data in before.items() if not path.endswith(".lock")
    }


def test_shards_of_other_videos_are_not_merged(world, tmp_path, capsys):
    """A video that is added between two shards shifts the positions of the others."""
    folder = tmp_path / "videos"
    folder.mkdir()
    job = Job("predict", (folder, "--config", world.video_config), 0)
    for name in ("b.mp4", "d.mp4"):
        shutil.copy(world.root / "videos" / "val_0_0.mp4", folder / name)
    assert job.run(tmp_path / "out", "--shard", "1/2") == 0
    (folder / "d.mp4").rename(folder / "a.mp4")
    assert job.run(tmp_path / "out", "--shard", "2/2") == 0
    assert job.run(tmp_path / "out", "--merge") == 2
    assert "the shards had different videos, such as " in capsys.readouterr().err
