"""Becomes docker-registry, which then ends with the cloud whatever ends that.

A program of its own (`-m local_oci.services.registry.child PARENT PROGRAM CONFIGURATION`): only
the process itself can ask the kernel to be killed with its parent, and docker-registry does not.
"""

from __future__ import annotations

import os
import signal
import sys

from local_oci.runtime.namespaces import set_parent_death_signal


def main(parent: int, program: str, configuration: str) -> None:
    """Run the program in this process's place, unless the parent is gone already."""
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    # No environment: variables named REGISTRY_... would override the configuration.
    os.execve(program, [program, "serve", configuration], {})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
