"""Scripts that process a data set in worker processes: a killed worker, a killed or interrupted main process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.world import REPO
from tests.datasets.helpers import write_video

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc"),
    pytest.mark.timeout(300),
]
NUM_VIDEOS = 6
STALLED = """
import sys, time

def stall(event, arguments):
    if event == "open" and str(arguments[0]).endswith("w.mp4"):
        time.sleep(600)

sys.addaudithook(stall)
"""
ENDED_BY = {"SIGTERM": 130, "SIGKILL": -signal.SIGKILL}  # signal -> exit code


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of valid videos and a file whose opening blocks, as on a stalled disk, if `STALLED` is imported."""
    root = tmp_path_factory.mktemp("some") / "videos"
    root.mkdir()
    for number in range(NUM_VIDEOS):
        write_video(root / f"v{number}.mp4", 4)
    write_video(root / "w.mp4", 4)
    (root.parent / "sitecustomize.py").write_text(STALLED)
    lines = "".join(f"{path.name} {number % 2}\n" for number, path in enumerate(sorted(root.iterdir())))
    (root.parent / "list.txt").write_text(lines)
    (root.parent / "labels.csv").write_text("id,name\n0,one\n1,two\n")
    data = "modality: video, num_classes: 2, num_segments: 2, decoder: pyav"
    files = {"list": root.parent / "list.txt", "root": root}
    paths = ", ".join(f"{split}_{what}: {path}" for split in ("train", "val") for what, path in files.items())
    paths += f", label_list: {root.parent / 'labels.csv'}"
    (root.parent / "config.yaml").write_text(f"data: {{{data}, {paths}}}\n")
    return root


def arguments_of(script, videos, out):
    return ["--config", videos.parent / "config.yaml", "--out", out] if script == "check_data" else [videos, out]


def start(script, videos, out):
    """Start the command with two workers; returns it and the workers once one is blocked at w.mp4."""
    words = [sys.executable, "-m", f"tools.{script}", *arguments_of(script, videos, out), "--workers", "2"]
    process = subprocess.Popen(
        list(map(str, words)),
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(videos.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    started = time.monotonic()
    while num_done(script, out) < NUM_VIDEOS:
        assert process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.05)
    time.sleep(0.5)  # from the last valid video to w.mp4
    return process, [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def num_done(script, out):
    if script == "pack_videos":
        return len(list(out.glob("v*.mkv")))
    path = out / ("report.csv" if script == "extract_frames" else ".checked.csv")
    return max(0, path.read_text().count("\n") - 1) if path.exists() else 0


def are_gone(pids):
    """Zombies count as gone, since an orphan may have no parent that waits for it."""
    paths = [Path(f"/proc/{pid}/stat") for pid in pids]
    return not any(path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z" for path in paths)


@pytest.mark.parametrize("script", ["check_data", "extract_frames", "pack_videos"])
def test_a_killed_worker_is_reported_in_one_line_and_results_are_kept(videos, tmp_path, script):
    process, workers = start(script, videos, tmp_path / "out")
    os.kill(workers[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and are_gone(workers)
    lines = [line for line in errors.splitlines() if "video" not in line.split("|")[0]]  # without the progress bar
    assert lines[-1].startswith("error: a worker process was killed") and "w.mp4" in lines[-1], errors
    assert "run the same command to" in lines[-1] and "Traceback" not in errors
    assert num_done(script, tmp_path / "out") >= NUM_VIDEOS


@pytest.mark.parametrize(("name", "code"), ENDED_BY.items())
@pytest.mark.parametrize("script", ["check_data", "extract_frames"])
def test_a_signal_to_the_main_process_ends_the_workers_without_tracebacks(videos, tmp_path, script, name, code):
    process, workers = start(script, videos, tmp_path / "out")
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate(timeout=15)  # one worker is still blocked
    assert process.returncode == code and "Traceback" not in errors, errors
    assert ("interrupted" in errors) == (name == "SIGTERM")
    stop = time.monotonic() + 10
    while not are_gone(workers):
        assert time.monotonic() < stop, "workers outlive the main process"
        time.sleep(0.05)
    assert num_done(script, tmp_path / "out") >= NUM_VIDEOS
