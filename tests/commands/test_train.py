"""train.py: training, output files and errors."""

import errno
import math
import os
import shutil
import signal

import pytest
import torch
import yaml

import modules.build
from datasets.packed_clip import write_packed_clip
from engine import keeper
from engine.meter import TrainingMeter
from modules.training import Trainer
from tests.commands.world import NUM_TRAIN, NUM_VAL, call, losses, records
from tests.faults_of import error_line
from utils.checkpoint import load_checkpoint
from utils.config import load_config
from utils.hashing import content_hash
from utils.stop import ASKED, EXIT_REQUEUE

NUM_CLIPS = 3 * NUM_TRAIN


def train(world, run_dir, *overrides, config=None):
    return call("train", "--config", config or world.config, f"logging.run_dir={run_dir}", *overrides)


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """An uninterrupted run of two epochs."""
    path = tmp_path_factory.mktemp("run")
    assert train(world, path, "solver.epochs=2") == 0
    return path


def test_a_run_writes_all_its_files(run, world):
    expected = {"config.yaml", "log.txt", "metrics.jsonl", "last_model.pt", "last_model.1.pt", "best_model.pt"}
    assert {p.name for p in run.iterdir()} == expected
    steps = [r for r in records(run) if r["kind"] == "train"]
    assert [r["step"] for r in steps] == list(range(1, 2 * math.ceil(NUM_CLIPS / 2) + 1))
    assert {"loss", "lr_pretrained", "lr_new", "clips_per_second", "wait_share", "peak_memory_mib"} <= set(steps[0])
    assert steps[0]["lr_new"] == 0 and steps[5]["lr_new"] == pytest.approx(10 * steps[5]["lr_pretrained"])
    val = [r for r in records(run) if r["kind"] == "val"]
    assert [r["epoch"] for r in val] == [1, 2] and val[0]["num_videos"] == 3 * NUM_VAL
    state = load_checkpoint(run / "last_model.pt")
    assert state["epoch"] == 1 and state["progress"]["step"] == len(steps)
    assert state["config"] == (run / "config.yaml").read_text()
    assert load_config(run / "config.yaml").config.network.arch == str(world.arch)
    names = set(state["model_state_dict"])
    assert {"logit_scale", "visual.proj", "fusion_model.frame_position_embeddings.weight"} <= names
    assert "fusion_model.transformer.resblocks.5.attn.in_proj_weight" in names
    log = (run / "log.txt").read_text()
    assert (
        "command     " in log and "pretrained" in log and "epoch 2 validation: top-1" in log and "best_model.pt" in log
    )


def test_the_same_seed_gives_the_same_run_whatever_the_workers(world, run, tmp_path):
    assert train(world, tmp_path / "again", "solver.epochs=2", "data.workers=2") == 0
    assert losses(tmp_path / "again") == losses(run)
    assert train(world, tmp_path / "other", "solver.epochs=2", "seed=7") == 0
    assert losses(tmp_path / "other") != losses(run)


def test_accumulated_batches_equal_one_batch(world, tmp_path):
    assert train(world, tmp_path / "one", "data.batch_size=4", "solver.epochs=2") == 0
    assert train(world, tmp_path / "two", "solver.grad_accumulation_steps=2", "solver.epochs=2") == 0
    # 15 clips: the last step has three clips, in batches of two and one.
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)


def stop_after(monkeypatch, step):
    """Send SIGTERM to this process while it works on step `step`."""
    original = Trainer._step

    def step_then_signal(self, batches, sizes, progress):
        if progress.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batches, sizes, progress)

    monkeypatch.setattr(Trainer, "_step", step_then_signal)


@pytest.mark.parametrize("step", [1, 4, 7, 8, 11])
def test_an_interrupted_run_equals_an_uninterrupted_one(world, run, tmp_path, monkeypatch, step):
    stop_after(monkeypatch, step)
    assert train(world, tmp_path, "solver.epochs=2", "resume=auto") == EXIT_REQUEUE
    stopped = load_checkpoint(tmp_path / "last_model.pt")
    assert stopped["progress"]["step"] in (step, step + 1)
    assert train(world, tmp_path, "solver.epochs=2", "resume=auto") == 0
    uninterrupted, resumed = load_checkpoint(run / "last_model.pt"), load_checkpoint(tmp_path / "last_model.pt")
    assert losses(tmp_path) == losses(run)
    for part in ("model_state_dict", "optimizer_state_dict", "progress"):
        assert content_hash(resumed[part]) == content_hash(uninterrupted[part]), part


def test_pixels_computed_on_the_device_give_the_same_run_and_resume(world, run, tmp_path, monkeypatch, capsys):
    keys = ("data.pixels_on=device", "data.decode_on=device", "data.workers=2", "solver.epochs=2", "resume=auto")
    stop_after(monkeypatch, 4)
    assert train(world, tmp_path, *keys) == EXIT_REQUEUE
    monkeypatch.undo()
    assert train(world, tmp_path, *keys) == 0
    assert losses(tmp_path) == losses(run)
    assert (
        "4 frames, resized, cropped and augmented on the device, decoded there as well (JPEG files)"
        in capsys.readouterr().out
    )


def test_a_resumed_run_draws_the_same_experts(world, tmp_path, monkeypatch):
    mote = ("network.sim_header=MoTE", "network.scorer=modulated", "solver.loss_type=mixture", "network.head_layers=1")
    assert train(world, tmp_path / "uninterrupted", *mote) == 0
    stop_after(monkeypatch, 2)
    assert train(world, tmp_path / "cut", *mote, "resume=auto") == EXIT_REQUEUE
    monkeypatch.undo()
    assert train(world, tmp_path / "cut", *mote, "resume=auto") == 0
    uninterrupted, resumed = (load_checkpoint(tmp_path / name / "last_model.pt") for name in ("uninterrupted", "cut"))
    assert content_hash(resumed["model_state_dict"]) == content_hash(uninterrupted["model_state_dict"])


def test_saves_within_an_epoch_and_older_checkpoints(world, tmp_path):
    assert train(world, tmp_path, "solver.save_every=3", "solver.keep_last=3") == 0
    found = [
        load_checkpoint(tmp_path / name)["progress"] for name in ("last_model.2.pt", "last_model.1.pt", "last_model.pt")
    ]
    assert [p["step"] for p in found] == [3, 6, 8] and [p["consumed_clips"] for p in found] == [6, 12, 0]
    assert not (tmp_path / "last_model.3.pt").exists()


def test_auto_takes_the_newest_good_checkpoint(world, run, tmp_path, capsys):
    assert train(world, tmp_path, "solver.epochs=2", "resume=auto") == 0
    last = tmp_path / "last_model.pt"
    last.write_bytes(last.read_bytes()[:1000])
    assert train(world, tmp_path, "solver.epochs=2", f"resume={last}") == 2
    assert "last_model.pt" in capsys.readouterr().err
    assert train(world, tmp_path, "solver.epochs=2", "resume=auto") == 0
    assert "trying the previous one" in capsys.readouterr().out
    assert losses(tmp_path) == losses(run)
    for path in tmp_path.glob("last_model*.pt"):
        path.write_bytes(b"")
    assert train(world, tmp_path, "resume=auto") == 2
    assert "none of its 2 checkpoints could be loaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [
        (errno.ENOSPC, 1, "free disk space"),
        (errno.EIO, 1, "check the disk or the network mount"),
        (errno.EACCES, 2, "correct that (Permission denied)"),
    ],
)
def test_a_failing_disk_is_a_warning_until_the_end(world, tmp_path, monkeypatch, capsys, number, code, remedy):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(keeper, "save_checkpoint", fail)
    assert train(world, tmp_path, "solver.epochs=1") == code
    output = capsys.readouterr()
    assert "WARNING: no checkpoint written" in output.out and os.strerror(number) in output.out
    assert f"could not be written; {remedy} and run again with resume=auto" in output.err


def test_a_finished_run_is_not_overwritten_but_can_be_resumed(world, run, capsys):
    before = (run / "last_model.pt").read_bytes()
    assert train(world, run, "solver.epochs=2") == 2
    assert "already contains a run; add resume=auto" in capsys.readouterr().err
    assert train(world, run, "solver.epochs=2", "resume=auto") == 0
    assert "is finished; to train longer, increase solver.epochs (2)" in capsys.readouterr().out
    assert (run / "last_model.pt").read_bytes() == before


def test_a_run_stopped_before_the_first_step_writes_nothing(world, tmp_path, monkeypatch, capfd):
    build = modules.build.build_model_and_text

    def build_then_signal(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return build(*arguments)

    monkeypatch.setattr("engine.train.build_model_and_text", build_then_signal)
    assert train(world, tmp_path / "run") == EXIT_REQUEUE
    assert not (tmp_path / "run").exists()
    printed = capfd.readouterr()
    assert printed.err == f"{ASKED}\n" and "nothing was written; run the same command again" in printed.out


def test_check_prints_the_plan_and_leaves_nothing(world, tmp_path, capsys):
    path = tmp_path / "checked"
    assert call("train", "--config", world.config, "--check", f"logging.run_dir={path}") == 0
    out = capsys.readouterr().out
    for part in (
        "software    Py",
        "15 clips per epoch",
        "9 videos, 3 classes",
        "8 per epoch",
        "GiB",
        "fusion_model",
        "check passed",
    ):
        assert part in out, out
    assert not path.exists()


def test_check_finds_errors_that_would_stop_a_run(world, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("train_0_0 9 0\nmissing_clip 9 1\n")
    assert "list.txt:2" in error_line(
        call("train", "--config", world.config, "--check", f"data.train_list={tmp_path / 'list.txt'}"), capsys
    )


@pytest.mark.parametrize(
    ("overrides", "frozen"),
    [
        (("network.fix_video=true",), "visual."),
        (("network.sim_header=None", "solver.optim=sgd", "solver.type=multistep"), "nothing"),
        (("solver.precision=bf16", "solver.clip_grad_norm=0.1", "solver.activation_checkpointing=true"), "nothing"),
        (("data.randaug.N=2", "data.dense=true", "data.shot=2", "solver.optim=adam"), "nothing"),
        (("network.tm=tsm", "network.sim_header=None"), "nothing"),
        (("network.tm=tokenshift", "network.drop_out=0.1", "network.emb_dropout=0.1"), "nothing"),
        (("network.tm=tokent1d", "solver.loss_type=DS"), "nothing"),
        (("network.joint_st=true", "network.sim_header=None", "solver.loss_type=NCE"), "nothing"),
    ],
)
def test_variants_train(world, tmp_path, overrides, frozen):
    assert train(world, tmp_path, *overrides) == 0
    found = load_checkpoint(tmp_path / "last_model.pt")["model_state_dict"]
    original = torch.load(world.arch, weights_only=True)
    assert all(math.isfinite(loss) for loss in losses(tmp_path))
    for name in ("visual.proj", "visual.conv1.weight"):
        assert torch.equal(found[name], original[name]) == name.startswith(frozen), name


def test_checkpointing_changes_memory_not_losses(world, run, tmp_path):
    assert train(world, tmp_path, "solver.epochs=2", "solver.activation_checkpointing=true") == 0
    torch.testing.assert_close(losses(tmp_path), losses(run), rtol=1e-5, atol=1e-6)


def test_pretrain_loads_only_the_weights(world, run, tmp_path):
    assert train(world, tmp_path, f"pretrain={run / 'last_model.pt'}", "solver.lr=1e-12") == 0
    found = load_checkpoint(tmp_path / "last_model.pt")
    start = load_checkpoint(run / "last_model.pt")["model_state_dict"]
    assert found["epoch"] == 0
    torch.testing.assert_close(found["model_state_dict"]["visual.proj"], start["visual.proj"])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(world, tmp_path, capsys):
    assert train(world, tmp_path, "solver.lr=1e30", "solver.clip_ratio=1", "solver.lr_warmup_step=0") == 2
    error = capsys.readouterr().err
    assert "the loss is nan" in error and "train_" in error and not (tmp_path / "last_model.pt").exists()


def test_evaluate_only(world, tmp_path, capsys):
    assert train(world, tmp_path, "solver.evaluate=true") == 0
    assert "validation: top-1" in capsys.readouterr().out and not (tmp_path / "last_model.pt").exists()


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (("network.arch=ViT-B/99",), "ViT-B/99"),
        (("network.arch=/nowhere/clip.pt",), "/nowhere/clip.pt"),
        (("data.num_classes=4",), "labels.csv"),
        (("data.label_list=/nowhere/l.csv",), "/nowhere/l.csv"),
        (("data.train_list=/nowhere/t.txt",), "/nowhere/t.txt"),
        (("data.train_root=/nowhere",), "/nowhere"),
        (("resume=/nowhere/a.pt",), "/nowhere/a.pt"),
        (("pretrain=/nowhere/a.pt",), "/nowhere/a.pt"),
        (("solver.precision=fp16",), "fp16 needs a GPU"),
        (("logging.run_dir=/proc/run",), "/proc/run: cannot be written"),
        (("data.input_size=30",), "30"),
    ],
)
def test_mistakes_are_one_line_errors_with_exit_code_2(world, tmp_path, capsys, overrides, part):
    assert part in error_line(train(world, tmp_path / "run", *overrides), capsys)
    assert not (tmp_path / "run").exists()


def test_config_warnings_are_shown(world, tmp_path, capsys):
    config = yaml.safe_load(world.config.read_text())
    config["network"]["type"] = "clip_k400"
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(config))
    assert call("train", "--config", path, "--check") == 0
    assert "network.type has no effect" in capsys.readouterr().out


def test_the_advice_on_slow_data_depends_on_packed_clips(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("engine.meter.WAIT_ADVICE_SHARE", -1)
    videos = tmp_path / "videos"
    shutil.copytree(world.root / "videos", videos)
    root = f"data.train_root={videos}"
    advice = []
    for name in ("plain", "packed"):
        monkeypatch.setattr(TrainingMeter, "_has_advised", False)
        monkeypatch.setattr(TrainingMeter, "_num_warm_up", 0)
        assert call("train", "--config", world.video_config, f"logging.run_dir={tmp_path / name}", root) == 0
        advice += [line for line in capsys.readouterr().out.splitlines() if "waiting for data: " in line]
        jpegs = sorted((world.root / "frames" / "train_0_0").iterdir())
        frames = [(path.read_bytes(), 40 * number) for number, path in enumerate(jpegs)]
        write_packed_clip(videos / "train_0_0.mp4", frames, 48, 36)
    assert ["pack the videos" in line for line in advice] == [True, False]
