"""Debian's packages, for tests that need one more program."""

import os
import shutil
import subprocess


def install(package):
    """Installs a package, if this machine has apt-get; whoever asks looks whether it worked."""
    if not shutil.which("apt-get"):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
        subprocess.run(
            ["apt-get", "-qq", *command],
            env=environment,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
