"""Stand-ins for the images that servers are composed from: the directories of NVIDIA's, no server.

Both have this machine's Python and a shell. Nothing in them is NVIDIA's.
"""

import shutil
from pathlib import Path

from falconry.image.compose import BaseImages
from tests.stand_in_toolchain.image import python_image, shared_libraries

# STAND-IN for tritonserver: says what it sees of its image and ends.
TRITONSERVER = """\
#!/usr/bin/python3
import json, os, sys
parts = {kind: sorted(os.listdir(f"/opt/tritonserver/{kind}"))
         for kind in ("backends", "repoagents", "caches", "lib") if os.path.isdir(kind)}
print(json.dumps({"parts": parts, "arguments": sys.argv[1:], "user": os.getuid(),
                  "group": os.getgid(), "top": sorted(os.listdir("."))}))
"""
# STAND-IN for a tool of the minimum image: notes how it was called.
NOTING_TOOL = """\
#!/usr/bin/python3
import sys
open("/called", "a").write(" ".join(sys.argv).rpartition("/")[2] + "\\n")
"""
# STAND-INS for two modules of its Python: an environment that is the same Python, and a package
# that says how it was asked for.
VENV = """\
import os, sys
os.makedirs(f"{sys.argv[1]}/bin")
os.makedirs(f"{sys.argv[1]}/lib")
os.symlink("/usr/bin/python3", f"{sys.argv[1]}/bin/python")
"""
PIP = """\
import os, sys
if "--root" in sys.argv:
    os.makedirs("/python/usr/local/lib/packages")
    open("/python/usr/local/lib/packages/installed", "w").write(sys.argv[-1])
"""
# STAND-INS for what the preflight runs in an image.
CURL = """\
#!/usr/bin/python3
print("curl 0.0.0 (stand-in)")
"""
ID = """\
#!/usr/bin/python3
import os
print(os.getuid())
"""


def stand_in_images(client, build, composable):
    """The two images of a release.

    Args:
        client: a docker.DockerClient.
        build: builds an image from a Dockerfile's text and files, (content, mode) by path; gives
            its tag.
        composable: the release's parts.
    """
    base, shell = python_image(client), _host_files("sh", "cp", "mkdir", "rm")
    parts = {f"root/opt/tritonserver/{name}": (b"", 0o644) for name in ("LICENSE", "include/a.h")}
    for name in ("TRITON_VERSION", "NVIDIA_Deep_Learning_Container_License.pdf"):
        parts[f"root/opt/tritonserver/{name}"] = (b"", 0o644)
    parts["root/opt/tritonserver/lib/libtritonserver.so"] = (b"", 0o644)
    parts["root/opt/tritonserver/bin/tritonserver"] = (TRITONSERVER.encode(), 0o755)
    parts["root/usr/lib/x86_64-linux-gnu/libdcgm.so.4.1"] = (b"stand-in", 0o644)
    for kind in ("backends", "repoagents", "caches"):
        for name in getattr(composable, kind):
            parts[f"root/opt/tritonserver/{kind}/{name}/libtriton_{name}.so"] = (b"", 0o644)
    linked = "RUN cp -s libdcgm.so.4.1 /usr/lib/x86_64-linux-gnu/libdcgm.so.4"
    tools = {
        "root/usr/bin/apt-get": (NOTING_TOOL.encode(), 0o755),
        "root/usr/bin/ldconfig": (NOTING_TOOL.encode(), 0o755),
        "root/usr/bin/curl": (CURL.encode(), 0o755),
        "root/usr/bin/id": (ID.encode(), 0o755),
        "root/stand-in/venv.py": (VENV.encode(), 0o644),
        "root/stand-in/pip.py": (PIP.encode(), 0o644),
        "root/opt/tritonserver/stale/file": (b"", 0o644),
    }
    start = f"FROM {base}\nCOPY root/ /\n"
    return BaseImages(
        full=build(f"{start}WORKDIR /usr/lib/x86_64-linux-gnu\n{linked}\n", shell | parts),
        minimum=build(f"{start}ENV PYTHONPATH=/stand-in\n", shell | tools),
    )


def _host_files(*programs):
    """Programs of this machine with their libraries, below `root/`."""
    paths = [shutil.which(program) for program in programs]
    files = {path: Path(path) for path in (*paths, *shared_libraries(paths))}
    found = {f"root{path}": (source.read_bytes(), 0o755) for path, source in files.items()}
    return found | {"root/bin/sh": (Path("/bin/sh").read_bytes(), 0o755)}
