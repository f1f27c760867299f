"""`tensorrt_llm/config.pbtxt`: NVIDIA's C++ backend configured for one engine.

What the backend takes and gives is data: engine/tensorrtllm_backend.toml. Every size is the
engine's own, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tritonclient.grpc import model_config_pb2

from falconry.data_files import Table, load_table, project_file
from falconry.engine.tensorrt_llm.engine_config import EngineConfig
from falconry.engine.toolchain import Toolchain
from falconry.repository import MODEL_REPOSITORY
from falconry.repository.config import ModelConfig, set_parameters
from falconry.settings import TensorRtLlmServing

BACKEND_TABLE = "engine/tensorrtllm_backend.toml"
BACKEND = "tensorrtllm"
# The tokenizer as guided decoding reads it, beside the engine.
TOKENIZER_INFO = "xgrammar_tokenizer_info.json"


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


class BackendTensors(Table):
    """The tensors and the fixed parameters of a release.

    Attributes:
        renamed: what this release calls a tensor, by the newest release's name.
    """

    inputs: tuple[BackendTensor, ...]
    outputs: tuple[BackendTensor, ...]
    parameters: Mapping[str, str]
    renamed: Mapping[str, str]


def backend_tensors(toolchain: Toolchain) -> BackendTensors:
    """What the backend in a toolchain's image takes and gives."""
    backend = _load(project_file(BACKEND_TABLE))
    renamed = backend.surfaces[toolchain.tensor_names].renamed
    inputs = (
        *backend.inputs,
        *(_scalar(name, kind, False) for name, kind in backend.required_scalars.items()),
        *(_scalar(name, kind, True) for name, kind in backend.optional_scalars.items()),
    )
    return BackendTensors(
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


def backend_config(
    name: str,
    engine: EngineConfig,
    tensors: BackendTensors,
    serving: TensorRtLlmServing,
) -> ModelConfig:
    """The backend's configuration."""
    config = model_config_pb2.ModelConfig(
        name=name, backend=BACKEND, max_batch_size=engine.limits.max_batch_size
    )
    config.model_transaction_policy.decoupled = True  # a stream has many responses
    batching = config.dynamic_batching
    batching.preferred_batch_size.append(engine.limits.max_batch_size)
    batching.max_queue_delay_microseconds = serving.max_queue_delay_microseconds
    # The executor takes its own queue's limit from here, too.
    batching.default_queue_policy.max_queue_size = serving.max_queue_size
    _add(config.input, tensors.inputs)
    _add(config.output, tensors.outputs)
    # The executor owns the GPUs; Triton only hands requests over.
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    set_parameters(config, {**tensors.parameters, **_parameters(name, engine, serving)})
    return config


def tokenizer_info(tokenizer: Path, end_ids: Iterable[int]) -> dict[str, Any]:
    """What guided decoding knows of a tokenizer, from its `tokenizer.json`.

    As NVIDIA's generate_xgrammar_tokenizer_info.py makes it (TensorRT-LLM 1.0.0,
    tensorrt_llm/llmapi/tokenizer.py, `_xgrammar_tokenizer_info`).
    """
    text = tokenizer.read_text(encoding="utf-8")
    vocabulary = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    return {
        "encoded_vocab": sorted(vocabulary, key=vocabulary.__getitem__),
        "tokenizer_str": text,
        "stop_token_ids": list(end_ids),
    }


def chunks_context(engine: EngineConfig, serving: TensorRtLlmServing) -> bool:
    """Whether long prompts are computed in steps, between which other requests proceed.

    Only engines with paged context attention can; reuse of cached beginnings needs it as well.
    """
    return engine.paged_context_fmha and serving.chunked_context


def _parameters(
    name: str, engine: EngineConfig, serving: TensorRtLlmServing
) -> dict[str, str | int | float]:
    parameters: dict[str, str | int | float] = {
        # Opened as it is, from wherever the server was started (model_instance_state.cc:
        # std::filesystem::exists), so a relative path will not do.
        "gpt_model_path": f"{MODEL_REPOSITORY}/{name}/1",
        "xgrammar_tokenizer_info_path": f"{MODEL_REPOSITORY}/{name}/1/{TOKENIZER_INFO}",
        "max_beam_width": engine.limits.max_beam_width,
        "batch_scheduler_policy": serving.scheduler_policy,
        "kv_cache_free_gpu_mem_fraction": serving.kv_cache_free_gpu_mem_fraction,
        "enable_kv_cache_reuse": _word(engine.paged_context_fmha and serving.kv_cache_reuse),
        "enable_chunked_context": _word(chunks_context(engine, serving)),
        "cancellation_check_period_ms": serving.cancellation_check_period_ms,
    }
    if serving.max_tokens_in_kv_cache is not None:
        parameters["max_tokens_in_paged_kv_cache"] = serving.max_tokens_in_kv_cache
    ranks = engine.mapping.world_size
    if ranks > 1:
        # Each rank its own GPU. The participants stay unnamed: they are all of mpirun's ranks.
        parameters["gpu_device_ids"] = ",".join(map(str, range(ranks)))
    return parameters


def _word(value: bool) -> str:
    return "true" if value else "false"


def _add(tensors: Any, wanted: Iterable[BackendTensor]) -> None:
    for each in wanted:
        tensor = tensors.add(
            name=each.name,
            data_type=model_config_pb2.DataType.Value(f"TYPE_{each.type}"),
            dims=each.dims,
        )
        if each.scalar:
            tensor.reshape.SetInParent()
        if each.optional:
            tensor.optional = True
        if each.ragged:
            tensor.allow_ragged_batch = True
