"""A build's memory does not grow with the checkpoint."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from falconry.checkpoint.reader import read_checkpoint
from falconry.checkpoint.tensors import expected_tensors

pytestmark = pytest.mark.slow

MIB = 1 << 20
HIDDEN, HEADS, LAYERS = 1024, 16, 8


@pytest.fixture(scope="module")
def big_falcon(families: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Falcon-7B of more than 150 MiB of float16."""
    directory = shutil.copytree(families / "falcon-7b", tmp_path_factory.mktemp("big") / "falcon")
    small = read_checkpoint(directory).architecture
    changed = {
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "ffn_hidden_size": 4 * HIDDEN,
    }
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changed))
    big = replace(
        small,
        hidden_size=HIDDEN,
        num_heads=HEADS,
        head_size=HIDDEN // HEADS,
        num_layers=LAYERS,
        ffn_hidden_size=4 * HIDDEN,
    )
    ramp = np.linspace(-1, 1, 4 * HIDDEN * HIDDEN, dtype=np.float16)
    # Each a little different, because OpenVINO writes equal weights once.
    tensors = {
        name: np.roll(ramp, 1000 * place)[: int(np.prod(shape))].reshape(shape)
        for place, (name, shape) in enumerate(expected_tensors(big).items())
    }
    assert sum(tensor.nbytes for tensor in tensors.values()) > 150 * MIB
    save_file(tensors, directory / "model.safetensors")
    return directory


class AnonymousMemory:
    """The most memory, in MiB, by which this process grew and that the kernel cannot take back."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._start = self._peak = self._now()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> AnonymousMemory:
        self._watcher.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._watcher.join()

    @property
    def growth(self) -> float:
        return self._peak - self._start

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._peak = max(self._peak, self._now())
            time.sleep(0.002)

    @staticmethod
    def _now() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024 / MIB


@pytest.mark.parametrize("recipe", ["cpu", pytest.param("cpu-bf16", marks=pytest.mark.long)])
def test_building_takes_little_memory_that_the_kernel_cannot_take_back(
    recipe: str,
    big_falcon: Path,
    families: Path,
    build_engine: Callable[[Path, str, Path], Path],
    tmp_path: Path,
) -> None:
    build_engine(families / "falcon-7b", recipe, tmp_path / "so that all is imported")

    with AnonymousMemory() as memory:
        engine = build_engine(big_falcon, recipe, tmp_path / "engine")

    assert (engine / "openvino_model.bin").stat().st_size > 75 * MIB
    assert memory.growth < 40
