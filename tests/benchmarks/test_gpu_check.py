"""benchmarks/gpu_check.py runs every part, on small models on the CPU, and a failing part does not affect the
others."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import Part, run_parts, write_report
from benchmarks.gpu_parts import part
from benchmarks.gpu_parts.kernels import kind_of, shares_by_kind, short_name
from benchmarks.gpu_parts.part import FAILED, NOT_RUN, OK, SKIPPED, Setting

FAKES = "tests.benchmarks.fake_parts"


def test_every_part_runs_on_small_models(tmp_path, capsys):
    code = gpu_check.main(["--device", "cpu", "--tiny", "--minutes", "4", "--out", str(tmp_path)])
    rows = {row["part"]: row for row in json.loads((tmp_path / "gpu_check.json").read_text())["rows"]}
    assert [row["traceback"] for row in rows.values() if row["result"] == FAILED] == [] and code == 0
    assert list(rows) == list(gpu_check.PARTS)
    for row in rows.values():
        lacks = row["text"].startswith(("this version does not support", "torchcodec cannot decode", "sharding needs"))
        assert row["result"] == (SKIPPED if lacks else OK), row
    speed = rows["L/14"]["figures"]
    assert speed["clips_per_second"] > 0 and speed["utilisation"] > 0 and speed["flops"] > 1e6
    assert len(speed["kernels"]) == 3 and speed["kernels"][0]["share"] >= speed["kernels"][1]["share"] > 0
    assert sum(speed["kinds"].values()) == pytest.approx(1) and speed["kinds"]["matmul"] > 0
    assert rows["loader processes"]["figures"]["clips_per_second"]
    table = (tmp_path / "gpu_check.md").read_text()
    assert table.count("\n| ") == 2 + len(rows) and table in capsys.readouterr().out


def test_names_of_kernels():
    add = "CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul> >(int, at::native::CUDAFunctor_add<c10::BFloat16>)"
    mul = "BinaryFunctor<c10::BFloat16, c10::BFloat16, at::native::binary_internal::MulFunctor<float> >, char*>(int)"
    copy = "gpu_kernel_impl_nocast<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda(c10::Half)#1}>"
    names = {
        f"void at::native::vectorized_elementwise_kernel<8, at::native::{add}": ("elementwise add bf16", "elementwise"),
        f"void at::native::vectorized_elementwise_kernel<8, at::native::{mul}": ("elementwise Mul bf16", "elementwise"),
        f"void at::native::elementwise_kernel<128, 4, at::native::{copy}": ("elementwise direct_copy fp16", "copy"),
        "nvjet_sm90_tst_192x192_64x3_2x1_v_bz_coopB_NNN": ("nvjet_sm90_tst_192x192_64x3_2x1_v_bz_coopB_NNN", "matmul"),
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>(Params)": ("flash_fwd_kernel", "attention"),
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float>(int)": (
            "vectorized_layer_norm_kernel", "norm",
        ),
        "aten::addmm": ("aten::addmm", "matmul"),
        "Memcpy HtoD (Pinned -> Device)": ("Memcpy HtoD ", "copy"),
    }  # fmt: skip
    assert {name: (short_name(name), kind_of(name)) for name in names} == names
    assert shares_by_kind({"aten::addmm": 1, "aten::mm": 2, "triton_red": 1}) == {"matmul": 0.75, "compiled": 0.25}


def test_a_part_that_fails_crashes_or_hangs_gets_a_row_and_the_others_run(tmp_path, monkeypatch):
    monkeypatch.setattr(part, "GRACE", 1.0)
    parts = {
        name: Part(f"{FAKES}.{name.partition(' ')[0]}", limit)
        for name, limit in {"works": 30, "works too": 30, "fails": 30, "cannot": 30, "crashes": 30, "hangs": 1}.items()
    }
    parts |= {"works again": Part(f"{FAKES}.works", 30), "not there": Part(f"{FAKES}.no_such", 30)}
    reported = []
    setting = Setting("cpu", True, str(tmp_path))
    found = run_parts(parts, setting, 100, tmp_path / "log", lambda rows: reported.append(len(rows)))
    rows = {row.part: row for row in found}
    assert reported == list(range(1, len(parts) + 1))
    assert [rows[name].result for name in parts] == [OK, OK, FAILED, SKIPPED, FAILED, FAILED, OK, FAILED]
    assert rows["works too"].text == "after works"
    assert rows["works"].figures == rows["works too"].figures != rows["works again"].figures  # processes
    assert rows["works again"].text == "after works, works too"
    assert rows["fails"].text == "ValueError: no such kernel" and "in fails" in rows["fails"].traceback
    assert rows["cannot"].text == "this version has none"
    assert "exit code -6" in rows["crashes"].text
    assert "last words" in rows["crashes"].traceback and "fake_parts.py" in rows["crashes"].traceback
    assert "longer than 1 s" in rows["hangs"].text and "in hangs" in rows["hangs"].traceback
    assert "a line of the log" in (tmp_path / "log").read_text()
    table = write_report(found, "about", tmp_path)
    assert "| hangs | FAILED |" in table and len(json.loads((tmp_path / "gpu_check.json").read_text())["rows"]) == 8


def test_parts_find_the_ffmpeg_of_pyav(tmp_path):
    parts = {"FFmpeg": Part(f"{FAKES}.loads_ffmpeg")}
    (row,) = run_parts(parts, Setting("cpu", True, str(tmp_path)), 60, tmp_path / "log", lambda rows: None)
    assert row.result == OK, row
    names = [Path(file).name.partition("-")[0] for file in row.figures["files"] if "/av.libs/" in file]
    # Each once, although torchcodec and the wheel's own libraries use different names.
    assert names.count("libavcodec") == names.count("libavutil") == 1


def test_parts_that_did_not_run_for_lack_of_time_are_listed(tmp_path):
    parts = {name: Part(f"{FAKES}.works") for name in ("one", "two")}
    rows = run_parts(parts, Setting("cpu", True, str(tmp_path)), 1, tmp_path / "log", lambda rows: None)
    assert [row.result for row in rows] == [NOT_RUN, NOT_RUN]


def test_a_missing_gpu_is_a_one_line_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as raised:
        gpu_check.main(["--out", str(tmp_path)])
    assert raised.value.code == 2 and "PyTorch finds no GPU" in capsys.readouterr().err
