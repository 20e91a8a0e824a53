"""Imports between folders, and sizes of files and functions, from the syntax trees (docs/layout.md)."""

import ast
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
FOLDERS = ("clip", "datasets", "modules", "utils", "engine", "inference", "reporting", "tools", "demo")
ENTRY_SCRIPTS = ("train", "test", "test_zeroshot", "test_frozen", "predict", "report", "app", "export", "hubconf")
MAY_IMPORT = {
    "utils": {"utils"},
    "clip": {"clip", "utils"},
    "datasets": {"datasets", "utils"},
    "modules": {"modules", "clip", "utils"},
    "inference": {"inference", "modules", "datasets", "utils"},
    "reporting": {"reporting", "modules", "datasets", "utils"},
    "engine": {*FOLDERS} - {"tools"},
    "entry scripts": {"engine", "utils"},
    "hubconf.py": {"inference"},
    "scripts": {"utils"},
    "tools": {*FOLDERS},
    "demo": {*FOLDERS} - {"tools"},
    "tests": {*FOLDERS, "tests", "benchmarks", "scripts"},
    "benchmarks": {*FOLDERS, "benchmarks"},
}
OURS = {*FOLDERS, *ENTRY_SCRIPTS, "scripts", "tests", "benchmarks"}

FILES = sorted(
    Path(line)
    for line in subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if (REPO / line).exists()
)


def folder_of(path: Path) -> str:
    if path.name == "hubconf.py":
        return path.name
    return path.parts[0] if len(path.parts) > 1 else "entry scripts"


def imports_of(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_follow_the_arrows(path):
    tree = ast.parse((REPO / path).read_text(encoding="utf-8"))
    ours = {name for name in imports_of(tree) if name.split(".")[0] in OURS}
    allowed = MAY_IMPORT[folder_of(path)]
    wrong = sorted(name for name in ours if name.split(".")[0] not in allowed)
    assert not wrong, f"{path} must not import {wrong}"


# Optional packages, and one that takes a second to import.
OPTIONAL = {
    "gradio",
    "h5py",
    "transformers",
    "wandb",
    "torch.utils.tensorboard",
    "onnx",
    "onnxruntime",
    "onnxscript",
} | {
    "starlette.middleware",  # comes with gradio
    "starlette.middleware.trustedhost",
}


@pytest.mark.parametrize("path", [path for path in FILES if folder_of(path) not in ("tests", "benchmarks")], ids=str)
def test_imports_are_at_the_top_of_a_file(path):
    tree = ast.parse((REPO / path).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = set().union(*(imports_of(function) for function in functions)) - OPTIONAL
    if folder_of(path) in ("entry scripts", "hubconf.py"):
        assert len(inside) <= 1 and all(name.startswith(("engine.", "inference")) for name in inside), inside
    elif folder_of(path) == "tools":
        assert len(inside) <= 1 and all(name.startswith("engine.") for name in inside), inside
    else:
        assert not inside, f"{path} imports {sorted(inside)} inside functions"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_readable(path):
    text = (REPO / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, f"{path} has more than 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            ceiling = 60
            assert length <= ceiling, f"{path}:{node.lineno} {node.name} has {length} lines, over {ceiling}"


def test_all_folders_are_checked():
    assert set(FOLDERS) <= {folder_of(path) for path in FILES}


def test_no_folder_grows_too_large():
    """Limits of the lines in `utils`, and of the share of each folder."""
    lines = dict.fromkeys(FOLDERS, 0)
    for path in FILES:
        if path.parts[0] in lines:
            lines[path.parts[0]] += len((REPO / path).read_text(encoding="utf-8").splitlines())
    assert lines["utils"] < 3000, lines
    assert max(lines.values()) <= 0.25 * sum(lines.values()), lines


# (file, function): why it has more parameters.
LONG_SIGNATURES = {("clip/fast_layers.py", "forward"): "the signature of nn.MultiheadAttention.forward"}


def signatures_over(ceiling: int, tree: ast.AST) -> list[str]:
    """Functions with more parameters, keyword-only ones included, beside `self`, `cls` or autograd's `ctx`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len(names) - (names[:1] in (["self"], ["cls"], ["ctx"])) > ceiling:
                found.append(node.name)
    return found


# In tests, parameters are fixtures and cases.
@pytest.mark.parametrize("path", [path for path in FILES if folder_of(path) != "tests"], ids=str)
def test_signatures_have_at_most_six_parameters(path):
    found = signatures_over(6, ast.parse((REPO / path).read_text(encoding="utf-8")))
    assert [name for name in found if (path.as_posix(), name) not in LONG_SIGNATURES] == []


def test_keyword_only_parameters_count():
    assert signatures_over(6, ast.parse("def long(a, b, c, d, *, e, f, g): ...")) == ["long"]
    assert signatures_over(6, ast.parse("class A:\n    def short(self, a, b, c, d, *, e, f): ...")) == []
