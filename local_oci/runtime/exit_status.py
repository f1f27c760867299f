"""What an exit status says, in words."""

from __future__ import annotations

import signal

_SIGNALLED = 128  # shells and Docker add the number of the signal to it


def describe_exit(status: int) -> str:
    """How a container ended, as in "exited with status 3" or "was killed by SIGKILL"."""
    if status > _SIGNALLED:
        try:
            return f"was killed by {signal.Signals(status - _SIGNALLED).name}"
        except ValueError:
            pass
    return f"exited with status {status}"
