"""Runs commands of oci-cli one after another in one process. Run by test_oci_cli.py.

It runs in the environment of Oracle's tools. Nothing of the CLI is changed: each command goes
through its own entry point with its own argument list, and its modules are loaded once. The
argument is a file with a JSON object: `values` by names such as `@tenancy`, and `calls`, pairs of
a name, which may be empty, and an argument list. A name stands for its value, or for the output of
its call. The output is a JSON list of exit status, output and error.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from oci_cli import dynamic_loader
from oci_cli.cli import cli


def main() -> None:
    """Run the commands."""
    given = json.loads(Path(sys.argv[1]).read_text())
    results: list[dict[str, Any]] = []
    found: dict[str, str] = given["values"]
    for name, words in given["calls"]:
        result = run([found.get(word, word) for word in words])
        if name:
            found[name] = result["output"].strip().strip('"')
        results.append(result)
    print(json.dumps(results))


def run(words: list[str]) -> dict[str, Any]:
    """Run one command line."""
    output, error = io.StringIO(), io.StringIO()
    sys.argv = ["oci", *words]
    dynamic_loader.load_required_services_for_invocation()  # as `oci` does at its start
    status: Any = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        try:
            cli.main(words, "oci")
        except SystemExit as ended:
            status = ended.code or 0
        except Exception as failure:  # what would be a traceback
            status, _ = 1, error.write(repr(failure))
    return {"status": status, "output": output.getvalue(), "error": error.getvalue()}


if __name__ == "__main__":
    main()
