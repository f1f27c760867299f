"""What NVIDIA's C++ backend takes and gives, as data: engine/tensorrtllm_backend.toml."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from falconry.data_files import Table, load_table, project_file
from falconry.engine.toolchain import Toolchain

BACKEND = "engine/tensorrtllm_backend.toml"


class BackendTensor(Table):
    """A tensor of the backend's configuration.

    Attributes:
        type: without the `TYPE_` of configurations.
        dims: without the batch dimension.
        ragged: whether requests of different shapes may be in a batch.
        scalar: whether the backend sees one value a request, and no dims.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    optional: bool = False
    ragged: bool = False
    scalar: bool = False


class _Surface(Table):
    renamed: Mapping[str, str]


class _File(Table):
    inputs: tuple[BackendTensor, ...]
    outputs: tuple[BackendTensor, ...]
    required_scalars: Mapping[str, str]
    optional_scalars: Mapping[str, str]
    surfaces: Mapping[str, _Surface]
    parameters: Mapping[str, str]


class BackendSurface(Table):
    """The tensors and the fixed parameters of a release.

    Attributes:
        renamed: what this release calls a tensor, by the newest release's name.
    """

    inputs: tuple[BackendTensor, ...]
    outputs: tuple[BackendTensor, ...]
    parameters: Mapping[str, str]
    renamed: Mapping[str, str]


def backend_surface(toolchain: Toolchain) -> BackendSurface:
    """What the backend in a toolchain's image takes and gives.

    Raises:
        SettingsError: the file is not valid.
    """
    backend = _load(project_file(BACKEND))
    renamed = backend.surfaces[toolchain.tensor_names].renamed
    inputs = (
        *backend.inputs,
        *(_scalar(name, kind, False) for name, kind in backend.required_scalars.items()),
        *(_scalar(name, kind, True) for name, kind in backend.optional_scalars.items()),
    )
    return BackendSurface(
        inputs=tuple(
            tensor.model_copy(update={"name": renamed.get(tensor.name, tensor.name)})
            for tensor in inputs
        ),
        outputs=backend.outputs,
        parameters=backend.parameters,
        renamed=renamed,
    )


def _scalar(name: str, kind: str, optional: bool) -> BackendTensor:
    return BackendTensor(name=name, type=kind, dims=(1,), optional=optional, scalar=True)


@cache
def _load(path: Path) -> _File:
    return load_table(path, _File)
