"""The stand-in toolchain as a process image, for jobs that local_oci runs without Docker."""

import sys
from pathlib import Path

from tests.stand_in_toolchain.image import install_stand_ins

_TRANSFER = Path(__file__).parents[2] / "engine" / "transfer.py"
# Where a container has the tools at /, a process has them below its image's directory. So the
# image's own python3 finds the checkout's transfer program, gives it the image's variables, and
# lets a build's plan name the tools where they are.
_PYTHON = """\
#!{python} -S
import json, os, sys

words = sys.argv[1:]
if words[0] == "/falconry-job/transfer.py":
    words[0] = {transfer!r}
    os.environ.update({variables!r})
elif words[0].endswith("/build.py"):
    with open(words[1]) as file:
        plan = json.load(file)
    for phase in plan["phases"]:
        found = ["{root}" + path for path in phase["program"]]
        phase["program"] = [
            there if os.path.exists(there) else path
            for there, path in zip(found, phase["program"])
        ]
    with open(words[1], "w") as file:
        json.dump(plan, file)
os.execv("{python}", ["{python}", *words])
"""


def stand_in_process_image(directory, release, row, **told):
    """Makes the image; `told` are variables that its tools shall have, such as STAND_IN_GPUS."""
    root = directory / "root"
    variables = install_stand_ins(release, row, root) | told
    variables["PATH"] = f"{directory}/bin:{root}/usr/local/bin:/usr/bin:/bin"
    program = directory / "bin" / "python3"
    program.parent.mkdir(exist_ok=True)
    names = {"python": sys.executable, "root": root, "transfer": str(_TRANSFER)}
    program.write_text(_PYTHON.format(**names, variables=variables))
    program.chmod(0o755)
    shown = (sys.prefix, sys.base_prefix, _TRANSFER, root)
    (directory / "mounts").write_text("".join(f"{path}\n" for path in shown))
    return directory
