"""Stand-ins for the compiled modules that NVIDIA's Python imports.

Any name of such a module is a class that can be called, subclassed and compared, and has more
such names, which is all that importing, parsing and converting need.
"""

from __future__ import annotations

import enum
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

# What only a CUDA installation has. `onnx` and its helper are used by other models than Falcons.
COMPILED = (
    "tensorrt",
    "tensorrt_llm.bindings",
    "cuda",
    "pynvml",
    "mpi4py",
    "onnx",
    "onnx_graphsurgeon",
)


class _Anything(type):
    """A class that has every attribute and takes part in every expression."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(cls, name, made := _anything(name))
        return made

    def __getitem__(cls, key: object) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __or__(cls, other: Any) -> Any:
        return cls

    def __ror__(cls, other: Any) -> Any:
        return cls


class _Instance(metaclass=_Anything):
    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(type(self), name)

    def __call__(self, *_: object, **__: object) -> Any:
        return self

    def __lt__(self, other: object) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__


def _anything(name: str) -> Any:
    return _Anything(name, (_Instance,), {})


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, made := _anything(name))
        return made


class KVCacheType(enum.Enum):
    """Of the bindings: what `--kv_cache_type` takes."""

    CONTINUOUS = "continuous"
    PAGED = "paged"
    DISABLED = "disabled"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in COMPILED):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = _Module(spec.name)
        if spec.name == "tensorrt_llm.bindings":
            module.KVCacheType = KVCacheType  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


def install() -> None:
    """Puts the stand-ins before everything that is installed."""
    sys.meta_path.insert(0, _Finder())
