"""bench/gpu.py: its arithmetic and its table, and the whole run where the host plays the device."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"

sys.path.append(str(BENCH))  # behind the names of tests
cuda_runtime = pytest.importorskip("cuda_runtime", reason="bench/ is not part of this copy")
gpu = pytest.importorskip("gpu")
report = pytest.importorskip("gpu_report")


# ---- statistics, sizes, rooflines ----------------------------------------------------------------


def test_summary() -> None:
    found = report.summary([3.0, 1.0, 2.0, 10.0, 4.0])
    assert (found["median"], found["quartiles"], found["runs"]) == (3.0, [2.0, 4.0], 5)
    assert found["seconds"] == [3.0, 1.0, 2.0, 10.0, 4.0]


def test_rounds_fit_the_budget() -> None:
    assert report.rounds(0.1, 1.0) == 10
    assert report.rounds(10.0, 1.0) == 5
    assert report.rounds(1e-7, 1.0) == 100


@pytest.mark.parametrize("set_bytes", [10, 1000, 30_000, 10**6])
def test_a_set_has_left_the_cache_when_its_turn_comes(set_bytes: int) -> None:
    cache = 60_000
    count = report.rotations(set_bytes, cache, 10**9)
    assert count >= 2
    assert (count - 1) * set_bytes >= 2 * cache


def test_rotations_leave_half_of_the_memory() -> None:
    assert report.rotations(100, 10**6, 1000) == 5
    with pytest.raises(MemoryError, match="two sets of 400"):
        report.rotations(400, 10**6, 1000)


@pytest.mark.parametrize("factor", [1, 3])
def test_gram_rows_leave_half_of_the_memory(factor: int) -> None:
    free = 80 * 2**30
    assert report.gram_rows(16384, 784, 8, free, factor) == 16384
    n = report.gram_rows(16384, 784, 4, 2**30, factor)
    assert n == {1: 4096, 3: 4096}[factor]
    assert report.rotations(report.gram_bytes(n, 784, 4, factor), 0, 2**30) >= 2
    assert 4 * report.gram_bytes(2 * n, 784, 4, factor) > 2**30


def test_rows_in_time() -> None:
    assert report.rows_in_time(100_000, 10_000, 0.01, 1.0) == 100_000
    assert report.rows_in_time(100_000, 10_000, 0.04, 1.0) == 50_000
    assert report.rows_in_time(100_000, 10_000, 5.0, 1.0) == 10_000


def test_operations_and_bytes() -> None:
    assert report.gram_flops(10, 20, 3) == 1200
    assert report.matmul_flops(10, 3, 2) == 55 * 2 * 3 + 100 * 2 * 2
    # X of 3 columns, V and the result of 2, in four bytes each
    assert report.matmul_bytes(10, 3, 2, 4) == 4 * (10 * 3 + 20 * 2)
    assert report.fraction(10.0, 2.0, 20.0) == 0.25
    assert report.fraction(10.0, 2.0, None) is None


# ---- the table -----------------------------------------------------------------------------------


def times(**medians: float) -> dict[str, Any]:
    return {name.replace("_", " "): {"median": value} for name, value in medians.items()}


def results() -> dict[str, Any]:
    """Measurements whose ratios are known: a device of 1 TB/s and 10 TFLOP/s."""
    gram = {"dtype": "float32", "precision": "strict", "n": 1000, "itemsize": 4, "base": "cuBLAS"}
    return {
        "roofline": [
            {"case": "store", "amount": 1e12, "median": 1.0},
            {"case": "copy", "amount": 2e12, "median": 1.0},
            {"case": "float32 strict", "amount": 1e13, "median": 1.0},
            {"case": "float32 tf32", "amount": 6e13, "median": 1.0},
        ],
        "gram": [
            {**gram, "d": 784, "times": times(product=2.0, depth_1=2.2, depth_100=2.2 * 1.2)},
            {**gram, "d": 3, "times": times(depth_1=5e-6, depth_100=5e-6)},
        ],
        "matmul": [
            {**gram, "n": 10**5, "d": 784, "columns": 10, "median": 2.0},
        ],
        "peers": [{"case": "PyKeOps", "note": "no module"}],
    }


def by_name(lines: list[Any]) -> dict[str, Any]:
    return {line.what: line for line in lines}


def test_lines_of_known_measurements() -> None:
    found = by_name(report.lines(results()))
    over = found["gram, d = 784, float32 strict: over cuBLAS"]
    assert (over.value, over.met) == (pytest.approx(1.1), "yes")
    deep = found["gram, d = 784, float32 strict: depth 100 over 1"]
    assert (deep.value, deep.met) == (pytest.approx(1.2), "NO")
    stores = found["gram, d = 3, float32 strict: of the stores"]
    assert (stores.value, stores.met) == (pytest.approx(0.8), "yes")
    assert found["matmul, n = 100000, float32 strict"].value == pytest.approx(5.0)
    share = found["matmul, n = 100000, float32 strict: of the product ceiling"].value
    assert share == pytest.approx((1e10 * 784 + 2e10 * 10) / 2 / 1e13, rel=1e-4)
    moved = found["matmul, n = 100000, float32 strict: of the bytes ceiling"].value
    assert moved == pytest.approx(4e5 * 804 / 2 / 2e12)
    assert found["PyKeOps: time over ours"].met == "no module"


def test_three_products_have_a_third_of_the_ceiling() -> None:
    rates = report.ceilings(results())
    assert report.product_ceiling(rates, "float32", "3xtf32") == pytest.approx(2e13)
    assert report.product_ceiling(rates, "float64", "strict") is None


def test_without_a_product_a_goal_is_not_measured() -> None:
    less = results()
    del less["gram"][0]["times"]["product"]
    del less["roofline"]
    found = by_name(report.lines(less))
    assert found["gram, d = 784, float32 strict: over cuBLAS"].met == "not measured"
    assert found["gram, d = 3, float32 strict: of the stores"].met == "not measured"
    assert " - " in report.table(list(found.values()))


# ---- parts ---------------------------------------------------------------------------------------


def python(code: str, limit: float = 30) -> dict[str, Any]:
    return gpu.run([sys.executable, "-c", code], limit, {})


def test_a_process_that_fails_or_hangs_is_one_failed_part() -> None:
    assert gpu.verdict(python("print('well')"))["status"] == "passed"
    broken = gpu.verdict(python("raise ValueError('no device')"))
    assert (broken["status"], broken["reason"]) == ("failed", "ValueError: no device")
    assert "Traceback" in broken["output"]
    late = gpu.verdict(python("import time; time.sleep(60)", 0.5))
    assert late["status"] == "failed"
    assert late["reason"].startswith("cut off after")
    assert gpu.verdict(gpu.run(["/nowhere/python"], 5, {}))["status"] == "failed"


def done(output: str, rc: int = 0) -> dict[str, Any]:
    return {"rc": rc, "output": output, "seconds": 1.0, "timed_out": False}


def test_verdicts_on_tests() -> None:
    assert gpu.judged_tests(done("4 passed, 2 skipped in 1s"))["status"] == "passed"
    assert gpu.judged_tests(done("2 skipped in 1s"))["status"] == "failed"
    assert gpu.judged_tests(done("1 failed, 4 passed in 1s", 1))["reason"].startswith("1 failed")


def test_verdicts_on_the_sanitizer() -> None:
    clean = "2 passed in 1s\n========= ERROR SUMMARY: 0 errors"
    assert gpu.judged_sanitizer(done(clean)) | {"seconds": 0} == {
        "status": "passed",
        "reason": "========= ERROR SUMMARY: 0 errors",
        "seconds": 0,
        "output": "",
    }
    assert gpu.judged_sanitizer(done("ERROR SUMMARY: 3 errors", 86))["status"] == "failed"
    assert gpu.judged_sanitizer(done("Error: Device not supported", 255))["status"] == "skipped"


def test_arguments() -> None:
    options = gpu.parse(["--json", "x", "--parts", "gram,matmul", "--command", "bench/gpu.sh a"])
    assert options.parts == ["gram", "matmul"]
    assert options.command == ["bench/gpu.sh", "a"]
    with pytest.raises(argparse.ArgumentTypeError, match="speed: expected some of tests"):
        gpu.names("gram,speed")
    assert gpu.parse(["--json", "x", "--parts", "all"]).parts == [part.name for part in gpu.PARTS]
    usual = gpu.parse(["--json", "x"])
    assert sum(part.limit for part in gpu.PARTS if part.name in usual.parts) <= usual.seconds <= 400


@pytest.mark.parametrize("twice", [("--seconds", "9"), ("--parts", "gram")])
def test_no_option_counts_twice(twice: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.parse(["--json", "x", *twice, *twice])
    assert f"argument {twice[0]}: given twice" in capsys.readouterr().err


def test_the_table_has_forty_lines() -> None:
    many, parts = results(), {part.name: done_part(part.name) for part in gpu.PARTS}
    many["gram"] *= 20
    found = {"device": {}, "driver": "", "date": "now", "commit": "c" * 40, "emulated": True}
    text = gpu.final_table({**found, "parts": parts, "results": many}).splitlines()
    assert len(text) == gpu.LINES
    assert text[2].startswith("passed: tests, roofline")
    assert text[3] == "memcheck: skipped no compute-sanitizer"
    assert all(" NO" in line or " yes" in line for line in text[6:])


def done_part(name: str) -> dict[str, str]:
    if name == "memcheck":
        return {"status": "skipped", "reason": "no compute-sanitizer"}
    return {"status": "passed", "reason": "1 passed"}


def test_what_failed_before_and_what_has_no_time_left_count(tmp_path: Path) -> None:
    target = tmp_path / "gpu.json"
    options = ["--json", str(target), "--seconds", "1", "--parts", "gram", "--failed", "build"]
    found = gpu.everything(gpu.parse(options))
    assert found["parts"]["build"]["status"] == "failed"
    assert found["parts"]["gram"]["reason"] == "no time was left"
    assert json.loads(target.read_text())["parts"] == found["parts"]


def test_errors_of_libraries_say_what_is_missing() -> None:
    with pytest.raises(cuda_runtime.CudaError, match=r"no libnowhere\.so"):
        cuda_runtime.load(["libnowhere.so"])


# In eps, at ten layers: of strict products, of 2^-21 of a cosine, of 2^-10 of one.
LARGEST_ERROR = {"strict": 64, "3xtf32": 256, "tf32": 2**16}


# ---- the whole, with the host as the device ------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ntkfast._cuda_emulated") is None,
    reason="ntkfast._cuda_emulated is not built",
)
def test_everything_runs_where_the_host_plays_the_device(tmp_path: Path) -> None:
    target = tmp_path / "gpu.json"
    command = [sys.executable, "bench/gpu.py", "--emulated", "--quick", "--json", str(target)]
    command += ["--parts", "all", "--seconds", "540"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(target.read_text())
    assert (found["format"], found["emulated"]) == (1, True)
    assert "--emulated" in found["command"]
    assert found["date"][:2] == "20"
    assert set(found["parts"]) == {part.name for part in gpu.PARTS}
    skipped = {name for name, part in found["parts"].items() if part["status"] == "skipped"}
    assert skipped == {"memcheck", "racecheck"}
    assert set(found["results"]) == set(gpu.MEASURED)
    for rows in found["results"].values():
        assert rows
    precisions = {row["precision"] for row in found["results"]["gram"]}
    assert precisions == set(LARGEST_ERROR)
    for row in found["results"]["gram"]:
        assert row["largest_error_eps"] < LARGEST_ERROR[row["precision"]]
        assert row["times"]["product"]["runs"] >= 5
        assert row["times"]["depth 1, kernels"]["median"] > 0
        assert row["input"] == "on the device"
    assert ran.stdout.rstrip().endswith(gpu.final_table(found).rstrip())
    assert "no number below means anything" in ran.stdout
