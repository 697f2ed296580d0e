"""The reference in docs/api.md has every public name, the guide every activation."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ntkfast as nf

ROOT = Path(__file__).parents[1]
MODULES = (
    "activations",
    "batch",
    "datasets",
    "finite",
    "plot",
    "preprocessing",
    "spectrum",
    "statistics",
)
OTHERS = ("dask", "torch", "gpytorch", "jax")
NEED_SKLEARN = ("features", "regression", "sklearn")
# An entry of a list of names, or a name in double backquotes.
ENTRIES = re.compile(r"^   ([\w.]+)$|``([\w.]+)``", re.MULTILINE)


def public_names(module: ModuleType) -> Iterator[str]:
    """Yield the names that a module offers; of a module among them, its own."""
    for name in getattr(module, "__all__", None) or defined_in(module):
        value = getattr(module, name)
        if not inspect.ismodule(value):
            yield name
        elif module is not nf:
            yield from (f"{name}.{inner}" for inner in public_names(value))


def defined_in(module: ModuleType) -> list[str]:
    """Return the public functions and classes of a module without ``__all__``."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def missing(prefix: str, module: ModuleType) -> list[str]:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    entries = {name for pair in ENTRIES.findall(text) for name in pair}
    return [name for name in public_names(module) if prefix + name not in entries]


def test_the_package_is_in_the_reference() -> None:
    assert missing("", nf) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_in_the_reference(name: str) -> None:
    assert missing(f"{name}.", importlib.import_module(f"ntkfast.{name}")) == []


@pytest.mark.parametrize("name", OTHERS)
def test_a_module_for_another_library_is_in_the_reference(name: str) -> None:
    pytest.importorskip(name)
    assert missing(f"{name}.", importlib.import_module(f"ntkfast.{name}")) == []


@pytest.mark.parametrize("name", NEED_SKLEARN)
def test_a_module_with_scikit_learn_is_in_the_reference(name: str) -> None:
    pytest.importorskip("sklearn")
    assert missing(f"{name}.", importlib.import_module(f"ntkfast.{name}")) == []


def test_all_public_modules_are_looked_at() -> None:
    modules = {name for name in nf.__all__ if inspect.ismodule(getattr(nf, name))}
    assert modules <= {*MODULES, *NEED_SKLEARN}


def test_all_names_of_activations_are_in_the_guide() -> None:
    guide = (ROOT / "docs" / "guide" / "activations.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="expected one of") as error:
        nf.Activation("no such activation")
    names = str(error.value).split("expected one of ")[1].split(", got")[0].split(", ")
    assert len(names) > 20
    assert [name for name in names if not re.search(rf"`{name}\b", guide)] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_files_that_a_document_names_are_there(document: str) -> None:
    """Paths from the root, and those of modules from the folder of the package."""
    text = (ROOT / document).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:docs|tests|bench|examples)/[\w./-]+|[a-z]+/[\w/]+\.py)`", text)
    roots = (ROOT, ROOT / "python", ROOT / "python" / "ntkfast")
    assert paths
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []
