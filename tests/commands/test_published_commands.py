"""Every command of the published README, as typed, on a small world under the published names.

The launchers run as they are, with a `python` that notes its calls; these are then run in this process, where the names
ViT-B/32 and ViT-L/14 mean a tiny CLIP. The config files under the published names are the shipped ones, made small,
and the lists name the clips of tests/commands/world.py.
"""

import json
import os
import re
import subprocess

import open_clip
import pytest
import yaml

import clip.names
from tests.commands.docs_world import make_python
from tests.commands.test_docs_commands import without_launcher
from tests.commands.world import CLASSES, REPO, call, command

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
B32, L14 = "exp/k400/ViT-B/32/f8", "exp/k400/ViT-L/14/f8"
K600_WORDS = [f"configs/k600/k600_zero_shot_split{split}.yaml {L14}/last_model.pt" for split in (1, 2, 3)]


@pytest.fixture(scope="module")
def repository(world, tmp_path_factory):
    """A copy of the repository made of links, with small configs and the world's lists under the published names."""
    root = tmp_path_factory.mktemp("published")
    for path in REPO.iterdir():
        if not path.name.startswith(".") and path.name not in ("exp", "exp_fewshot", "configs", "lists"):
            (root / path.name).symlink_to(path)
    make_python(root / "bin" / "python")
    for path in REPO.glob("configs/*/*.yaml"):
        config = yaml.safe_load(path.read_text())
        data = config["data"]
        if "shapes" in str(path) or "sets" in data:
            continue
        kind = "videos" if data["modality"] == "video" else "frames"
        for key in ("train_list", "val_list"):
            if key in data:
                (root / data[key]).parent.mkdir(parents=True, exist_ok=True)
                (root / data[key]).write_text((world.root / f"{key.split('_')[0]}_{kind}.txt").read_text())
        (root / data["label_list"]).write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(CLASSES)))
        roots = {key: str(world.root / kind) for key in ("train_root", "val_root") if key in data}
        data |= {"num_classes": len(CLASSES), "input_size": 32, "batch_size": 2, "workers": 0, **roots}
        data["image_tmpl"] = "img_{:05d}.jpg"
        config["network"]["weights"] = "none"
        if "solver" in config:
            config["solver"] |= {"epochs": 1, "lr_warmup_step": 0.5}
            config["logging"] |= {"tensorboard": False}
        (root / "configs" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / "configs" / path.parent.name / path.name).write_text(yaml.safe_dump(config))
    return root


@pytest.fixture
def type_in(repository, monkeypatch, tmp_path, capsys):
    """A function that runs a command line in the repository and returns its exit code, stdout and stderr."""
    (tmp_path / "tiny-published.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path)
    for name in ("ViT-B/32", "ViT-L/14"):
        monkeypatch.setitem(clip.names.OPENAI_NAMES, name, "tiny-published")
    monkeypatch.chdir(repository)
    monkeypatch.setattr("utils.project_paths.REPOSITORY", repository)
    calls = tmp_path / "calls"
    environment = {k: v for k, v in os.environ.items() if k not in ("NPROC", "MASTER_ADDR", "NNODES")}
    environment |= {"PATH": f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls)}
    environment |= {"PYTHON": str(repository / "bin" / "python"), "CUDA_VISIBLE_DEVICES": ""}

    def type_in(text: str, **variables: str):
        calls.write_bytes(b"")
        shell = subprocess.run(
            ["sh", "-c", text], env=environment | variables, capture_output=True, text=True, timeout=60
        )
        assert shell.returncode == 0, shell.stderr
        (words,) = [noted.decode().split("\n")[:-1] for noted in calls.read_bytes().split(b"\0")[:-1]]
        script, options = without_launcher(words)
        code = call(script.removesuffix(".py"), *options)
        printed = capsys.readouterr()
        return code, printed.out, shell.stderr + printed.err

    return type_in


def test_train_test_report(repository, type_in):
    """A training on one machine, single-view and multi-view tests, and the next command that each prints."""
    train = "sh scripts/run_train.sh  configs/k400/k400_train_rgb_vitb-32-f8.yaml"
    code, out, err = type_in(train)
    assert code == 0, err
    assert (repository / B32 / "last_model.pt").exists()
    weights = f"{B32}/best_model.pt"
    assert out.splitlines()[-3:] == ["next:", f"  sh scripts/run_test.sh {weights}", f"  python report.py {B32}"]
    test = f"sh scripts/run_test.sh configs/k400/k400_train_rgb_vitb-32-f8.yaml {weights}"
    for text in (
        test,
        f"sh scripts/run_test.sh  configs/k400/k400_train_rgb_vitb-32-f8.yaml {B32}/last_model.pt",
        "sh scripts/run_test.sh  configs/k400/k400_train_rgb_vitb-32-f8.yaml "
        f"{B32}/last_model.pt --test_crops 3  --test_clips 4",
    ):
        code, out, err = type_in(text)
        assert code == 0, err
        assert out.splitlines()[-1] == f"next: python report.py {B32}"
    assert (repository / B32 / "test_k400_train_rgb_vitb-32-f8_4x3" / "summary.json").exists()
    code, _, err = type_in(f"python report.py {B32}")
    assert code == 0 and (repository / B32 / "report.html").exists(), err

    code, _, err = type_in(train)
    assert code == 2 and f"{B32} already contains a run; add resume=auto to continue it" in err
    assert type_in(f"{train} resume=auto")[0] == 0
    code, out, err = type_in(f"{train} --log_time 001 --precision amp --local_rank=0 --world_size 1")
    assert code == 0 and (repository / B32).with_name("001").is_dir(), err
    assert out.count("warning:") == 2  # amp on a CPU; the options without effect
    assert "--local_rank, --world_size: ignored" in out


def test_several_machines_few_shot_and_zero_shot(repository, type_in):
    code, _, err = type_in("sh scripts/run_train_multinodes.sh configs/k400/k400_train_rgb_vitl-14-f8.yaml 0")
    assert code == 0 and (repository / L14 / "last_model.pt").exists(), err
    again = re.search(r"on the other machines: (MASTER_ADDR=\S+ sh .*) NODE_RANK", err)[1]
    assert again.endswith("sh scripts/run_train_multinodes.sh configs/k400/k400_train_rgb_vitl-14-f8.yaml")
    code, _, err = type_in(f"{again} 1")
    assert code == 2 and "already contains a run" in err  # both use the same folder, because both run on this machine

    code, out, err = type_in("sh scripts/run_train.sh configs/k400/k400_few_shot.yaml")
    assert code == 0, err
    run = "exp_fewshot/k400/ViT-L/14/f8_shot2/seed0"
    assert (repository / run / "few_shot.txt").exists() and out.splitlines()[-1] == f"  python report.py {run}"

    for words in (
        "configs/anet/anet_zero_shot.yaml",
        "configs/ucf101/ucf_zero_shot.yaml",
        "configs/hmdb51/hmdb_zero_shot.yaml",
    ):
        code, out, err = type_in(f"sh scripts/run_test_zeroshot.sh  {words} {L14}/last_model.pt")
        assert code == 0, err
        assert out.splitlines()[-1] == f"next: python report.py {L14}"
    for words in K600_WORDS:
        code, _, err = type_in(f"sh scripts/run_test.sh  {words}")
        assert code == 0, err
    joined = ",".join(words.split()[0] for words in K600_WORDS)
    code, out, err = type_in(f"sh scripts/run_test_zeroshot.sh {joined} {L14}/last_model.pt")
    assert code == 0, err


def test_torch_distributed_launch_works(world, tmp_path):
    """torch.distributed.launch passes --local-rank; each process is one of the run. It leaves its temporary folder."""
    result = command(
        "sh", "-c", '"$PYTHON" -m torch.distributed.launch --nproc_per_node=2 --master_port 12355 train.py -cfg "$@"',
        "sh", world.config, f"logging.run_dir={tmp_path}", "solver.epochs=1", TMPDIR=str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("--local-rank: ignored") == 1 and "2 x cpu" in result.stdout


PAGE = (REPO / "docs/from-text4vis.md").read_text(encoding="utf-8")


def test_the_page_names_tests_that_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 10
    for path, test in named:
        text = (REPO / path).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, (path, test)


def test_the_page_has_every_published_script_and_flag():
    scripts = ("run_train.sh", "run_train_multinodes.sh", "run_test.sh", "run_test_zeroshot.sh", "run_train_nce.sh")
    flags = ("--config", "-cfg", "--log_time", "--dist_url", "--world_size", "--local_rank", "--precision", "--weights")
    for name in (*scripts, "test_anet.py", "train_nce.py", *flags, "--test_crops", "--test_clips", "--dense"):
        assert name in PAGE, name
