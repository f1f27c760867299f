"""Debian's packages, for tests that need one more program."""

import os
import shutil
import subprocess

# Another run of the tests may be installing just now.
_PATIENCE = ("-o", "DPkg::Lock::Timeout=300")


def install(package):
    """Installs a package, if this machine has apt-get; whoever asks looks whether it worked."""
    if not shutil.which("apt-get"):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
        subprocess.run(
            ["apt-get", "-qq", *_PATIENCE, *command],
            env=environment,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
