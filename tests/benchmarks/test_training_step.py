"""benchmarks/training_step.py on a tiny model."""

import pytest

from benchmarks import training_step
from tests.clip.tiny import save_state


@pytest.fixture
def arch(tmp_path):
    return save_state(tmp_path / "clip.pt")


def test_tables_are_printed(arch, monkeypatch, capsys):
    for words in ((), ("--tuning", "--count")):
        monkeypatch.setattr(
            "sys.argv", ["training_step.py", "--arch", str(arch), "--batch", "1", "--rounds", "1", *words]
        )
        training_step.main()
    printed = capsys.readouterr().out
    assert "| ours, bf16, half of the patches | " in printed and "| full tuning | " in printed
    assert printed.count("100% |") == 1 and "| bitfit | " in printed


@pytest.mark.parametrize("name", ["full tuning", "frozen tower with temporal head"])
def test_a_tuning_method_is_measured(arch, name):
    found = training_step.tuning_figures(str(arch), name, batch=1, rounds=1)
    assert found["seconds"] > 0 and found["trained"] > 1000 and found["peak"] >= 0
