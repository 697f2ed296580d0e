"""The version of the package: the only place where it is written down."""

__version__ = "0.2.0"
