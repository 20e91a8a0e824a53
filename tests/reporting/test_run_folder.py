"""Reading run folders: their tests and configs, and one-line errors."""

import builtins
import errno
import io
import json
import logging
import os

import numpy as np
import pytest
import torch

from reporting.pairing import align, pair_tests
from reporting.run_folder import commands, find_weights, override, read_run
from tests.commands.world import call
from tests.faults_of import fault_of
from tests.reporting.report_runs import make_table, write_run, write_test
from utils.config import load_config
from utils.distributed import Process
from utils.errors import UserError
from utils.hashing import file_hash
from utils.recipe import changed_keys
from utils.runlog import log_to_file, open_log
from utils.schema import Config

FEW = make_table(12, 4)


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path / "run", num_videos=12, num_classes=4)


def test_all_tests_of_a_run_are_found_and_that_with_most_views_is_the_main_one(run_folder):
    write_test(run_folder / "test_4x3", *FEW, views=(4, 3))
    write_test(run_folder / "test_2x1", *FEW, views=(2, 1))
    run = read_run(run_folder)
    assert [t.name for t in run.tests] == ["test_1x1", "test_2x1", "test_4x3"]
    assert run.main_test.name == "test_4x3" and run.test_named("test_1x1").num_views == 1
    assert run.config.solver.lr == 1e-4 and len(run.records) == 102
    with pytest.raises(UserError, match=r"--test best: no such test in .*; it has test_1x1, test_2x1, test_4x3"):
        run.test_named("best")


def test_a_folder_of_test_results_is_accepted_as_a_run(run_folder):
    run = read_run(run_folder / "test_1x1")
    assert run.name == "test_1x1" and [t.name for t in run.tests] == ["test_1x1"]
    assert run.config is None and run.records == []


def test_zero_shot_tests_of_one_and_of_several_configs(run_folder):
    entry = json.loads((run_folder / "test_1x1" / "summary.json").read_text())
    one = {"tests": {"ucf, s1.txt": {**entry, "list": "s1"}, "ucf, s2.txt": {**entry, "list": "s2"}}, "weights": "w"}
    write_test(run_folder / "zeroshot_ucf", *FEW)
    (run_folder / "zeroshot_ucf" / "summary.json").write_text(json.dumps(one))
    for name in ("ucf", "hmdb"):
        write_test(run_folder / "zeroshot_two" / name, *FEW)
        (run_folder / "zeroshot_two" / name / "summary.json").unlink()
    both = {"tests": {"ucf, v.txt": {**entry, "list": "u"}, "hmdb, v.txt": {**entry, "list": "h"}}, "weights": "w"}
    (run_folder / "zeroshot_two" / "summary.json").write_text(json.dumps(both))
    tests = {t.name: t for t in read_run(run_folder).tests}
    assert tests["zeroshot_ucf"].lists == ["s1", "s2"] and tests["zeroshot_ucf"].is_zero_shot
    assert tests["zeroshot_two/ucf"].lists == ["u"] and tests["zeroshot_two/hmdb"].lists == ["h"]
    assert not tests["test_1x1"].is_zero_shot and read_run(run_folder).main_test.name == "test_1x1"


def test_the_folder_of_several_runs_is_not_a_run(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path / name)
    with pytest.raises(UserError, match="contains 2 runs; .*/one, .*/two$"):
        read_run(tmp_path)


def test_missing_and_corrupted_files_are_reported_in_one_line(tmp_path, run_folder):
    assert fault_of(read_run, tmp_path / "nowhere").endswith(
        "give a run folder of train.py or the results folder of test.py"
    )
    (tmp_path / "untested").mkdir()
    (tmp_path / "untested" / "last_model.pt").touch()
    (tmp_path / "untested" / "config.yaml").write_text("seed: 1\n")
    assert fault_of(read_run, tmp_path / "untested").endswith(
        f"run: python test.py --config {tmp_path}/untested/config.yaml --weights {tmp_path}/untested/last_model.pt"
    )
    summary = run_folder / "test_1x1" / "summary.json"
    whole = summary.read_text()
    summary.unlink()
    assert "did not finish" in fault_of(read_run, run_folder)
    summary.write_text(whole[:50])
    assert "not the summary of a test" in fault_of(read_run, run_folder)
    summary.write_text('{"top1": 3}')
    assert "lacks list, views, config" in fault_of(read_run, run_folder)
    for key, value, expected in (
        ("views", None, "views: Input should be"),
        ("views", {"clips": 0, "crops": 1}, "views.clips: Input should be greater than 0"),
        ("config", {"network": 3, "data": {"dense": False}}, "config.network: Input should be"),
        ("weights", [1], "weights: Input should be"),
    ):
        summary.write_text(json.dumps({**json.loads(whole), key: value}))
        assert f"{summary}: not the summary of a test ({expected}" in fault_of(read_run, run_folder)
    summary.write_text(whole)
    metrics = run_folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"kind": "train", "st')  # truncated by a kill
    assert len(read_run(run_folder).records) == 102
    metrics.write_text("{not json}\n")
    assert "invalid metrics file" in fault_of(read_run, run_folder)


@pytest.mark.parametrize("name", ["metrics.jsonl", "test_1x1/summary.json", "test_1x1/embeddings.npz"])
def test_a_file_that_may_not_be_read_is_not_called_corrupted(run_folder, monkeypatch, name):
    path, real_open = run_folder / name, io.open

    def refuse(file, *arguments, **options):
        if str(file) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(file, *arguments, **options)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(PermissionError):
        _ = read_run(run_folder).main_test.outcomes


def test_a_config_with_other_keys_is_reported(run_folder):
    config = Config().model_dump()
    config["data"]["no_such_key"] = 1
    write_test(run_folder / "test_1x1", *FEW, config=config)
    with pytest.raises(UserError, match=r"summary.json: config: data.no_such_key: .*; run the test again"):
        _ = read_run(run_folder).main_test.config


def test_the_weights_are_found_where_they_were_or_beside_the_results(run_folder, tmp_path):
    def test_with(weights, of_hash):
        write_test(run_folder / "test_1x1", *FEW, weights=str(weights), weights_hash=of_hash)
        run = read_run(run_folder)
        return find_weights(run.main_test, run)

    here = run_folder / "last_model.pt"
    here.write_bytes(b"weights")
    assert test_with(here, file_hash(here)) == here
    assert test_with(tmp_path / "old place" / "last_model.pt", file_hash(here)) == here
    with pytest.raises(UserError, match="has changed since the test"):
        test_with(here, "of other weights")
    with pytest.raises(UserError, match="gone.pt: the file no longer exists"):
        test_with(tmp_path / "gone.pt", "x")


def test_the_commands_reproduce_the_run(run_folder):
    config = read_run(run_folder).main_test.scores["config"]
    config["data"]["val_list"] = "my lists/val.txt"
    config["network"]["prompt"] = "it's {}"
    write_test(run_folder / "test_4x3", *FEW, views=(4, 3), config=config, weights="best.pt")
    run = read_run(run_folder)
    by_title = commands(run, run.main_test)
    assert by_title["Train again"] == f"python train.py --config {run_folder}/config.yaml logging.run_dir=NEW_FOLDER"
    begin = f"python test.py --config {run_folder}/config.yaml --weights best.pt --test_clips 4 --test_crops 3 "
    assert by_title["Test again"].startswith(begin) and "'data.val_list=my lists/val.txt'" in by_title["Test again"]


def test_overrides_are_read_back_as_they_were(run_folder):
    """Commands contain the overrides of the test: texts with quotes, lists, null, numbers."""
    base = run_folder / "config.yaml"
    wanted = [
        'network.prompt=it\'s a "{}": yes',
        "data.area_range=[0.5, 1.0]",
        "seed=7",
        "network.tm=tsm",
        "pretrain=a b",
    ]
    config = load_config(base, wanted, "predict").config.model_dump()
    changed = changed_keys(config, load_config(base, purpose="predict").config.model_dump())
    assert set(changed) == {"network.prompt", "data.area_range", "seed", "network.tm", "pretrain"}
    again = [override(key, value) for key, (value, _) in changed.items()]
    assert load_config(base, again, "predict").config.model_dump() == config


def test_pairs_are_aligned_by_path_and_label():
    table, _ = FEW
    order = np.random.default_rng(0).permutation(12)
    shuffled = table._replace(paths=[table.paths[i] for i in order], labels=table.labels[order])
    rows = align(table, shuffled)
    assert [shuffled.paths[row] for row in rows] == table.paths
    with pytest.raises(UserError, match=r"not on the same videos \(12 and 12; videos/00000.mp4 with label 0 is in one"):
        align(table, table._replace(labels=np.roll(table.labels, 1)))


def test_the_page_and_log_of_a_run_whose_name_is_not_utf8(tmp_path):
    folder = write_run(tmp_path / os.fsdecode(b"caf\xe9"), 12, 4)
    assert call("report", folder, "--no_frames") == 0
    assert r"Report: caf\xe9" in (folder / "report.html").read_text()
    log = open_log(Process(0, 1, 0, torch.device("cpu")), plain=True)
    log_to_file(folder / "log.txt")
    log.info("the run is in %s", folder)
    logging.shutdown()
    assert (folder / "log.txt").read_text().endswith("caf\\udce9\n")


def test_tests_with_the_same_views_are_compared_if_possible(tmp_path):
    a, b = write_run(tmp_path / "a", 12, 4), write_run(tmp_path / "b", 12, 4, seed=1)
    write_test(a / "test_a_4x3", *FEW, views=(4, 3))
    runs = read_run(a), read_run(b)
    assert [t.name for t in pair_tests(*runs, None)[:2]] == ["test_1x1", "test_1x1"]
    write_test(b / "test_b_4x3", *FEW, views=(4, 3))
    runs = read_run(a), read_run(b)
    assert [t.name for t in pair_tests(*runs, None)[:2]] == ["test_a_4x3", "test_b_4x3"]
    assert [t.name for t in pair_tests(*runs, "test_1x1")[:2]] == ["test_1x1", "test_1x1"]
    other = write_run(tmp_path / "c", 16, 4)
    with pytest.raises(UserError, match=r"not on the same videos \(12 and 16; .*test both runs on the same list"):
        pair_tests(runs[0], read_run(other), None)
