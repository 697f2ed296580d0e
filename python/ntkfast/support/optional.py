"""Packages for automatic differentiation, which an installation may lack."""

from __future__ import annotations

from typing import Any


def import_torch() -> Any:
    """Return the module torch, or say how to install it."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("models in PyTorch need torch: pip install 'ntkfast[torch]'") from error
    return torch


def import_jax() -> Any:
    """Return the module jax, or say how to install it."""
    try:
        import jax
    except ImportError as error:
        raise ImportError("functions in JAX need jax: pip install 'ntkfast[jax]'") from error
    return jax
