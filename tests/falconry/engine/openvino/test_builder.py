"""The engine directory: what is in it, that it is reproducible, and what stops a build."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from falconry.checkpoint.reader import read_checkpoint
from falconry.engine.openvino.builder import OpenVinoBuilder
from falconry.engine.spec import engine_spec, load_recipe
from falconry.errors import CheckpointError, EngineError, MachineError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]

Build = Callable[[Path, str, Path], Path]
Engine = Callable[[Path, str], Path]

# Of a process of its own, with checkpoint, recipe and an empty directory as arguments.
BUILD = (
    "import sys, pathlib\n"
    "from falconry.checkpoint.reader import read_checkpoint\n"
    "from falconry.engine.openvino.builder import OpenVinoBuilder\n"
    "from falconry.engine.spec import load_recipe\n"
    "from falconry.engine.spec import engine_spec\n"
    "source, recipe, output = sys.argv[1:]\n"
    "facts = read_checkpoint(pathlib.Path(source))\n"
    "spec = engine_spec(facts, load_recipe(recipe))\n"
    "told = lambda *anything: None\n"
    "OpenVinoBuilder().build(spec, facts, pathlib.Path(output), told, told)\n"
)


def contents(engine: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in engine.iterdir()}


def test_an_engine_holds_the_model_both_tokenizers_and_how_to_open_it(
    tiny_falcon: Path, engine_of: Engine
) -> None:
    engine = contents(engine_of(tiny_falcon, "cpu"))

    assert sorted(engine) == [
        "chat.json",
        "engine.json",
        "openvino_detokenizer.bin",
        "openvino_detokenizer.xml",
        "openvino_model.bin",
        "openvino_model.xml",
        "openvino_tokenizer.bin",
        "openvino_tokenizer.xml",
        "tokenizer.json",
    ]
    assert engine["tokenizer.json"] == (tiny_falcon / "tokenizer.json").read_bytes()


# Both compress the weights by the same functions, the default by one more.
@pytest.mark.parametrize("recipe", ["cpu", pytest.param("cpu-bf16", marks=pytest.mark.long)])
def test_another_process_builds_the_same_bytes(
    recipe: str, families: Path, engine_of: Engine, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(families / "falcon-rw", tmp_path / "elsewhere")
    output = tmp_path / "engine"
    output.mkdir()
    subprocess.run(
        [sys.executable, "-c", BUILD, checkpoint, recipe, output],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )

    expected = contents(engine_of(families / "falcon-rw", recipe))
    assert contents(output) == expected


def test_weights_at_odd_addresses_give_the_same_engine(
    families: Path, engine_of: Engine, build_engine: Build, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(families / "falcon-7b", tmp_path / "checkpoint")
    path = checkpoint / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].rstrip() + b" " * (1 + length % 2)
    header += b" " * (1 - len(header) % 2)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    assert read_checkpoint(checkpoint).tensors["transformer.ln_f.bias"].offset % 2

    engine = build_engine(checkpoint, "cpu-f32", tmp_path / "engine")

    assert contents(engine) == contents(engine_of(families / "falcon-7b", "cpu-f32"))


def test_progress_is_told_step_by_step_and_never_goes_back(
    tiny_falcon: Path, tmp_path: Path
) -> None:
    facts = read_checkpoint(tiny_falcon)
    told: list[tuple[str, float]] = []
    OpenVinoBuilder().build(
        engine_spec(facts, load_recipe("cpu")),
        facts,
        tmp_path,
        lambda step, done: told.append((step, done)),
        lambda path: None,
    )

    assert list(dict.fromkeys(step for step, _ in told)) == [
        "converting weights",
        "writing the model",
        "checking the model",
        "converting the tokenizer",
    ]
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[0][1] > 0 and told[-1][1] < 1


def test_the_toolchain_names_the_installed_versions() -> None:
    toolchain = OpenVinoBuilder().toolchain()

    assert toolchain["openvino"] == metadata.version("openvino")
    assert toolchain["transformers"] == metadata.version("transformers")


def test_asking_for_the_toolchain_imports_no_heavy_library() -> None:
    program = (
        "import sys; from falconry.engine.openvino.builder import OpenVinoBuilder;"
        "OpenVinoBuilder().toolchain(); print({'transformers', 'openvino'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.strip() == "set()", done.stderr


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Makes writing beyond `size` bytes fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("recipe", ["cpu", "cpu-f32"])
def test_a_full_disk_is_one_sentence(
    recipe: str, tiny_falcon: Path, build_engine: Build, tmp_path: Path
) -> None:
    with files_no_larger_than(100_000), pytest.raises(MachineError) as raised:
        build_engine(tiny_falcon, recipe, tmp_path / "engine")

    assert str(tmp_path / "engine") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_weight_that_is_no_number_stops_quantisation(
    families: Path, build_engine: Build, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(families / "falcon-7b", tmp_path / "checkpoint")
    tensors = load_file(checkpoint / "model.safetensors")
    name = "transformer.h.1.mlp.dense_4h_to_h.weight"
    tensors[name][3, 5] = np.nan
    save_file(tensors, checkpoint / "model.safetensors")

    with pytest.raises(EngineError, match=rf"{name} cannot be stored as the recipe says"):
        build_engine(checkpoint, "cpu", tmp_path / "engine")


def test_a_tokenizer_that_cannot_be_converted_is_one_sentence(
    families: Path, build_engine: Build, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(families / "falcon-7b", tmp_path / "checkpoint")
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "UnicodeScripts"}
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))

    with pytest.raises(EngineError, match="the tokenizer cannot be converted for OpenVINO"):
        build_engine(checkpoint, "cpu-f32", tmp_path / "engine")


def test_added_tokens_without_an_embedding_are_one_sentence(
    families: Path, build_engine: Build, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(families / "falcon-7b", tmp_path / "checkpoint")
    vocabulary = read_checkpoint(checkpoint).architecture.vocab_size
    path = checkpoint / "tokenizer_config.json"
    added = [f"<|added {number}|>" for number in range(vocabulary)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"additional_special_tokens": added}))

    with pytest.raises(CheckpointError, match=f"but the model's vocab_size is {vocabulary}"):
        build_engine(checkpoint, "cpu-f32", tmp_path / "engine")


def test_a_build_tells_openvinos_makers_nothing(tiny_falcon: Path, tmp_path: Path) -> None:
    """What is told stands under an id that openvino would write to the home directory first."""
    home, output = tmp_path / "home", tmp_path / "engine"
    home.mkdir()
    output.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    subprocess.run(
        [sys.executable, "-c", BUILD, tiny_falcon, "cpu", output],
        check=True,
        cwd=ROOT,
        env={**environment, "HOME": str(home)},
    )

    assert not list(home.rglob("*ga_cid*"))
