import sys

import pytest

from benchmarks import list_memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_runs(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["list_memory.py", "--clips", "1000"])
    list_memory.main()
    output = capsys.readouterr().out
    assert "A list of 1,000 clips" in output and "| shards.csv |" in output and "copied: " in output
