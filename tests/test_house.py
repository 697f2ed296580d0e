"""The plan of the house: rooms, floors, and what may not cross them, read from the imports.

A room may import rooms on lower floors only; within a room files may not import each other in a
circle. ``CONTRIBUTING.md`` has the picture.
"""

from __future__ import annotations

import ast
import graphlib
from functools import cache
from pathlib import Path

import ntkfast

PACKAGE = Path(ntkfast.__file__).parent
ROOT = Path(__file__).parents[1]

# From the ground up. Rooms of one floor do not know each other.
FLOORS = (
    ("_version", "_core", "_cuda", "datasets", "support"),
    ("arrays",),
    ("engines",),
    ("activations", "places", "preprocessing"),
    ("kernels",),
    ("networks",),
    ("spectrum", "finite", "batch"),
    ("dask", "features", "statistics", "sklearn", "torch", "jax"),
    ("regression", "gpytorch"),
    ("plot",),
    ("command",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

LINES = {".py": 450, ".cpp": 400, ".hpp": 400, ".cu": 400, ".cuh": 400}
# Longer files say why in their first lines.
REASON = "Longer than the others because"


@cache
def modules() -> dict[str, Path]:
    """Return the files of the package by their names; a package stands for its ``__init__``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    del found[""], found["__main__"]  # the front doors
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """Return the modules of the package that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: expected absolute imports"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    ours = {full.removeprefix("ntkfast.") for full in found if full.startswith("ntkfast.")}
    exact = {one for one in ours if one in modules()}
    # `from ntkfast.kernels.base import Kernel` is no import of the package's face.
    return frozenset(one for one in exact if not any(o.startswith(f"{one}.") for o in exact))


def room(name: str) -> str:
    return name.split(".")[0]


def test_imports_run_downwards() -> None:
    upwards = [
        f"{name} imports {other}"
        for name in modules()
        for other in imports(name)
        if room(other) != room(name) and FLOOR[room(other)] >= FLOOR[room(name)]
    ]
    assert not upwards


def test_no_circles() -> None:
    faces = {name for name, path in modules().items() if path.name == "__init__.py"}
    graph = {name: imports(name) - faces for name in modules() if name not in faces}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in modules()} <= set(FLOOR)


def test_private_names_stay_in_their_room() -> None:
    taken = [
        f"{name} takes {alias.name} from {node.module}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ntkfast.")
        if room(str(node.module).removeprefix("ntkfast.")) != room(name)
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not taken


def test_no_module_is_hidden_by_a_name() -> None:
    """What a package exports must not have the name of one of its modules."""
    for name, path in modules().items():
        if path.name != "__init__.py":
            continue
        exported = {
            alias.asname or alias.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom) and node.module != f"ntkfast.{name}"
            for alias in node.names
        }
        inside = {one.rpartition(".")[2] for one in modules() if one.rpartition(".")[0] == name}
        assert not exported & inside, name


def test_device_arrays_are_known_in_one_room() -> None:
    for name, path in modules().items():
        text = path.read_text()
        known = [word for word in ("DeviceArray", "lies_on_device") if word in text]
        assert room(name) == "places" or not known, f"{name}: {known}"


def test_files_are_short() -> None:
    csrc = ROOT / "csrc"
    found = [*PACKAGE.rglob("*.py"), *csrc.rglob("*.*pp"), *csrc.rglob("*.cu*")]
    long = [
        f"{path}: {len(lines)} lines"
        for path in found
        if csrc / "tests" not in path.parents
        and len(lines := path.read_text().splitlines()) > LINES[path.suffix]
        and not any(REASON in line for line in lines[:20])
    ]
    assert not long


def test_inlined_functions_store_nothing() -> None:
    """Numba may drop their stores: see `inlined`. Those that `overload` returns are bare."""
    for name, path in modules().items():
        text = path.read_text()
        if not name.startswith("engines.numba."):
            continue
        for function in (one for one in ast.parse(text).body if isinstance(one, ast.FunctionDef)):
            decorators = [ast.unparse(one) for one in function.decorator_list]
            if "inlined" in decorators or (not decorators and "@overload" in text):
                stores = [one for one in ast.walk(function) if isinstance(one, ast.Subscript)]
                assert all(isinstance(one.ctx, ast.Load) for one in stores), (
                    f"{name}: {function.name}"
                )
