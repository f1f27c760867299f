"""The stand-in toolchain image: takes the place of NVIDIA's image, which needs a GPU and 16 GB.

It holds this machine's Python and tools that behave like NVIDIA's at the edges: the same paths, the
flags of the release and no others, files of the documented names and layout. Nothing in it is
NVIDIA's, and its engines are no engines. What the tools can be told is in
tools/stand_in_command.py, stand_in_tools.py and stand_in_engine.py.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from docker.errors import ImageNotFound

_FLAGS = Path(__file__).parents[1] / "data" / "trtllm_flags"
_TOOLS = Path(__file__).parent / "tools"
_REPOSITORY = "falconry-stand-in-toolchain"
_LIBRARY = "stand_in"
_PACKAGES = f"{_LIBRARY}/packages"
_PYTHON_PACKAGES = {
    "tensorrt_llm/__init__.py": "from stand_in_answers import mpi_rank\n",
    "tensorrt_llm/runtime.py": "from stand_in_answers import ModelRunnerCpp\n",
    "torch.py": "from stand_in_answers import *\n",
    "transformers.py": "from stand_in_answers import AutoModelForCausalLM\n",
}
# Parts of the standard library that no build script needs.
_LEFT_OUT = re.compile(
    r"(^|/)(tests?|idlelib|lib2to3|ensurepip|tkinter|turtledemo|pydoc_data|distutils|unittest"
    r"|asyncio|curses|dbm|sqlite3|wsgiref|xml|xmlrpc|site-packages|dist-packages"
    r"|config-[^/]*)(/|$)|\.opt-\d\.pyc$"
    r"|lib-dynload/(_test|_tkinter|_codecs_|_curses|_dbm|_gdbm|_hashlib|_sqlite3|_ssl|readline)"
)
# What an image needs that runs the oci package too: nearly all of the library, and what wheels link
# to beside the interpreter.
_LEFT_OUT_OF_COMPLETE = re.compile(
    r"(^|/)(tests?|idlelib|lib2to3|ensurepip|tkinter|site-packages|dist-packages)(/|$)"
    r"|\.opt-\d\.pyc$|lib-dynload/(_test|_tkinter|readline)"
)
_LINKED_BY_WHEELS = (
    *("libgcc_s.so.1", "libstdc++.so.6", "libm.so.6", "librt.so.1", "libpthread.so.0"),
    *("libdl.so.2", "libutil.so.1"),
)


@dataclass(frozen=True)
class Installed:
    """A file of the stand-ins."""

    content: bytes
    executable: bool = False


def stand_in_image(client, release, toolchain_row, environment=None, *, complete=False):
    """The tag of the stand-in image for a toolchain row, built unless the engine has it.

    Args:
        client: a docker.DockerClient.
        release: names the flags, tests/data/trtllm_flags/<release>.json.
        toolchain_row: the falconry Toolchain.
        environment: variables that its containers shall have, such as STAND_IN_GPUS.
        complete: whether its Python can run the oci package.
    """
    base = python_image(client, complete=complete)
    files = stand_in_files(release, toolchain_row, "/", "/usr/bin/python3")
    variables = {
        "CUDA_VERSION": toolchain_row.cuda,
        "PYTHONPATH": f"/{_PACKAGES}",
        **(environment or {}),
    }
    lines = [f"FROM {base}", "COPY rootfs/ /"]
    lines += [f"ENV {name}={json.dumps(value)}" for name, value in sorted(variables.items())]
    dockerfile = "\n".join(lines).encode()
    digest = hashlib.sha256(dockerfile)
    for path, file in sorted(files.items()):
        digest.update(f"{path} {file.executable} {len(file.content)}\n".encode() + file.content)
    tag = f"{_REPOSITORY}:{release}-{digest.hexdigest()[:12]}"
    if not _has(client, tag):
        context = {"Dockerfile": Installed(dockerfile)}
        context |= {f"rootfs/{path}": file for path, file in files.items()}
        client.images.build(fileobj=_tar(context), custom_context=True, tag=tag, rm=True)
    return tag


def install_stand_ins(release, toolchain_row, root):
    """Writes the stand-ins below a directory; gives the environment for processes that use them."""
    for path, file in stand_in_files(release, toolchain_row, root, sys.executable).items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        place.chmod(0o755 if file.executable else 0o644)
    return {
        "PATH": f"{root}/usr/local/bin:{os.environ['PATH']}",
        "PYTHONPATH": f"{root}/{_PACKAGES}",
        "CUDA_VERSION": toolchain_row.cuda,
    }


def stand_in_files(release, toolchain_row, root, interpreter):
    """The stand-ins' files by their path below `root`, at the places that the row documents."""
    library = Path(root) / _LIBRARY
    files = {
        f"{_LIBRARY}/{path.name}": Installed(path.read_bytes()) for path in _TOOLS.glob("*.py")
    }
    files[f"{_LIBRARY}/flags.json"] = Installed((_FLAGS / f"{release}.json").read_bytes())
    tools = {
        toolchain_row.converter.falcon[0]: "convert_checkpoint",
        toolchain_row.converter.llama[0]: "convert_checkpoint",
        toolchain_row.quantizer: "quantize",
        "/usr/local/bin/trtllm-build": "trtllm_build",
        "/usr/local/bin/nvidia-smi": "nvidia_smi",
        "/usr/local/bin/mpirun": "mpirun",
    }
    for path, name in tools.items():
        text = (
            f"#!{interpreter}\n# STAND-IN, not NVIDIA's.\nimport sys\n\n"
            f"sys.path.insert(0, {str(library)!r})\nimport stand_in_tools\n\n"
            f"stand_in_tools.{name}()\n"
        )
        files[str(PurePosixPath(path).relative_to("/"))] = Installed(text.encode(), executable=True)
    for path, text in _PYTHON_PACKAGES.items():
        found = f"import sys\n\nsys.path.insert(0, {str(library)!r})\n"
        files[f"{_PACKAGES}/{path}"] = Installed(f"# STAND-IN.\n{found}{text}".encode())
    for package in ("tensorrt_llm", "tensorrt"):
        version = getattr(toolchain_row, package)
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        place = f"{_PACKAGES}/{package}-{version}.dist-info/METADATA"
        files[place] = Installed(metadata.encode())
    return files


def python_image(client, *, complete=False):
    """This machine's Python as an image without anything else."""
    files = _python_files(complete)
    state = [(name, Path(path).stat()) for name, path in sorted(files.items())]
    known = json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in state])
    tag = hashlib.sha256(known.encode()).hexdigest()[:12]
    name = f"{_REPOSITORY}-python:{tag}"
    if not _has(client, name):
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            _write_python(archive, files)
            client.api.import_image_from_file(
                archive.name,
                repository=f"{_REPOSITORY}-python",
                tag=tag,
                changes=["ENV PATH=/usr/local/bin:/usr/bin", 'CMD ["python3"]'],
            )
    return name


@cache
def _python_files(complete):
    """The interpreter, its library and the shared libraries it needs, by their path."""
    left_out = _LEFT_OUT_OF_COMPLETE if complete else _LEFT_OUT
    interpreter = os.path.realpath(sys.executable)
    library = Path(sysconfig.get_path("stdlib"))
    modules = [
        path
        for path in library.rglob("*")
        if path.is_file() and not left_out.search(str(path.relative_to(library)))
    ]
    linked = [interpreter, *(str(path) for path in modules if path.suffix == ".so")]
    beside = [
        str(path)
        for name in (_LINKED_BY_WHEELS if complete else ())
        for path in Path("/lib/x86_64-linux-gnu").glob(name)
    ]
    found = (interpreter, *map(str, modules), *shared_libraries(linked), *beside)
    return {path: path for path in found}


def shared_libraries(binaries):
    """The paths that `ldd` gives, the dynamic loader's among them."""
    told = subprocess.run(["ldd", *binaries], stdout=subprocess.PIPE, text=True, check=False).stdout
    return sorted(set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", told, re.MULTILINE)))


def _write_python(archive, files):
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for name, path in sorted(files.items()):
            tar.add(path, arcname=name, filter=_public)
        for link in ("/usr/bin/python3", "/usr/local/bin/python3"):
            if link not in files:
                entry = tarfile.TarInfo(link)
                entry.type, entry.linkname = tarfile.SYMTYPE, os.path.realpath(sys.executable)
                tar.addfile(entry)
        entry = tarfile.TarInfo("/tmp")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(entry)
    archive.flush()


def _public(entry):
    """Readable by all: builds do not run as root, and this Python may stand in root's home."""
    entry.mode |= 0o555 if entry.mode & 0o100 else 0o444
    entry.uid = entry.gid = 0
    return entry


def _tar(files):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.content), 0o755 if file.executable else 0o644
            tar.addfile(entry, io.BytesIO(file.content))
    archive.seek(0)
    return archive


def _has(client, tag):
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True
