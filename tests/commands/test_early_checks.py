"""Mistakes on a command line are reported before PyTorch is imported, which takes seconds."""

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[2]
K400 = "configs/k400/k400_train_rgb_vitb-32-f8.yaml"
CASES = (
    ("train", ["--config", K400], "se320.txt: no such file; copy or create it (docs/data.md), or set data.train_list"),
    ("test", ["--weights", "absent.pt"], "absent.pt: no such checkpoint file"),
    ("test_zeroshot", ["--config", "absent.yaml", "--weights", "absent.pt"], "absent.yaml: no such config file"),
    ("test_frozen", ["--config", K400, "--out", "x"], "k400/kinetics_rgb_train_se320.txt: no such file"),
    ("predict", ["absent.mp4", "--weights", "absent.pt"], "absent"),
    (
        "predict",
        ["absent.mp4", "run/last.pt"],
        "run/last.pt: is a checkpoint, not a video; write --weights run/last.pt",
    ),
    ("export", ["--weights", "absent.pt", "--format", "onnx"], "absent.pt: no such checkpoint file"),
    ("tools.interpolate", ["--weights", "absent.pt"], "absent.pt: no such checkpoint file"),
    ("tools.average_checkpoints", ["absent.pt", "other.pt", "--out", "x.pt"], "absent.pt: no such checkpoint file"),
    ("tools.extract_features", ["absent", "x", "--weights", K400], "absent: no such video file or folder"),
    ("tools.check_attribution", ["videos", "--weights", "absent.pt"], "absent.pt: no such checkpoint file"),
    ("tools.fit_lda", ["--config", K400, "--out", "x.npz"], "k400/kinetics_rgb_train_se320.txt: no such file"),
)
PROGRAM = """
import sys
sys.modules["torch"] = None  # importing it is an error
from importlib import import_module
from utils.cli import run_command
for name, words, _ in {cases}:
    command = import_module(name)
    assert run_command(command.main, command.parse_arguments(words)) == 2, name
"""


def test_mistakes_are_found_without_pytorch():
    program = PROGRAM.format(cases=CASES)
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(CASES), lines
    for line, (name, _, part) in zip(lines, CASES):
        assert line.startswith("error: ") and part in line, (name, line)
