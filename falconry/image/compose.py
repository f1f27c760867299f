"""The Dockerfile of a Triton server with chosen backends, as NVIDIA's compose.py would make one.

Nothing is built or fetched here. What is taken over from compose.py and from build.py's
dockerfile_prepare_container_linux (triton-inference-server/server), and what is not:

- bin, lib, include, the licences and the chosen directories come from the full image onto the
  minimum image, whose own /opt/tritonserver goes first. They belong to root here and not to the
  server's user, who need not change them.
- The packages are the ones whose libraries the server loads. The script's tools are left out
  (clang, dirmngr, git, gperf, software-properties-common, wget, virtualenv, and Boost from source
  in 23.12dev): that no backend needs them to serve is inferred.
- DCGM comes from the full image, where the script installs the version that the full image names
  from NVIDIA's package repository, whose key it fetches. It is the same version by construction.
- NVIDIA's entrypoint and its scripts, build numbers and SageMaker's `serve` are left out: the
  entrypoint is ours, and labels are given with the build. With that entrypoint goes CUDA's forward
  compatibility, which is set up at start by writing to the root file system: the host's driver has
  to know the image's CUDA.
- compose.py's `--enable-gpu`, which is not shown in its help, is always true here: the other value
  takes a CPU-only full image, and NVIDIA publishes none (compose.md). The composed server is one
  for GPUs whatever backends are chosen; on a machine without one it serves on the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from falconry.engine.toolchain import Composable, Needs, Preparation, Toolchain, load_preparation
from falconry.errors import SettingsError

_WHERE = "COMPOSE"
_KEYS = ("backends", "repoagents", "caches")
_EXAMPLE = "such as backends=onnxruntime,python repoagents=checksum caches=local"
_COMPOSE_DOCUMENT = "docs/customization_guide/compose.md of triton-inference-server/server"
_UNSUPPORTED = ("tensorrtllm", "vllm")

_REPOSITORIES = "oci-datascience-triton-server"
_TRITON = "/opt/tritonserver"
_LICENCES = ("LICENSE", "TRITON_VERSION", "NVIDIA_Deep_Learning_Container_License.pdf")
_SERVER_PARTS = ("bin", "lib", "include")
# What NVIDIA's script calls the user and its number.
_USER, _USER_ID = "triton-server", 1000
_LIBRARIES = "/usr/local/lib"
_ENTRYPOINT = ["python3", "/opt/falconry/server/entrypoint.py"]


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts of Triton that an image shall have, each in alphabetical order."""

    backends: tuple[str, ...]
    repoagents: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaseImages:
    """References of the two images that a server is composed from, with digest where known."""

    full: str
    minimum: str


def parse_composition(text: str) -> Composition:
    """Reads what `make image COMPOSE=` was given.

    Args:
        text: `backends=onnxruntime,python repoagents=checksum caches=local`, the last two optional.

    Raises:
        SettingsError: an unknown key, one twice, or names that are missing, twice or no names.
    """
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
                f"{key}= is there twice", where=_WHERE, remedy="put all names into one"
            )
        chosen[key] = _names(key, names)
    if "backends" not in chosen:
        raise SettingsError(
            "no backend is named", where=_WHERE, remedy=f"name at least one, {_EXAMPLE}"
        )
    return Composition(**chosen)


def require_composable(composition: Composition, toolchain: Toolchain) -> Composable:
    """The release's parts, which hold everything that the composition names.

    Raises:
        SettingsError: the release has nothing to compose from, or lacks a part, or the part is one
            that cannot be composed.
    """
    if refused := [name for name in _UNSUPPORTED if name in composition.backends]:
        raise SettingsError(
            f"NVIDIA's compose does not support the backend {refused[0]} ({_COMPOSE_DOCUMENT})",
            where=_WHERE,
            remedy="leave COMPOSE out: make image then builds triton-trtllm, which serves engines,"
            f" on {toolchain.image}",
        )
    if (composable := toolchain.compose) is None:
        raise SettingsError(
            f"the toolchain {toolchain.release} has no images to compose a server from",
            where=_WHERE,
            remedy="choose another engine.toolchain",
        )
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
    """The references of a release's images, pinned by the digests that its row knows."""
    return BaseImages(
        full=_pinned(composable.full, composable.full_digest),
        minimum=_pinned(composable.minimum, composable.minimum_digest),
    )


def default_repository(composition: Composition) -> str:
    """The repository of a composed image: `oci-datascience-triton-server/triton-onnxruntime`."""
    return f"{_REPOSITORIES}/{'-'.join(('triton', *composition.backends))}"


def composed_dockerfile(
    composition: Composition, toolchain: Toolchain, images: BaseImages | None = None
) -> str:
    """The Dockerfile of a server with the chosen parts.

    Its build context has to hold docker/server as `server/`.

    Args:
        composition: the parts.
        toolchain: the release.
        images: references in place of the row's, such as ones by digest or of a mirror.

    Raises:
        SettingsError: the release lacks a part, or cannot be composed.
    """
    composable = require_composable(composition, toolchain)
    chosen = images or base_images(composable)
    needs = _needs(composition, composable, load_preparation(composable))
    blocks = [
        [f"FROM {chosen.full} AS full"],
        [f"FROM {chosen.minimum}"],
        _environment(needs),
        _packages(needs),
        _ground(),
        _libraries(needs),
        _parts(composition),
        [
            "COPY server/ /opt/falconry/server/",
            f"USER {_USER_ID}:{_USER_ID}",
            f"ENTRYPOINT {json.dumps(_ENTRYPOINT)}",
        ],
    ]
    head = f"# Triton {toolchain.release} with chosen parts, written by falconry/image/compose.py."
    return "\n\n".join([head, *("\n".join(block) for block in blocks)]) + "\n"


def _names(key: str, text: str) -> tuple[str, ...]:
    names = text.split(",")
    if not all(names):
        raise SettingsError(
            f"{key}={text} has a name missing", where=_WHERE, remedy=f"give names, {_EXAMPLE}"
        )
    for name in names:
        if not (name.isascii() and name.isidentifier()):
            raise SettingsError(
                f"'{name}' in {key}= is no name of a part of Triton",
                where=_WHERE,
                remedy="use letters, digits and underscores",
            )
        if names.count(name) > 1:
            raise SettingsError(
                f"{key}= names {name} twice", where=_WHERE, remedy="name each part once"
            )
    return tuple(sorted(names))


def _pinned(reference: str, digest: str | None) -> str:
    return f"{reference}@{digest}" if digest else reference


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
    """One instruction a variable, so that a later value can name an earlier one."""
    lines = [f"ENV PATH={_TRITON}/bin:${{PATH}}", "ENV TRITON_SERVER_GPU_ENABLED=1"]
    for need in needs:
        lines += [f"ENV {name}={value}" for name, value in sorted(need.environment.items())]
    return lines


def _packages(needs: Sequence[Needs]) -> list[str]:
    packages = sorted({package for need in needs for package in need.packages})
    lines = _run(
        [
            "apt-get update",
            "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "
            + _continued(packages),
            "rm -rf /var/lib/apt/lists/*",
        ]
    )
    if requirements := [requirement for need in needs for requirement in need.python_packages]:
        # Ubuntu 24.04's pip refuses to touch the system's packages otherwise.
        quoted = " ".join(json.dumps(requirement) for requirement in requirements)
        lines.append(f"RUN PIP_BREAK_SYSTEM_PACKAGES=1 pip3 install --no-cache-dir {quoted}")
    return lines


def _ground() -> list[str]:
    """An empty /opt/tritonserver, and a name for the user that the server runs as."""
    return _run(
        [
            f"rm -rf {_TRITON}/*",
            f"(getent passwd {_USER_ID} > /dev/null || useradd --uid {_USER_ID} --user-group"
            f" --no-create-home {_USER})",
        ]
    )


def _libraries(needs: Sequence[Needs]) -> list[str]:
    """The full image's libraries to where the loader looks; a link arrives as what it names.

    One instruction a pattern, since a pattern without a match fails only where it is alone.
    """
    patterns = [pattern for need in needs for pattern in need.libraries]
    copies = [f"COPY --from=full {pattern} {_LIBRARIES}/" for pattern in patterns]
    return [*copies, "RUN ldconfig"]


def _parts(composition: Composition) -> list[str]:
    lines = [f"WORKDIR {_TRITON}"]
    lines.append(f"COPY --from=full {' '.join(f'{_TRITON}/{name}' for name in _LICENCES)} ./")
    directories = [*_SERVER_PARTS]
    for key in _KEYS:
        directories += [f"{key}/{name}" for name in getattr(composition, key)]
    return lines + [f"COPY --from=full {_TRITON}/{path}/ {path}/" for path in directories]


def _run(commands: Iterable[str]) -> list[str]:
    return ["RUN " + " \\\n    && ".join(commands)]


def _continued(words: Iterable[str]) -> str:
    return "\\\n        " + " \\\n        ".join(words)
