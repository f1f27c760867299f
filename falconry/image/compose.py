"""The Dockerfile of a Triton server with chosen backends.

Nothing is built or fetched here. What is taken over from compose.py and from build.py's
dockerfile_prepare_container_linux (triton-inference-server/server), and what is not:

- bin, lib, include, the licences and the chosen directories come from the full image onto the
  minimum image, whose own /opt/tritonserver goes first. They belong to root here, and the server
  runs as the script's user by its number.
- The packages are the ones whose libraries the server loads. The script's tools are left out
  (clang, dirmngr, git, gperf, pip, setuptools, software-properties-common, virtualenv, wget): that
  no backend needs them to serve is inferred.
- DCGM comes from the full image, where the script installs the version that the full image names
  from NVIDIA's package repository, whose key it fetches. It is the same version by construction.
- The script's second way to CUDA's forward compatibility, an entry for the loader, is left out: it
  leads to a link that NVIDIA's entrypoint, which ours goes through, makes as root at start.
- Build numbers, the server repository's entrypoint.d and SageMaker's `serve` are left out; labels
  are given with the build.
- compose.py's `--enable-gpu`, which is not shown in its help, is always true here: the other value
  takes a CPU-only full image, and NVIDIA publishes none (compose.md). The composed server is one
  for GPUs whatever backends are chosen; on a machine without one it serves on the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from falconry.engine.toolchain import Composable, Needs, Preparation, Toolchain, load_toolchains
from falconry.errors import SettingsError

_WHERE = "COMPOSE"
_KEYS = ("backends", "repoagents", "caches")
_EXAMPLE = "such as backends=onnxruntime,python repoagents=checksum caches=local"
_COMPOSE_DOCUMENT = "docs/customization_guide/compose.md of triton-inference-server/server"
_UNSUPPORTED = ("tensorrtllm", "vllm")

_TRITON = "/opt/tritonserver"
_LICENCES = ("LICENSE", "TRITON_VERSION", "NVIDIA_Deep_Learning_Container_License.pdf")
_SERVER_PARTS = ("bin", "lib", "include")
_LIBRARIES = "/usr/local/lib"
# Of the entrypoint and the front alone: the Python backend has the distribution's Python.
_FALCONRY = "/opt/falconry"
_VENV = f"{_FALCONRY}/venv"
_PYTHON_TOOLS = ("python3", "python3-pip", "python3-venv")

# As at the end of docker/triton-trtllm.Dockerfile, where it is explained.
_START = """\
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=15m --retries=3 \\
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "--noproxy", "*", \
"http://127.0.0.1:8000/v2/health/ready"]
ENTRYPOINT ["/opt/falconry/venv/bin/python", "/opt/falconry/server/entrypoint.py"]
CMD ["tritonserver", "--model-repository=/opt/ds/model/deployed_model/model_repository"]"""


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts of Triton in an image, each in alphabetical order."""

    backends: tuple[str, ...]
    repoagents: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaseImages:
    """The two images that a server is composed from, with known digests."""

    full: str
    minimum: str


def parse_composition(text: str) -> Composition:
    """Reads the value of `make image COMPOSE=`, such as the example above."""
    chosen: dict[str, tuple[str, ...]] = {}
    for word in text.split():
        key, equals, names = word.partition("=")
        if not equals or key not in _KEYS:
            raise SettingsError(
                f"'{word}' does not say {' or '.join(f'{known}=' for known in _KEYS)}",
                where=_WHERE,
                remedy=f"give names by kind, {_EXAMPLE}",
            )
        if key in chosen:
            raise SettingsError(
                f"{key}= is given twice", where=_WHERE, remedy="put all names into one"
            )
        chosen[key] = _names(key, names)
    if "backends" not in chosen:
        raise SettingsError(
            "no backend is named", where=_WHERE, remedy=f"name at least one, {_EXAMPLE}"
        )
    return Composition(**chosen)


def require_composable(composition: Composition, toolchain: Toolchain) -> Composable:
    """The release's parts; refuses a composition that they do not suffice for."""
    if refused := [name for name in _UNSUPPORTED if name in composition.backends]:
        raise SettingsError(
            f"NVIDIA's compose does not support the backend {refused[0]} ({_COMPOSE_DOCUMENT})",
            where=_WHERE,
            remedy="leave COMPOSE out: make image then builds triton-trtllm, which serves engines,"
            f" on {toolchain.image}",
        )
    composable = toolchain.compose
    for key in _KEYS:
        known: tuple[str, ...] = getattr(composable, key)
        if unknown := [name for name in getattr(composition, key) if name not in known]:
            raise SettingsError(
                f"{composable.full} has no {', '.join(unknown)} among its {key}",
                where=_WHERE,
                remedy=f"choose from {', '.join(known)}",
            )
    return composable


def base_images(composable: Composable) -> BaseImages:
    """A release's images, pinned by the digests in its row."""
    return BaseImages(full=composable.full_reference, minimum=composable.minimum_reference)


def image_name(composition: Composition) -> str:
    """The last part of a composed image's repository, such as `triton-onnxruntime-python`."""
    return "-".join(("triton", *composition.backends))


def composed_dockerfile(
    composition: Composition, toolchain: Toolchain, images: BaseImages | None = None
) -> str:
    """The Dockerfile of a server with the chosen parts.

    Its build context is that of the other server images: docker/server as `server/`, the front's
    `requirements.txt`, and `certificates/`. The build arguments FULL and MINIMUM replace the base
    images written into it: the release's, or `images`, such as those of a mirror.
    """
    composable = require_composable(composition, toolchain)
    chosen = images or base_images(composable)
    needs = _needs(composition, composable, load_toolchains().preparation)
    requirements = [requirement for need in needs for requirement in need.python_packages]
    packages = [package for need in needs for package in need.packages]
    blocks = [
        [f"# Triton {toolchain.release} with chosen parts, written by falconry/image/compose.py."],
        [
            f"# FULL is {chosen.full}",
            f"# MINIMUM is {chosen.minimum}",
            "# Both are given by digest.",
            "ARG FULL",
            "ARG MINIMUM",
        ],
        ["FROM ${FULL} AS full"],
        ["FROM ${MINIMUM} AS packages", *_python_packages(requirements)],
        ["FROM ${MINIMUM}", *_environment(needs)],
        [_installed(packages)],
        [f"COPY --from=packages {_FALCONRY}/ {_FALCONRY}/"],
        ["COPY --from=packages /python/ /"] if requirements else [],
        _libraries(needs),
        _parts(composition),
        [_START],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _names(key: str, text: str) -> tuple[str, ...]:
    names = text.split(",")
    if not all(names):
        raise SettingsError(
            f"{key}={text} has a name missing", where=_WHERE, remedy=f"give names, {_EXAMPLE}"
        )
    for name in names:
        if not (name.isascii() and name.isidentifier()):
            raise SettingsError(
                f"'{name}' in {key}= is not the name of a part of Triton",
                where=_WHERE,
                remedy="use letters, digits and underscores",
            )
        if names.count(name) > 1:
            raise SettingsError(
                f"{key}= names {name} twice", where=_WHERE, remedy="name each part once"
            )
    return tuple(sorted(names))


def _needs(
    composition: Composition, composable: Composable, preparation: Preparation
) -> Sequence[Needs]:
    """What every image needs, then backend by backend what those need."""
    found: list[Needs] = [preparation]
    for backend in composition.backends:
        tables = (preparation.backends, composable.needs)
        found += [table[backend] for table in tables if backend in table]
    return found


def _environment(needs: Sequence[Needs]) -> list[str]:
    """One instruction a variable, so that later values can name earlier ones."""
    lines = [f"ENV PATH={_TRITON}/bin:${{PATH}}", "ENV TRITON_SERVER_GPU_ENABLED=1"]
    for need in needs:
        lines += [f"ENV {name}={value}" for name, value in sorted(need.environment.items())]
    return lines


def _python_packages(requirements: Sequence[str]) -> list[str]:
    """The front in its own environment, and the backends' packages in /python.

    The front is imported once, so that a Python which its packages are not for fails the build.
    """
    python = f"{_VENV}/bin/python"
    install = "-m pip install --disable-pip-version-check --no-cache-dir --no-compile"
    commands = [
        "if [ -f /certificates/ca.crt ]; then export PIP_CERT=/certificates/ca.crt; fi",
        f"python3 -m venv {_VENV}",
        f"{python} {install} --no-deps --require-hashes --requirement /requirements.txt",
        f"cd {_FALCONRY}/server",
        f"{python} -m compileall -q --invalidation-mode unchecked-hash {_VENV}/lib .",
        f"{python} -E -c 'import sys; sys.path.insert(0, \".\"); import front'",
    ]
    if requirements:
        quoted = " ".join(json.dumps(requirement) for requirement in requirements)
        # Ubuntu 24.04's pip takes --root for a change of the system too.
        commands.append(
            f"PIP_BREAK_SYSTEM_PACKAGES=1 python3 {install} --ignore-installed --root /python"
            f" {quoted}"
        )
    return [
        _installed(_PYTHON_TOOLS),
        "COPY certificates/ /certificates/",
        "COPY requirements.txt /",
        f"COPY server/ {_FALCONRY}/server/",
        _run(commands),
    ]


def _installed(packages: Iterable[str]) -> str:
    words = " \\\n        ".join(sorted(set(packages)))
    install = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"
    return _run(["apt-get update", f"{install} \\\n        {words}", "rm -rf /var/lib/apt/lists/*"])


def _libraries(needs: Sequence[Needs]) -> list[str]:
    """The full image's libraries for the loader; a link becomes its target.

    One instruction a pattern, since a pattern without a match fails only where it is alone.
    """
    patterns = [pattern for need in needs for pattern in need.libraries]
    copies = [f"COPY --from=full {pattern} {_LIBRARIES}/" for pattern in patterns]
    return [*copies, "RUN ldconfig"]


def _parts(composition: Composition) -> list[str]:
    directories = [*_SERVER_PARTS]
    for key in _KEYS:
        directories += [f"{key}/{name}" for name in getattr(composition, key)]
    licences = " ".join(f"{_TRITON}/{name}" for name in _LICENCES)
    return [
        f"RUN rm -rf {_TRITON}/*",
        f"WORKDIR {_TRITON}",
        f"COPY --from=full {licences} ./",
        *(f"COPY --from=full {_TRITON}/{path}/ {path}/" for path in directories),
    ]


def _run(commands: Iterable[str]) -> str:
    return "RUN " + " \\\n    && ".join(commands)
