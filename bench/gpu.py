"""Runs the tests and all benchmarks of the CUDA engine on a device; the table comes last.

    python bench/gpu.py --json gpu.json                     # what fits 400 seconds
    python bench/gpu.py --parts all --seconds 900 --json gpu.json
    python bench/gpu.py --parts roofline,gram --json gpu.json
    python bench/gpu.py --emulated --quick --json FILE      # without a device: does it run?

`bench/gpu.sh` builds the package for the device first. Every part is a process of its own with a
limit of time; what fails or is cut off leaves the others alone, and the exit status is 1 if one
did. With --emulated the host plays the device (``ntkfast._cuda_emulated``) and no number means
anything.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import gpu_report as report
from cuda_runtime import package_folders

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FORMAT = 1  # of the JSON file
EMULATED = "ntkfast._cuda_emulated"

DEVICE_TESTS = (
    "tests/test_cuda_device.py",
    "tests/test_device_arrays.py",
    "tests/test_device_calls.py",
    "tests/test_device_gradients.py",
    "tests/test_device_libraries.py",
    "tests/test_device_products.py",
    "tests/test_device_solvers.py",
)
ORACLE_TESTS = ("tests/test_zonal.py", "tests/test_layers.py", "tests/test_near_duplicates.py")
SANITIZED = (
    "fwht_in_chunks or test_both or many_layers or outside_shared or (test_rows and profile)"
    " or (test_symmetric_vjp and profile) or (test_jvp and layers)"
    " or (test_matmul and profile-8) or test_large_tiles"  # of all products, on tensor cores too
    " or (test_symmetric and profile-70) or (numbers_of_layers and branches)"
)
MEMORY_ERROR = 86  # the exit status that compute-sanitizer is asked for


class Part(NamedTuple):
    """A part of the run and the most seconds it may take."""

    name: str
    limit: float


# What is cut off when time is up stands last; the first seven are those that are run by default.
PARTS = (
    Part("tests", 110),
    Part("roofline", 25),
    Part("gram", 85),
    Part("matmul", 45),
    Part("memcheck", 55),
    Part("racecheck", 55),
    Part("fwht", 20),
    Part("images", 40),
    Part("sequences", 40),
    Part("features", 40),
    Part("peers", 90),
    Part("oracle", 120),
)
DEFAULT = tuple(part.name for part in PARTS[:7])
SECONDS = 400.0
LINES = 40  # of the table
MEASURED = ("roofline", "gram", "matmul", "fwht", "features", "sequences", "images", "peers")

Outcome = dict[str, Any]


# ---- processes -----------------------------------------------------------------------------------


def run(command: Sequence[str], limit: float, environment: Mapping[str, str]) -> Outcome:
    """Run a command in the repository, with all its children, for so many seconds at most."""
    start = time.perf_counter()
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return {"rc": None, "seconds": 0.0, "output": str(error), "timed_out": False}
    late = False
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    seconds = time.perf_counter() - start
    return {"rc": process.returncode, "seconds": seconds, "output": output, "timed_out": late}


def verdict(done: Outcome, reason: str = "") -> Outcome:
    """Return what the table and the file say of a process that has ended."""
    if done["timed_out"]:
        status, reason = "failed", f"cut off after {done['seconds']:.0f} s"
    elif done["rc"] == 0:
        status = "passed"
    else:
        status, reason = "failed", reason or last_line(done["output"]) or f"exit {done['rc']}"
    tail = "" if status == "passed" else "\n".join(done["output"].splitlines()[-40:])
    seconds = round(done["seconds"], 1)
    return {"status": status, "reason": reason, "seconds": seconds, "output": tail}


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def skipped(reason: str) -> Outcome:
    """Return what is said of a part that cannot be here."""
    return {"status": "skipped", "reason": reason, "seconds": 0.0, "output": ""}


# ---- parts ---------------------------------------------------------------------------------------


def pytest_command(tests: Sequence[str], expression: str) -> list[str]:
    """Return the command that runs some tests."""
    # What other packages bring is left out, see environment; this one is what the settings name.
    options = ["-q", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-k", expression]
    return [sys.executable, "-m", "pytest", *options, *tests]


def tests(limit: float, options: argparse.Namespace) -> Outcome:
    """Run the tests of the engine, on the device or emulated."""
    expression = "device and not emulated"  # the first word is in the names of files as well
    if options.emulated:
        expression = "emulated and test_both" if options.quick else "emulated"
    return judged_tests(run(pytest_command(DEVICE_TESTS, expression), limit, environment(options)))


def oracle(limit: float, options: argparse.Namespace) -> Outcome:
    """Run the tests against high precision that take any engine."""
    expression = "cuda and float32 and test_zonal" if options.quick else "cuda"
    return judged_tests(run(pytest_command(ORACLE_TESTS, expression), limit, environment(options)))


def judged_tests(done: Outcome) -> Outcome:
    """Return the verdict on a run of pytest, which failed too if no test ran."""
    counts = last_line(done["output"])
    found = verdict(done, counts)
    if found["status"] == "passed":
        found["reason"] = re.sub(r"\x1b\[[\d;]*m", "", counts)
        if " passed" not in f" {counts}":
            found |= {"status": "failed", "reason": f"no test ran: {found['reason']}"}
    return found


def sanitizer() -> str | None:
    """Return compute-sanitizer: on the path, of the toolkit, or of the package index."""
    homes = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin")]
    homes += [folder.parent / "bin" for folder in package_folders()]
    found = shutil.which("compute-sanitizer")
    return found or shutil.which("compute-sanitizer", path=os.pathsep.join(map(str, homes)))


def sanitize(tool: str, limit: float, options: argparse.Namespace) -> Outcome:
    """Run a few tests under a tool of compute-sanitizer."""
    program = sanitizer()
    if options.emulated or program is None:
        return skipped("the host plays the device" if options.emulated else "no compute-sanitizer")
    command = [program, "--tool", tool, "--error-exitcode", str(MEMORY_ERROR)]
    expression = f"device and not emulated and not float64 and ({SANITIZED})"
    command += [*pytest_command(DEVICE_TESTS, expression), "--timeout", "0"]
    return judged_sanitizer(run(command, limit, environment(options)))


def judged_sanitizer(done: Outcome) -> Outcome:
    """Return the verdict on a run under compute-sanitizer, which does not take every machine."""
    if "Device not supported" in done["output"]:
        return skipped("compute-sanitizer does not support this machine")
    summaries = [line for line in done["output"].splitlines() if "SUMMARY" in line]
    found = verdict(done, last_line("\n".join(summaries)))
    return found | ({} if found["reason"] else {"reason": last_line("\n".join(summaries))})


def measure(name: str, limit: float, options: argparse.Namespace) -> tuple[Outcome, dict[str, Any]]:
    """Measure a section, and read what it had written when it ended."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"{name}.json")
        asked = {"quick": options.quick, "emulated": options.emulated, "seconds": 0.8 * limit}
        asked["peers_python"] = str(options.peers_python or sys.executable)
        command = [sys.executable, str(HERE / "gpu_sections.py"), name, str(target)]
        done = run([*command, json.dumps(asked)], limit, environment(options))
        found = json.loads(target.read_text()) if target.exists() else {"rows": []}
    return verdict(done), found


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment of a part."""
    changed = {"NTKFAST_CUDA_MODULE": EMULATED} if options.emulated else {}
    fixed = {"PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    return {**os.environ, **fixed, **changed}


# ---- facts ---------------------------------------------------------------------------------------


def text_of(*command: str) -> str:
    """Return what a command prints, or nothing if it cannot."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """Return the commit of this tree, with a plus sign if it was changed."""
    found = text_of("git", "rev-parse", "HEAD")
    changed = text_of("git", "status", "--porcelain", "--untracked-files=no")
    return found + "+" * bool(changed) if found else os.environ.get("NTKFAST_COMMIT", "unknown")


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of packages that are there."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """Return when, where and of what these numbers are."""
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit"
    nvcc = os.environ.get("CUDACXX") or "nvcc"
    return {
        "format": FORMAT,
        "emulated": options.emulated,
        "quick": options.quick,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": shlex.join(options.command),
        "nvidia_smi": text_of("nvidia-smi", query, "--format=csv,noheader"),
        "driver": text_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": next(iter(re.findall(r"release .*", text_of(nvcc, "--version"))), ""),
        "machine": {"processors": os.cpu_count(), "platform": platform.platform()},
        "versions": {"python": platform.python_version()}
        | versions(("ntkfast", "numpy", "torch", "jax", "neural-tangents", "pykeops")),
        "device": {},
        "parts": {},
        "results": {},
    }


# ---- the whole -----------------------------------------------------------------------------------


def perform(
    part: Part, limit: float, options: argparse.Namespace, found: dict[str, Any]
) -> Outcome:
    """Perform one part, and put its numbers where they belong."""
    if part.name in MEASURED:
        outcome, measured = measure(part.name, limit, options)
        found["results"][part.name] = measured["rows"]
        found["device"] = found["device"] or measured.get("device", {})
        return outcome
    if part.name in ("memcheck", "racecheck"):
        return sanitize(part.name, limit, options)
    return (tests if part.name == "tests" else oracle)(limit, options)


def everything(options: argparse.Namespace) -> dict[str, Any]:
    """Perform the parts that were asked for, while there is time, and save after each."""
    found, end = facts(options), time.monotonic() + options.seconds - options.spent
    for name in options.failed:
        found["parts"][name] = {"status": "failed", "reason": "before this", "seconds": 0.0}
    for part in PARTS:
        if part.name not in options.parts:
            continue
        limit = min(part.limit, end - time.monotonic())
        print(f"-- {part.name}, {limit:.0f} s at most", flush=True)
        outcome = {"status": "failed", "reason": "no time was left", "seconds": 0.0, "output": ""}
        if limit > 5:
            outcome = perform(part, limit, options, found)
        found["parts"][part.name] = outcome
        print("\n".join(filter(None, (outcome["output"], f"   {status_of(outcome)}"))), flush=True)
        found["summary"] = [line._asdict() for line in report.lines(found["results"])]
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


def status_of(outcome: Outcome) -> str:
    """Return the status of a part with its reason."""
    return f"{outcome['status']} {outcome['reason']}".strip()


def final_table(found: Mapping[str, Any]) -> str:
    """Return what is printed last: the parts, then the numbers."""
    device = found["device"].get("device", "no device")
    head = f"{device}, driver {found['driver'] or 'none'}, {found['date']}, {found['commit'][:12]}"
    if found["emulated"]:
        head += "\nTHE HOST PLAYED THE DEVICE: no number below means anything"
    passed = [name for name, part in found["parts"].items() if part["status"] == "passed"]
    others = {name: part for name, part in found["parts"].items() if name not in passed}
    above = [*head.splitlines(), f"passed: {', '.join(passed) or 'nothing'}"]
    above += [f"{name}: {status_of(part)}"[:200] for name, part in others.items()]
    rows = report.most_telling(report.lines(found["results"]), LINES - len(above) - 2)
    return "\n".join([*above, "", report.table(rows)])


def names(text: str) -> list[str]:
    """Read names of parts, separated by commas."""
    known = [part.name for part in PARTS]
    chosen = known if text == "all" else text.split(",")
    if unknown := set(chosen) - set(known):
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)}: expected some of {','.join(known)}"
        )
    return chosen


class Once(argparse.Action):
    """Store a value, and refuse a second one: the last would count without a word."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store it under its name."""
        given = namespace.__dict__.setdefault("given", set())
        if self.dest in given:
            parser.error(f"argument {option_string}: given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.register("action", None, Once)
    known, usual = (",".join(names) for names in ([part.name for part in PARTS], DEFAULT))
    add = parser.add_argument
    add("--json", type=Path, required=True, help="where to write all numbers")
    add("--parts", type=names, default=DEFAULT, help=f"all, or some of {known}; default: {usual}")
    add("--seconds", type=float, default=SECONDS, help=f"for everything (default: {SECONDS:g})")
    add("--spent", type=float, default=0.0, help="of these, before this was started")
    add("--quick", action="store_true", help="tiny sizes: does it run?")
    add("--emulated", action="store_true", help="the host plays the device")
    add("--peers-python", type=Path, help="interpreter with neural-tangents and PyKeOps")
    add("--failed", nargs="*", default=[], help="what failed before, for the table and the status")
    add("--command", dest="command", type=shlex.split, help="the command to record")
    options = parser.parse_args(arguments)
    options.command = options.command or ["python", *sys.argv]
    return options


def main() -> int:
    """Run, and print the table last."""
    options = parse()
    found = everything(options)
    print(f"\n{final_table(found)}", flush=True)
    return int(any(part["status"] == "failed" for part in found["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
