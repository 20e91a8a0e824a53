"""tools/soak.py: a short run, and the detection of a leak."""

import csv
import re
import sys

from tests.commands.world import command
from tests.tools.loading import load_tool, run_tool

soak = load_tool("soak")


def test_a_short_soak_of_frames(world, tmp_path, monkeypatch, capsys):
    # Such a short run is all warm-up, so only the counts are checked, not their growth.
    monkeypatch.setattr(soak, "SAMPLE_SECONDS", 0.3)
    words = ("--config", world.config, "--minutes", "0.1", "--out", tmp_path, "data.workers=1")
    assert run_tool(soak, *words) in (0, 1)
    lines = re.findall(r"soak: .*: (\w+) (\d+), ([+-][\d.]+)% over", capsys.readouterr().out)
    assert [name for name, _, _ in lines] == ["resident_mib", "open_files", "processes"]
    rows = list(csv.DictReader((tmp_path / "frames.csv").open(newline="")))
    assert len(rows) >= 10 and float(rows[-1]["resident_mib"]) > 100
    # The run, its training loader and its validation loader.
    assert {row["processes"] for row in rows[3:]} <= {"2", "3"}


def test_a_leak_is_detected_and_noise_is_not():
    def samples(slope):
        return [soak.Sample(t, 1000 + slope * t + (-1) ** t * 5, 50, 3) for t in range(300)]

    assert abs(soak.growth_percent(samples(0), 1)) < 0.2
    assert soak.growth_percent(samples(0.2), 1) > soak.MAX_GROWTH_PERCENT
    assert abs(soak.growth_percent(samples(0.2), 2)) < 1e-9


def test_mistakes_are_one_line_errors(tmp_path):
    words = ("--config", tmp_path / "nowhere.yaml", "--minutes", "1", "--out", tmp_path)
    result = command(sys.executable, "-m", "tools.soak", *words)
    assert result.returncode == 2 and "nowhere.yaml: no such config file" in result.stderr
