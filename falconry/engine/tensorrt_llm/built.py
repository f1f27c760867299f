"""What a TensorRT-LLM engine says of itself, in the config.json that NVIDIA's tools wrote.

Nothing here knows what was asked for; that is layout.py's business, which also names the sources.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from falconry.engine.tensorrt_llm.layout import CONFIG
from falconry.errors import EngineError
from falconry.settings import validation_problem


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine's sizes; lengths in tokens.

    Attributes:
        tensorrt_llm: the version that built it; None where config.json does not tell (until 0.7).
        max_seq_len: of prompt and answer together.
        paged_context_fmha: whether long prompts can be computed in several steps, and equal
            beginnings of prompts once.
        ranks: the engine files, one a GPU.
    """

    tensorrt_llm: str | None
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_beam_width: int
    tensor_parallel: int
    pipeline_parallel: int
    paged_context_fmha: bool
    ranks: tuple[str, ...]

    @property
    def world_size(self) -> int:
        """How many GPUs it runs on."""
        return self.tensor_parallel * self.pipeline_parallel


def read_built_engine(engine: Path) -> BuiltEngine:
    """Reads an engine's config.json, of either layout.

    Raises:
        EngineError: there is none, or it is of neither layout.
    """
    path = engine / CONFIG
    ranks = tuple(sorted(file.name for file in engine.glob("*.engine")))
    try:
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and "builder_config" in document:
            return _Old.model_validate(document).built(ranks)
        return _New.model_validate(document).built(ranks)
    except OSError as error:
        raise EngineError(f"cannot be read ({error.strerror})", where=path) from None
    except ValidationError as error:
        raise EngineError(
            f"is not the config.json of an engine ({validation_problem(error)})", where=path
        ) from None
    except ValueError as error:
        raise EngineError(f"is not JSON ({error})", where=path) from None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _BuilderConfig(_Part):
    tensor_parallel: int
    pipeline_parallel: int
    max_batch_size: int
    max_input_len: int
    max_output_len: int
    max_beam_width: int = 1


class _Old(_Part):
    """0.5 to 0.7."""

    builder_config: _BuilderConfig

    def built(self, ranks: tuple[str, ...]) -> BuiltEngine:
        config = self.builder_config
        return BuiltEngine(
            tensorrt_llm=None,
            max_batch_size=config.max_batch_size,
            max_input_len=config.max_input_len,
            max_seq_len=config.max_input_len + config.max_output_len,
            max_beam_width=config.max_beam_width,
            tensor_parallel=config.tensor_parallel,
            pipeline_parallel=config.pipeline_parallel,
            paged_context_fmha=False,
            ranks=ranks,
        )


class _Mapping(_Part):
    tp_size: int
    pp_size: int


class _PretrainedConfig(_Part):
    mapping: _Mapping


class _Plugins(_Part):
    use_paged_context_fmha: bool = False


class _BuildConfig(_Part):
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_beam_width: int
    plugin_config: _Plugins = Field(default_factory=_Plugins)


class _New(_Part):
    """From 0.8 on."""

    version: str | None = None
    pretrained_config: _PretrainedConfig
    build_config: _BuildConfig

    def built(self, ranks: tuple[str, ...]) -> BuiltEngine:
        config, mapping = self.build_config, self.pretrained_config.mapping
        return BuiltEngine(
            tensorrt_llm=self.version,
            max_batch_size=config.max_batch_size,
            max_input_len=config.max_input_len,
            max_seq_len=config.max_seq_len,
            max_beam_width=config.max_beam_width,
            tensor_parallel=mapping.tp_size,
            pipeline_parallel=mapping.pp_size,
            paged_context_fmha=config.plugin_config.use_paged_context_fmha,
            ranks=ranks,
        )
