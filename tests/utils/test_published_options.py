"""Options that the published scripts and their launcher pass."""

import argparse

import pytest
import torch

from utils.cli import add_published_options, apply_published_options, config_parser
from utils.errors import UserError
from utils.precision import resolve_precision


def parse(*words) -> argparse.Namespace:
    parser = config_parser("")
    add_published_options(parser)
    return parser.parse_intermixed_args(words)


def test_short_name_of_the_config():
    assert parse("-cfg", "a.yaml").config == "a.yaml"


def test_precision_is_an_override_that_an_explicit_one_overrides():
    args = parse("--config", "a.yaml", "data.shot=1", "--precision", "fp32", "solver.lr=1")
    assert apply_published_options(args) == []
    assert args.overrides == ["solver.precision=fp32", "data.shot=1", "solver.lr=1"]


def test_options_of_the_launcher_are_one_warning():
    ignored = (
        "--local_rank=0",
        "--local-rank",
        "1",
        "--dist_url",
        "env://",
        "--world_size",
        "8",
        "--dist_backend=nccl",
    )
    args = parse("--config", "a.yaml", *ignored, "data.shot=1")
    (warning,) = apply_published_options(args)
    assert warning.startswith("--local_rank, --local-rank, --dist_url, --world_size, --dist_backend: ignored")
    assert args.overrides == ["data.shot=1"]
    assert apply_published_options(parse("--config", "a.yaml")) == []


def test_amp_is_fp16_on_a_gpu_and_reports_fp32_on_a_cpu(caplog):
    assert resolve_precision("amp", torch.device("cuda")) == "fp16" and not caplog.records
    assert resolve_precision("amp", torch.device("cpu")) == "fp32"
    (record,) = caplog.records
    assert "amp needs a GPU; using fp32 on this CPU" in record.message
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        resolve_precision("fp16", torch.device("cpu"))
