"""Config files: valid and invalid ones, and their error messages."""

from pathlib import Path

import pytest
import yaml

from utils.config import dump_config, load_config
from utils.errors import UserError
from utils.schema import Config, dotted_keys

MINIMAL = "data:\n  train_list: train.txt\n  val_list: val.txt\n  label_list: labels.csv\n"

PUBLISHED = """
resume:
pretrain:
seed: 1024
data:
    dataset: kinetics400
    modality: RGB
    num_segments: 8
    seg_length: 1
    batch_size: 32
    workers: 8
    num_classes: 400
    image_tmpl: 'img_{:05d}.jpg'
    train_root: '/data/k400/frames'
    train_list: 'lists/k400/train.txt'
    val_root: '/data/k400/frames'
    val_list: 'lists/k400/val.txt'
    label_list: 'lists/kinetics_400_labels.csv'
    index_bias: 1
    input_size: 224
    randaug:
        N: 0
        M: 0
    random_shift: True
network:
    arch: ViT-L/14
    init: True
    tm: False
    drop_out: 0.0
    emb_dropout: 0.0
    type: clip_k400
    sim_header: None
    joint_st: False
    drop: 0
    fix_text: True
    fix_video: False
solver:
    type: cosine
    epochs: 30
    start_epoch: 0
    epoch_offset: 0
    optim: adamw
    lr: 5.e-5
    lr_warmup_step: 5
    momentum: 0.9
    weight_decay: 0.2
    lr_decay_step: 15
    loss_type: CE
    evaluate: False
    clip_ratio: 0.1
    grad_accumulation_steps: 1
logging:
    print_freq: 10
    eval_freq: 5
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(tmp_path: Path, text: str, overrides=(), purpose="train") -> str:
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text), list(overrides), purpose)
    return str(error.value)


def test_published_configs_load_with_a_warning_for_each_unused_key(tmp_path):
    config, warnings = load_config(write(tmp_path, PUBLISHED))
    assert config.network.sim_header == "None" and config.network.tm is False
    assert config.solver.lr == 5e-5 and config.resume is None
    assert [w.split(": ")[1].split()[0] for w in warnings] == ["network.type", "network.drop", "solver.epoch_offset"]


def test_numbers_that_yaml_1_1_reads_as_text(tmp_path):
    config, _ = load_config(
        write(tmp_path, MINIMAL + "solver: {lr: 5e-5, weight_decay: 1}\n"), ["solver.clip_ratio=1e-2"]
    )
    assert (config.solver.lr, config.solver.weight_decay, config.solver.clip_ratio) == (5e-5, 1.0, 0.01)


def test_all_errors_are_reported_at_once_with_line_and_nearest_key(tmp_path):
    text = (
        MINIMAL + "  batch_sizee: 4\n  input_size: big\nsolver:\n  lr: -1\n  epochs: 3\n  start_epoch: 3\nnetwrk: {}\n"
    )
    message = faults(tmp_path, text, ["data.lr=1", "solver.optim=lionn"])
    path = tmp_path / "config.yaml"
    for part in (
        f"{path}:5: data.batch_sizee: unknown key; did you mean data.batch_size?",
        f"{path}:6: data.input_size: must be",
        f"{path}:8: solver.lr: must be greater than 0, not -1",
        "solver.start_epoch and solver.epochs: start_epoch must be below epochs",
        f"{path}:11: netwrk: unknown section; did you mean network?",
        "command line: data.lr: unknown key; did you mean solver.lr?",
        "command line: solver.optim: 'lionn' is not a valid choice; did you mean lion?",
    ):
        assert part in message, message
    assert message.startswith("7 errors")


@pytest.mark.parametrize(
    ("text", "overrides", "part"),
    [
        ("", (), "is empty"),
        ("- a\n- b\n", (), "expected a mapping"),
        ("data: [\n", (), "not valid YAML"),
        ("seed: 1\nseed: 2\n", (), "is given twice, in lines 1 and 2"),
        (
            "data:\n  <<: {workers: 1}\n",
            (),
            ":2: not valid YAML: merge keys (<<) are not supported",
        ),
        ("seed: 1\nresume: a\0b\n", (), ":2: not valid YAML: unacceptable character #x0000"),
        ("data: 3\n", (), "must be a section"),
        (MINIMAL, ("nonsense",), "is not an override"),
        (MINIMAL, ("dta.num_segments=8",), "command line: dta: unknown section; did you mean data?"),
        (MINIMAL + "seed: true\n", (), "seed: must be"),
        (MINIMAL + "seed: 1.5\n", (), "seed: must be"),
        (MINIMAL, ("data.image_tmpl=img.jpg",), "frame number in braces"),
        (MINIMAL, ("data.area_range=[0.9, 0.1]",), "smallest <= largest"),
        (MINIMAL, ("network.prompt=a video",), "{}"),
        (MINIMAL, ("network.prompt=caf\udce9 {}",), "network.prompt: is not UTF-8 text"),  # bytes of a terminal
        (MINIMAL, ("network.joint_st=true",), "set sim_header to None"),
        (MINIMAL, ("network.joint_st=true", "network.sim_header=None", "network.tm=tsm"), "set tm to False"),
        (MINIMAL, ("solver.type=multistep", "solver.lr_decay_step=[9, 3]"), "ascending list"),
        (MINIMAL, ("resume=a.pt", "pretrain=b.pt"), "remove one"),
        (MINIMAL, ("data.sets=[{name: a, train_list: a, val_list: b, label_list: c}]",), "sets has its own lists"),
        (MINIMAL, ("data.sets=[{name: a}]",), "data.sets: each needs name, train_list, val_list and label_list"),
        (MINIMAL, ("data.sets=[{name: a}, {name: a}]",), "data.sets: two sets have the same name"),
        (MINIMAL, ("data.sets=[{name: a}]", "data.shot=2"), "with sets are not supported"),
        (MINIMAL, ("data.sets=[{name: a, weight: 0}]",), "data.sets.0.weight: must be greater than 0, not 0"),
        (MINIMAL, ("data.sets=[{nam: a}]",), "data.sets.0.nam: unknown key"),
        (
            MINIMAL,
            ("data.sets=[{name: a}]", "data.label_space=apart", "solver.loss_type=NCE"),
            "classes that are apart need loss_type CE",
        ),
        (MINIMAL, ("solver.shard=full", "solver.compile=true"), "shard is not supported with compile"),
        (MINIMAL, ("solver.shard=full", "solver.optim=sgd"), "set optim to adamw or adam"),
        (MINIMAL, ("solver.shard=full", "solver.save_every=10min"), "save_every must be a number of steps"),
        ("seed: 1\n", (), "data.train_list: is required"),
        (MINIMAL, ("solver.lr=.inf",), "command line: solver.lr: must be a finite number, not inf"),
        (MINIMAL + "solver: {clip_ratio: .inf}\n", (), "solver.clip_ratio: must be a finite number"),
        (MINIMAL, ("solver.weight_decay=.nan",), "solver.weight_decay: must be a finite number"),
        (MINIMAL, ("data.num_segments=2020-13-45",), "data.num_segments: must be an integer, not '2020-13-45'"),
        (MINIMAL, ("data.num_segments=!!int x",), "data.num_segments: must be an integer"),
        (MINIMAL, ("data.num_segments=" + 9999 * "[",), "data.num_segments: must be an integer"),
        (MINIMAL + "seed: !!bool x\n", (), "config.yaml:5: not valid YAML: 'x' is not a valid bool"),
        ("data: &a\n  workers: *a\n", (), "config.yaml:2: data.workers: must be an integer"),
        (MINIMAL, ("data.image_tmpl=img_{.foo}.jpg",), "frame number in braces"),
        (MINIMAL, ("data.image_tmpl=img_{[0]}.jpg",), "frame number in braces"),
        (MINIMAL, ("data.randaug.m=5",), "unknown key; did you mean data.randaug.M?"),
        (
            MINIMAL + "solver.lr: 0.1\n",
            (),
            "5: solver.lr: dotted keys are for the command line; in a file, write lr: below solver:",
        ),
        (MINIMAL + "  a.b: 1\n", (), "config.yaml:5: data.a.b: unknown key"),
        (MINIMAL + "  1: 1\n", (), "config.yaml:5: data.1: unknown key"),
        (MINIMAL + "true: 1\n", (), "config.yaml:5: true: unknown key"),
        ("data: &a {randaug: *a}\n", (), "config.yaml:1: data.randaug.randaug: unknown key"),
        (MINIMAL, ("data.LR=5",), "unknown key; did you mean solver.lr?"),
    ],
)
def test_refused(tmp_path, text, overrides, part):
    assert part in faults(tmp_path, text, overrides)


def test_missing_keys_of_an_invalid_section_are_not_reported(tmp_path):
    message = faults(tmp_path, MINIMAL, ["data=5"])
    assert message == "command line: data: must be a section of keys, not 5"


@pytest.mark.parametrize("name", ["2024-11-23", "2024", "1e3", "true", "a: b", "{}", "[x", "a #1"])
def test_text_overrides_are_taken_literally(tmp_path, name):
    path = write(tmp_path, MINIMAL)
    config, _ = load_config(path, [f"logging.run_dir={name}", f"data.val_root={name}"])
    assert config.logging.run_dir == config.data.val_root == name


@pytest.mark.parametrize("null", ["null", "~", "", " null "])
def test_null_overrides_of_text(tmp_path, null):
    path = write(tmp_path, MINIMAL + "logging: {run_dir: 2024-11-23}\n")
    assert load_config(path).config.logging.run_dir == "2024-11-23"
    assert load_config(path, [f"logging.run_dir={null}"]).config.logging.run_dir is None


def test_warm_up_as_long_as_training_is_a_warning(tmp_path):
    path = write(tmp_path, MINIMAL)
    (line,) = load_config(path, ["solver.epochs=5"]).warnings
    assert line.startswith(
        "command line: solver.lr_warmup_step and solver.epochs: the warm-up is as long as the training"
    )
    assert load_config(path, ["solver.epochs=6"]).warnings == []
    assert load_config(path, ["solver.epochs=5", "solver.evaluate=true"]).warnings == []
    assert load_config(path, ["solver.epochs=5"], "test").warnings == []


def test_patch_dropout_of_a_frozen_tower_is_a_warning(tmp_path):
    path = write(tmp_path, MINIMAL)
    dropout, frozen = "network.patch_dropout=0.5", "network.fix_video=true"
    (line,) = load_config(path, [dropout, frozen]).warnings
    assert line.startswith("command line: network.patch_dropout and network.fix_video: patch_dropout has no effect")
    assert load_config(path, [dropout]).warnings == load_config(path, [frozen]).warnings == []
    assert load_config(path, [dropout, frozen], "test").warnings == []


def test_files_that_are_not_configs(tmp_path):
    with pytest.raises(UserError, match="no such config file"):
        load_config(tmp_path / "absent.yaml")
    write(tmp_path, MINIMAL).rename(tmp_path / "shapes.yaml")
    with pytest.raises(UserError, match=r"did you mean .*shapes.yaml\?"):
        load_config(tmp_path / "shape.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not a text file"):
        load_config(tmp_path / "binary.yaml")


def test_a_test_needs_no_training_list(tmp_path):
    path = write(tmp_path, "data: {val_list: v, label_list: l}\n")
    assert load_config(path, purpose="test").config.data.train_list is None


def test_a_prompt_override_is_taken_literally(tmp_path):
    path = write(tmp_path, MINIMAL)
    assert load_config(path, ["network.prompt={}"]).config.network.prompt == "{}"
    assert load_config(path, ["network.prompt=a {}: b"]).config.network.prompt == "a {}: b"


def test_the_resolved_config_reads_back_equal(tmp_path):
    config, _ = load_config(write(tmp_path, PUBLISHED), ["data.randaug.N=2", "solver.clip_grad_norm=1.0"])
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml").config == config


def test_every_key_is_described():
    for name, field in dotted_keys().items():
        assert field.description, name
    assert yaml.safe_load(dump_config(Config())).keys() == Config.model_fields.keys()


@pytest.mark.parametrize(
    "override",
    ["seed=9223372036854775808", "data.shot_seed=1e30", "data.num_segments=100000", "data.input_size=224224",
     "network.head_layers=6000", "data.num_classes=99999999999", "data.batch_size=1000000000",
     "data.randaug.N=1000000", "solver.epochs=100000000000"],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(tmp_path, override):
    with pytest.raises(UserError, match=f"{override.split('=')[0]}: must be "):
        load_config(str(write(tmp_path, MINIMAL)), [override], "train")
