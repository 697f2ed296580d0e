"""The package as users get it: files, version, what it loads, symbols, stubs, and the README."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ntkfast

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HAS_CORE = importlib.util.find_spec("ntkfast._core") is not None
needs_core = pytest.mark.skipif(not HAS_CORE, reason="installed without the native engine")

# What `import ntkfast` may load beyond NumPy: its time goes with the number of modules.
MODULES = {"of the package": 77, "of others": 40}
PACKAGES = {"ntkfast", "numpy", "threadpoolctl", *sys.stdlib_module_names}


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests"
    )
    return result.stdout


# --- What is installed ---------------------------------------------------------------------------


def is_editable() -> bool:
    text = importlib.metadata.distribution("ntkfast").read_text("direct_url.json")
    return bool(json.loads(text or "{}").get("dir_info", {}).get("editable", False))


def test_wheel_content() -> None:
    if is_editable():
        pytest.skip("an editable install leaves the files where they are")
    installed = {str(file) for file in importlib.metadata.files("ntkfast") or []}
    in_package = {file for file in installed if file.startswith("ntkfast/")}
    source = {
        path.relative_to(ROOT / "python").as_posix()
        for path in (ROOT / "python" / "ntkfast").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    compiled = {file for file in in_package if re.search(r"_core\..*(so|pyd)$", file)}
    assert {file for file in in_package if "__pycache__" not in file} == source | compiled
    assert len(compiled) == HAS_CORE
    assert "ntkfast/py.typed" in source
    assert any(file.endswith("licenses/LICENSE") for file in installed)


def test_wheel_kind_says_whether_the_engine_is_inside() -> None:
    text = importlib.metadata.distribution("ntkfast").read_text("WHEEL")
    assert text is not None
    assert ("Tag: py3-none-any" in text) == (not HAS_CORE)
    assert ("Root-Is-Purelib: true" in text) == (not HAS_CORE)


def test_one_version_everywhere() -> None:
    version = ntkfast.__version__
    assert version == importlib.metadata.version("ntkfast")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert newest[1] == version


def test_command_line_entry_point() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="ntkfast")
    assert callable(entry.load())


# --- Import --------------------------------------------------------------------------------------


def test_import_is_lean() -> None:
    code = "import sys, numpy; had = {*sys.modules}; import ntkfast; print(*{*sys.modules} - had)"
    loaded = [name.partition(".")[0] for name in run_python(code).split()]
    assert set(loaded) <= PACKAGES
    own = loaded.count("ntkfast")
    assert own <= MODULES["of the package"]
    assert len(loaded) - own <= MODULES["of others"]


EXTRAS = "dask features gpytorch jax sklearn torch".split()


def test_public_names() -> None:
    assert list(ntkfast.__all__) == sorted(set(ntkfast.__all__), key=ntkfast.__all__.index)
    for name in ntkfast.__all__:
        assert getattr(ntkfast, name).__doc__, name
    pytest.importorskip("sklearn")
    assert set(dir(ntkfast)) == {*ntkfast.__all__, *EXTRAS}


PARTS = "batch datasets features finite plot regression sklearn spectrum statistics".split()


@pytest.mark.parametrize("part", [*PARTS, "statistics.penalties", "statistics.rkhs_norm"])
def test_public_names_of_the_parts(part: str) -> None:
    if part in ("features", "regression", "sklearn"):
        pytest.importorskip("sklearn")
    module = importlib.import_module(f"ntkfast.{part}")
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
        # A function must not hide a module of its own name.
        found = importlib.util.find_spec(f"ntkfast.{part}.{name}") if is_package(module) else None
        assert found is None or getattr(module, name).__name__ == f"ntkfast.{part}.{name}"


def is_package(module: Any) -> bool:
    return hasattr(module, "__path__")


def test_star_import_needs_no_extra() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None; from ntkfast import *; print(spectrum.mercer)"
    )
    assert "mercer" in run_python(code)


# --- The compiled module -------------------------------------------------------------------------


def compiler() -> str:
    command = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if command is None or shutil.which("nm") is None:
        pytest.skip("needs a C++ compiler and nm")
    return command


def exported_symbols(object_file: Path) -> set[str]:
    """Symbols of an object that the linker can see from other objects, weak ones included."""
    lines = subprocess.run(
        ["nm", "--extern-only", "--defined-only", object_file],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {line.split()[-1].removeprefix("_") for line in lines if line.strip()}


# What is weak and what is not is the same for all sets; the widest has the most to lose.
INSTRUCTION_SETS = [("baseline", [])]
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS = [("x86_64_v4", ["-march=x86-64-v4"])]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nm reads ELF and Mach-O objects")
@pytest.mark.parametrize(("isa", "flags"), INSTRUCTION_SETS)
def test_object_exports_one_symbol(isa: str, flags: list[str], tmp_path: Path) -> None:
    # The linker keeps one copy of a weak symbol for the whole module. Were it the AVX-512 copy,
    # older processors would stop with an illegal instruction. Without optimisation every inline
    # function the code calls is emitted, so nothing hides by being inlined.
    object_file = tmp_path / "isa.o"
    options = ["-std=c++20", "-fPIC", "-fno-exceptions", "-w", "-O0", *flags]
    files = ["-I", ROOT / "csrc", "-c", ROOT / "csrc" / "cpu" / "isa.cpp", "-o", object_file]
    subprocess.run([compiler(), *options, f"-DNTK_ISA={isa}", *files], check=True)
    assert exported_symbols(object_file) == {f"ntk_tiles_{isa}"}


@needs_core
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads an ELF dynamic table")
def test_module_exports_nothing_of_the_engine() -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    import ntkfast._core as core

    lines = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--extern-only", str(core.__file__)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    names = {line.split()[-1].partition("@")[0] for line in lines}
    # The marker is what threadpoolctl finds the module by. Other packages' symbols stay apart from
    # ours only if nothing else leaves the module.
    assert {name for name in names if "ntk" in name.lower()} == {"ntkfast_marker"}
    assert "PyInit__core" in names


def declared(node: ast.AST) -> dict[str, Any]:
    """Names a stub declares, each with the names of its members."""
    names: dict[str, Any] = {}
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            names[child.name] = {}
        elif isinstance(child, ast.ClassDef):
            names[child.name] = declared(child)
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            names[child.target.id] = {}
    return {name: members for name, members in names.items() if not name.startswith("_")}


@needs_core
def test_stub_declares_what_the_module_has() -> None:
    import ntkfast._core as core

    stub = ast.parse((ROOT / "python/ntkfast/_core.pyi").read_text(encoding="utf-8"))
    names = declared(stub)
    assert set(names) == {name for name in vars(core) if not name.startswith("_")}
    for name, members in names.items():
        for member in members:
            assert hasattr(getattr(core, name), member), f"{name}.{member}"


def reexported(stub: ast.AST) -> set[str]:
    """Names that a stub passes on."""
    imports = [node for node in ast.iter_child_nodes(stub) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names if alias.asname == alias.name}


def signature(module: Any, name: str) -> str:
    """Return what pybind11 says of the arguments of a function or a constructor."""
    found = getattr(module, name)
    text = (found.__init__ if isinstance(found, type) else found).__doc__ or ""
    return text.replace(module.__name__, "ntkfast._core")


@needs_core
@pytest.mark.parametrize("module", ["_cuda", "_cuda_emulated"])
def test_cuda_stub_passes_on_what_is_the_same(module: str) -> None:
    # stubtest looks at what a stub declares, and not at what it takes from another one.
    import ntkfast._core as core

    cuda = pytest.importorskip(f"ntkfast.{module}", exc_type=ImportError)
    stub = ast.parse((ROOT / "python/ntkfast/_cuda.pyi").read_text(encoding="utf-8"))
    same = reexported(stub)
    assert same | set(declared(stub)) == {name for name in vars(cuda) if not name.startswith("_")}
    for name in same:
        assert signature(cuda, name) == signature(core, name), name


# --- The README ----------------------------------------------------------------------------------


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_readme_starts_with_two_commands() -> None:
    demo, tests = (block.strip() for block in code_blocks("sh")[:2])
    assert demo.endswith("&& ntkfast demo")
    assert tests.endswith("&& python -m pytest -n auto")
    assert "\n" not in demo + tests
    extras = importlib.metadata.metadata("ntkfast").get_all("Provides-Extra") or []
    used = [re.findall(r'"\.\[(.*?)\]"', command)[0].split(",") for command in (demo, tests)]
    assert {"cli", "test"} <= {*used[0], *used[1]} <= set(extras)


def test_readme_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    monkeypatch.chdir(tmp_path)  # they write files
    namespace: dict[str, Any] = {}
    for block in code_blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["K"].shape == (500, 500)
    assert namespace["C"].shape == (500, 300)
    assert namespace["b"].shape == (500, 2)


def test_readme_names_existing_files() -> None:
    names = re.findall(r"`((?:docs/|bench/)?[\w-]+\.(?:md|cff|py))`", README)
    assert len(names) >= 4
    for name in names:
        assert (ROOT / name).is_file(), name
