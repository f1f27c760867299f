"""The set-up makes both packages importable from any directory."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORIGIN = "import falconry, local_oci; print(falconry.__file__, local_oci.__file__, sep='\\n')"


def test_the_environment_imports_the_checkout_from_any_directory():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", ORIGIN],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # The checkout that made the environment, which a linked .venv leads to.
    made_by = (ROOT / ".venv").resolve().parent
    assert done.stdout.splitlines() == [
        str(made_by / package / "__init__.py") for package in ("falconry", "local_oci")
    ]
