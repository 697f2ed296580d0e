"""Makes the package known to threadpoolctl, so that its limits hold for the native engine too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ntkfast._version import __version__
from ntkfast.engines import threads

if TYPE_CHECKING:
    LibController = object
else:
    try:
        from threadpoolctl import LibController
    except ImportError:  # threadpoolctl is optional
        LibController = object


class NtkfastController(LibController):
    """How threadpoolctl finds the extension and what its number of threads means."""

    user_api = "ntkfast"
    internal_api = "ntkfast"
    filename_prefixes = ("_core",)
    check_symbols = ("ntkfast_marker",)  # other packages have a module _core as well

    def get_num_threads(self) -> int:
        """Return the number of threads of calls of the process, which it sets again in the end.

        Limits of the current thread or task are none of its business: put back, they would stay.
        """
        return threads.process_threads()

    def set_num_threads(self, num_threads: int) -> None:
        """Set the number of threads of calls."""
        threads.restore_num_threads(num_threads)

    def get_version(self) -> str:
        """Return the version of the package."""
        return __version__

    def set_additional_attributes(self) -> None:
        """Do nothing: there are no others."""


def register() -> None:
    """Register the controller if threadpoolctl is installed."""
    if LibController is not object:
        from threadpoolctl import register as register_controller

        register_controller(NtkfastController)
