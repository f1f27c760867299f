"""The readers of TOML files, and of texts on the command line."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from falconry.checkpoint.reader import Checkpoint, read_checkpoint
from falconry.checkpoint.source import CheckpointSource
from falconry.digests import DigestCache
from falconry.docker_engine.images import ImageReference
from falconry.engine.spec import Recipe, check, engine_spec, read_recipe
from falconry.engine.tensorrt_llm.recipe import GpuRecipe
from falconry.engine.toolchain import load_toolchains
from falconry.image.compose import parse_composition
from falconry.settings import Settings, load_profile, load_settings
from falconry.shapes.prices import read_prices
from scripts.fuzz.mutations import JSON_VALUES, damaged_bytes, damaged_text
from scripts.fuzz.surfaces import ROOT, TINY_FALCON, Surface, read_or_refuse, texts


def _profile(work: Path, content: bytes) -> None:
    path = work / "damaged.toml"
    path.write_bytes(content)
    read_or_refuse(lambda: load_profile(path))


def _recipe(work: Path, content: bytes) -> None:
    (work / "damaged.toml").write_bytes(content)
    found = read_or_refuse(lambda: read_recipe("damaged", Recipe, "openvino", work))
    read_or_refuse(lambda: read_recipe("damaged", GpuRecipe, "tensorrt_llm", work))
    if found:
        spec = engine_spec(_tiny_checkpoint(), found)
        assert spec.kv_cache_bytes >= 0
        read_or_refuse(lambda: check(spec))


@functools.cache
def _tiny_checkpoint() -> Checkpoint:
    return read_checkpoint(TINY_FALCON)


def _toolchains(work: Path, content: bytes) -> None:
    path = work / "toolchains.toml"
    path.write_bytes(content)
    load_toolchains.cache_clear()
    read_or_refuse(lambda: load_toolchains(path))


_PRICES = b"""currency = "USD"
source = "a list"
[shape_hour]
"VM.GPU.A10.1" = 2.0
[ocpu_hour]
"VM.Standard.E4.Flex" = 0.025
[gib_hour]
"VM.Standard.E4.Flex" = 0.0015
"""


def _prices(work: Path, content: bytes) -> None:
    path = work / "prices.toml"
    path.write_bytes(content)
    read_or_refuse(lambda: read_prices(path))


_KEYS = sorted({*Settings.model_fields, "serving.port", "engine.store", "cloud.emulator", "x.y"})
_OVERRIDES = st.lists(
    st.tuples(st.sampled_from(_KEYS), JSON_VALUES.map(lambda value: f"{value}") | st.text()).map(
        lambda pair: f"{pair[0]}={pair[1]}"
    )
    | st.text(max_size=20),
    max_size=3,
).map(" ".join)


def _override(work: Path, text: str) -> None:
    read_or_refuse(lambda: load_settings(ROOT, overrides=text))


_WORDS = st.text(max_size=60) | damaged_bytes(
    *(
        b"hub:tiiuae/falcon-7b@" + b"a" * 40,
        b"~user/checkpoint",
        b"backends=onnxruntime caches=local",
    ),
    b"ghcr.io:443/owner/image:tag@sha256:" + b"0" * 64,
).map(lambda content: content.decode(errors="surrogateescape"))


def _word(work: Path, text: str) -> None:
    """Texts that name a checkpoint, a composition or an image."""
    source = read_or_refuse(lambda: CheckpointSource.parse(text))
    if source and source.path:
        read_or_refuse(lambda: source.digest(DigestCache(work / "digests")))
    read_or_refuse(lambda: parse_composition(text))
    read_or_refuse(lambda: ImageReference.parse(text))


def surfaces() -> Iterator[Surface]:
    """Every reader of this module."""
    yield Surface("profiles", damaged_text(texts("profiles/*.toml")), _profile)
    yield Surface("recipes", damaged_text(texts("engine/recipes/*.toml")), _recipe)
    yield Surface("toolchains", damaged_text(texts("engine/toolchains.toml")), _toolchains)
    yield Surface("prices", damaged_text([_PRICES]), _prices)
    yield Surface("SET=", _OVERRIDES, _override)
    yield Surface("CHECKPOINT=, COMPOSE=, IMAGE=", _WORDS, _word)
