"""The file from which an interrupted solver goes on."""

from __future__ import annotations

import hashlib
import math
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import Values
from ntkfast.arrays.panels import panels
from ntkfast.batch.disk import sync_folder
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression.conjugate_gradients import State
from ntkfast.regression.solution import Entry
from ntkfast.regression.system import double
from ntkfast.support.files import appearing

MAGIC = "ntkfast solver checkpoint 2"
SHARE = 20  # writing waits until it costs a twentieth of the time
PROBED = 4  # rows whose kernel tells it from another
STATE = ("found", "residual", "directions", "images", "owners", "true", "best")
HISTORY = ("iteration", "seconds", "residuals", "exact", "validation")


@dataclass
class Kept:
    """The coefficients that did best on a validation set.

    Attributes
    ----------
    error : float
        Theirs.
    found : (n, c) array, optional
    bad : int
        Looks since then.
    """

    error: float = math.inf
    found: Values | None = None
    bad: int = 0


class Checkpoint:
    """A file with the state of an iteration; replaced as a whole, so that one is always complete.

    Parameters
    ----------
    path : path
    problem : str
        What `fingerprint` says of inputs, targets and ridge.
    probe : array
        The kernel of the first inputs, in place of a name for it.
    settings : str
        What else the steps depend on, not the solution: after a change of it work goes on from the
        coefficients alone.
    validated : str, default ""
        What `fingerprint` says of the validation set, whose best coefficients are of use for no
        other one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        problem: str,
        probe: NDArray[Any],
        settings: str,
        validated: str = "",
    ) -> None:
        self.path, self._validated = Path(path), validated
        self._problem, self._probe, self._settings = problem, probe, settings
        self._written, self._cost = -np.inf, 0.0

    def load(self) -> tuple[State, bool, Kept] | None:
        """Return the state, whether its settings are these, and what a validation set has kept.

        None if there is no file.

        Raises
        ------
        ValueError
            If the file is damaged, or of another problem.
        """
        try:
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                held = {name: file[name] for name in file.files}
            if str(held["magic"]) != MAGIC:
                raise KeyError("magic")
            rows = zip(*(held[f"history_{name}"] for name in HISTORY), strict=True)
            entries = tuple(Entry(int(i), float(s), r, bool(e), float(v)) for i, s, r, e, v in rows)
            state = State(
                **{name: held[name] for name in STATE},
                single=bool(held["single"]),
                stalls=int(held["stalls"]),
                history=entries,
            )
            kept = Kept(float(held["kept_error"]), held["kept_found"], int(held["kept_bad"]))
            if str(held["validated"]) != self._validated or not np.isfinite(kept.error):
                kept = Kept()
            problem, probe, settings = (held[name] for name in ("problem", "probe", "settings"))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(
                f"checkpoint: {self.path} is damaged or no checkpoint of this solver; remove it to "
                "start afresh"
            ) from error
        same = probe.shape == self._probe.shape and np.allclose(probe, self._probe, 1e-9, 0)
        if str(problem) != self._problem or not same:
            what = "kernel" if str(problem) == self._problem else "inputs, targets or ridge"
            raise ValueError(
                f"checkpoint: {self.path} belongs to another problem (other {what}); remove it or "
                "name another file"
            )
        return state, str(settings) == self._settings, kept

    def offer(self, state: State, kept: Kept) -> None:
        """Write the state, unless writing has taken too large a share of the time."""
        if time.perf_counter() - self._written > SHARE * self._cost:
            self.save(state, kept)

    def save(self, state: State, kept: Kept) -> None:
        """Write the state durably."""
        began = time.perf_counter()
        columns = zip(*(vars(entry).values() for entry in state.history), strict=True)
        history = dict(zip(HISTORY, map(np.array, columns), strict=False))
        empty = np.empty((0, len(state.true))), np.empty(0)
        arrays: dict[str, Any] = {name: getattr(state, name) for name in (*STATE, "single")}
        arrays |= {f"history_{n}": history.get(n, empty[n != "residuals"]) for n in HISTORY}
        arrays |= {"magic": MAGIC, "problem": self._problem, "settings": self._settings}
        arrays |= {"probe": self._probe, "stalls": state.stalls, "validated": self._validated}
        best = empty[1] if kept.found is None else kept.found
        arrays |= {"kept_error": kept.error, "kept_found": best, "kept_bad": kept.bad}
        with appearing(self.path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(Path(os.path.realpath(self.path)).parent)
        self._written = time.perf_counter()
        self._cost = self._written - began


def fingerprint(inputs: Any, B: NDArray[Any], ridge: float | Values) -> str:
    """Return a digest of what a system is, but for its kernel."""
    digest = hashlib.sha256(f"{inputs.dtype} {inputs.shape} {B.shape}".encode())
    for array in (*_arrays(inputs), B, np.atleast_1d(ridge)):
        for rows in panels(len(array), array[:1].nbytes):
            digest.update(np.ascontiguousarray(array[rows]).data)
    return digest.hexdigest()


def probe(evaluation: Evaluation, inputs: Any) -> NDArray[Any]:
    """Return the kernel of the first inputs."""
    return np.asarray(evaluation(double(inputs[:PROBED])))


def _arrays(inputs: Any) -> list[NDArray[Any]]:
    if isinstance(inputs, np.ndarray):
        return [inputs]
    if hasattr(inputs, "lengths"):  # sequences, which may lie in the memory of more of them
        return [inputs.lengths, *(inputs[i] for i in range(len(inputs)))]
    return [inputs.data]  # images
