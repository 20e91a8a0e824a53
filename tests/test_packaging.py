"""The installation: one list of dependencies, no packages in site-packages, `torch.hub`, and name conflicts."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.commands.world import REPO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # a dependency of pytest

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(name: str) -> list[str]:
    """The requirements of a file and of those that it includes, without comments."""
    found = []
    for line in (REPO / name).read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found += requirements(line.removeprefix("-r "))
        elif line:
            found.append(line)
    return found


def test_requirements_files_equal_pyproject():
    dev = [line for line in EXTRAS["dev"] if not line.startswith(PROJECT["name"])]
    assert f"{PROJECT['name']}[app,export]" in EXTRAS["dev"]
    assert requirements("requirements.txt") == PROJECT["dependencies"]
    assert requirements("requirements-app.txt") == EXTRAS["app"]
    assert sorted(requirements("requirements-dev.txt")) == sorted(
        PROJECT["dependencies"] + EXTRAS["app"] + EXTRAS["export"] + dev
    )


def test_each_requirement_has_a_lowest_version():
    # The CI workflow derives its environment of the oldest versions from these lines with sed.
    for line in requirements("requirements-dev.txt"):
        assert re.fullmatch(
            r"[A-Za-z0-9_-]+(\[[a-z]+\])?>=[0-9.]+(,<[0-9.]+)?(; platform_machine == 'x86_64')?", line
        ), line


def test_supported_pythons_are_the_tested_ones():
    workflow = (REPO / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    pythons = re.search(r"python: \[(.*)\]", workflow)[1].replace('"', "").split(", ")
    assert PROJECT["requires-python"] == f">={pythons[0]}"


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_installation_adds_no_packages(tmp_path, kind):
    """Top-level `clip`, `datasets` and `utils` in site-packages would hide others' packages of these names."""
    copy, out = tmp_path / "copy", tmp_path / "out"
    copy.mkdir()
    out.mkdir()
    for name in subprocess.run(
        ["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.split():
        if name.endswith(".py") or "/" not in name:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((REPO / name).read_bytes())
    build = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, check=True)
    (wheel,) = out.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).parts[0] for name in archive.namelist()}
        for name in list(names):
            if re.fullmatch(r"__editable___\w+_finder\.py", name):
                assert re.search(r"^MAPPING\b.*= \{\}$", archive.read(name).decode(), re.MULTILINE)
                names.remove(name)
    names = {name for name in names if not re.fullmatch(r"__editable__\..*\.pth", name)}
    assert names == {"video_clip_transfer-0.1.0.dist-info"}


# ---- torch.hub, in a process that has its own working folder and no path to the repository


def python(code: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_hub_model_classifies_a_video(world, tmp_path):
    video = next((world.root / "videos").iterdir())
    code = f"""
import torch
model = torch.hub.load({str(REPO)!r}, "video_model", source="local", config={str(world.video_config)!r},
                       classes=["riding a bike", "swimming"])
print(sum(probability for _, probability in model.predict({str(video)!r}).top(2)))
"""
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == pytest.approx(1, abs=1e-4)


def test_the_hub_names_a_package_that_shadows_ours(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    code = f"import torch, datasets\ntorch.hub.load({str(REPO)!r}, 'video_model', source='local')"
    result = python(code, tmp_path)
    last = result.stderr.strip().splitlines()[-1]
    assert "the package datasets of this repository cannot be imported" in last
    assert str(tmp_path / "datasets" / "__init__.py") in last


def test_transformers_does_not_import_our_datasets(tmp_path):
    """transformers would mistake our `datasets` for Hugging Face's; its encoders, which we use, must not import it."""
    pytest.importorskip("transformers")
    code = """
import sys
from transformers import AutoModel, AutoTokenizer, BertConfig
AutoModel.from_config(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                                 intermediate_size=8))
print("datasets" in sys.modules)
"""
    result = python(code, REPO)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["False"]
