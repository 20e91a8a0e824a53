"""The plugins in tests/: disallowed skips and forgotten temporary files fail the run, also with xdist."""

import subprocess
import sys

import pytest

from tests.commands.world import REPO

SKIPS = """
import pytest

@pytest.mark.skipif(True, reason="only in a long run: set FUZZ_CASES")
def test_allowed(): pass

def test_not_allowed(): pytest.importorskip("no_such_package")

@pytest.mark.xfail(reason="expected")
def test_expected_failure(): assert False
"""
WHOLE_FILE = "import pytest\npytest.importorskip('no_such_package')\ndef test_any(): pass\n"
LEAVES = "import os, tempfile\ndef test_any(tmp_path): os.close(tempfile.mkstemp(prefix='mine-')[0])\n"


def run(path, *options):
    plugins = ["-p", "tests.strict_skips", "-p", "tests.temporary_folder"]
    words = ["-m", "pytest", *plugins, "-c", "/dev/null", "--rootdir", path.parent, "-rs", *options, path]
    return subprocess.run([sys.executable, *map(str, words)], cwd=REPO, capture_output=True, text=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_only_allowed_reasons_skip(tmp_path, workers):
    path = tmp_path / "test_it.py"
    path.write_text(SKIPS)
    strict = run(path, "--strict-skips", "-n", workers)
    assert strict.returncode == 1 and "1 failed, 1 skipped, 1 xfailed" in strict.stdout
    assert "does not allow: could not import 'no_such_package'" in strict.stdout
    plain = run(path, "-n", workers)
    assert plain.returncode == 0 and "2 skipped, 1 xfailed" in plain.stdout


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_skipped_as_a_whole_is_a_skip(tmp_path, workers):
    path = tmp_path / "test_it.py"
    path.write_text(WHOLE_FILE)
    strict = run(path, "--strict-skips", "-n", workers)
    assert strict.returncode in (1, 2) and "does not allow: could not import 'no_such_package'" in strict.stdout


@pytest.mark.parametrize("workers", [0, 1])
def test_files_left_in_the_temporary_folder_fail_the_run(tmp_path, monkeypatch, workers):
    (tmp_path / "system").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "system"))
    path = tmp_path / "test_it.py"
    path.write_text(LEAVES)
    untidy = run(path, "-n", workers)
    assert untidy.returncode == 1 and "ERROR: the tests left in the temporary folder: mine-" in untidy.stdout
    path.write_text(LEAVES.replace("mine-", "torchinductor_"))
    assert run(path, "-n", workers).returncode == 0
    assert list((tmp_path / "system").iterdir()) == []
