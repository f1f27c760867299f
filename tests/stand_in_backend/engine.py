"""STAND-IN engines, as the builder for TensorRT-LLM leaves them: no GPU has seen them.

The papers are real (config.json in its release's layout, engine.json, manifest.json), and so are
the tokenizer and the chat template; the engine files hold a word.
"""

import json
import shutil
from pathlib import Path

from falconry.checkpoint.tokenizer import write_chat
from falconry.engine.manifest import BuildRecord, EngineFile, GpuEngine, Manifest, write_manifest
from falconry.engine.toolchain import load_toolchains
from tests.stand_in_toolchain.tools.stand_in_checkpoint import model_facts

TINY = Path(__file__).parents[2] / "checkpoints/tiny-falcon"
LIMITS = {"max_batch_size": 8, "max_input_len": 256, "max_seq_len": 512}


def stand_in_engine(
    directory: Path,
    release: str,
    *,
    checkpoint: Path = TINY,
    tensor: int = 1,
    pipeline: int = 1,
    beams: int = 2,
    num_tokens: int = 512,
    context_fmha: bool = True,
    paged_context_fmha: bool = True,
) -> Path:
    """Writes an engine of a toolchain's row into a new directory."""
    row = load_toolchains().row(release)
    directory.mkdir(parents=True)
    mapping = {"world_size": tensor * pipeline, "tp_size": tensor, "pp_size": pipeline}
    config = {
        "version": row.tensorrt_llm,
        "pretrained_config": {**model_facts(str(TINY)), "mapping": mapping, "quantization": {}},
        "build_config": {
            **LIMITS,
            "max_beam_width": beams,
            "max_num_tokens": num_tokens,
            "plugin_config": {
                "remove_input_padding": True,
                "context_fmha": context_fmha,
                "tokens_per_block": 32,
                "use_paged_context_fmha": paged_context_fmha,
            },
        },
    }
    _write(directory / "config.json", config)
    for rank in range(tensor * pipeline):
        (directory / f"rank{rank}.engine").write_bytes(b"STAND-IN")
    shutil.copyfile(checkpoint / "tokenizer.json", directory / "tokenizer.json")
    write_chat(checkpoint, directory)
    serving = {"format": 2, "kind": "tensorrt_llm", "vocab_size": 512, **LIMITS}
    _write(directory / "engine.json", {**serving, "end_ids": [11], "pad_id": 11})
    gpu = GpuEngine(
        release=release,
        image=row.image,
        tensorrt_llm=row.tensorrt_llm,
        tensorrt=row.tensorrt,
        cuda=row.cuda,
        driver=row.driver,
        gpu="NVIDIA A10",
        sm=86,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        memory_bytes=1 << 30,
    )
    manifest = Manifest(
        key="5" * 64,
        builder="tensorrt_llm",
        toolchain={},
        ingredients={},
        description="stand-in",
        files={"config.json": EngineFile(size=1, sha256="0")},
        gpu=gpu,
    )
    write_manifest(directory, manifest, BuildRecord(built_at="", seconds=0.0, host=""))
    return directory


def _write(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
