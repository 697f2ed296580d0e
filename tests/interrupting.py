"""Control-C in a process of its own, for tests of what it stops and what works afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time


def assert_interrupted(script: str, *, within: float = 30.0) -> None:
    """Interrupt a script that prints "ready", and then "interrupted True" where all is well."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready", process.communicate()[1]
        time.sleep(0.8)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert out.strip() == "interrupted True", (out, err)
        assert time.monotonic() - start < within
    finally:
        process.kill()
        process.wait()
