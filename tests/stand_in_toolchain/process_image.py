"""The stand-in toolchain as a process image, for jobs that local_oci runs without Docker."""

import shlex
import sys
from pathlib import Path

from tests.stand_in_toolchain.image import install_stand_ins

_TRANSFER = Path(__file__).parents[2] / "engine" / "transfer.py"
# Where a container has the tools at /, a process has them below its image's directory. So the
# image's own python3 lets a build's plan name them there.
_PYTHON = """\
#!{python}
import json, os, sys

if sys.argv[1].endswith("/build.py"):
    with open(sys.argv[2]) as file:
        plan = json.load(file)
    for phase in plan["phases"]:
        found = ["{root}" + path for path in phase["program"]]
        phase["program"] = [
            there if os.path.exists(there) else path
            for there, path in zip(found, phase["program"])
        ]
    with open(sys.argv[2], "w") as file:
        json.dump(plan, file)
os.execv("{python}", ["{python}", *sys.argv[1:]])
"""


def stand_in_process_image(directory, release, row, **told):
    """Makes the image; `told` are variables that its tools shall have, such as STAND_IN_GPUS."""
    root = directory / "root"
    variables = install_stand_ins(release, row, root)
    variables["PATH"] = f"{directory}/bin:{root}/usr/local/bin:/usr/bin:/bin"
    lines = [f"export {name}={shlex.quote(text)}" for name, text in (variables | told).items()]
    transfer = shlex.join([sys.executable, str(_TRANSFER)])
    programs = {
        "falconry-job": "\n".join(["#!/bin/sh", *lines, f"exec {transfer}", ""]),
        "python3": _PYTHON.format(python=sys.executable, root=root),
    }
    for name, text in programs.items():
        path = directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    shown = (sys.prefix, sys.base_prefix, _TRANSFER, root)
    (directory / "mounts").write_text("".join(f"{path}\n" for path in shown))
    return directory
