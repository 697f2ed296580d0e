"""Runs the command line: ``python -m ntkfast``."""

import sys

from ntkfast.command import main

sys.exit(main())
