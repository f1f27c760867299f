"""A profile's GPU engine: checked, built inside NVIDIA's image, checked again."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from falconry.checkpoint.architecture import family_note
from falconry.checkpoint.files import TOKENIZER
from falconry.checkpoint.source import CheckpointSource
from falconry.checkpoint.tokenizer import read_chat, write_chat
from falconry.cloud.shapes import gpu_shape_of
from falconry.data_files import project_file
from falconry.digests import DigestCache, value_digest
from falconry.engine.builder import BuildResult, Finished
from falconry.engine.manifest import SERVING_FILE, GpuEngine
from falconry.engine.tensorrt_llm.answers import (
    OFF,
    Reference,
    compare,
    load_answers,
    not_compared,
    question,
    reference_for,
    with_questions,
)
from falconry.engine.tensorrt_llm.commands import (
    CHECKPOINT,
    PLAN,
    QUESTION,
    Phase,
    phases,
    plan_document,
    shell_lines,
)
from falconry.engine.tensorrt_llm.container import BUILD_SCRIPT_SOURCE, BuildRun
from falconry.engine.tensorrt_llm.container_view import ContainerFile, container_view, view_digest
from falconry.engine.tensorrt_llm.engine_config import check_engine
from falconry.engine.tensorrt_llm.memory import estimate, usable_bytes
from falconry.engine.tensorrt_llm.recipe import load_gpu_recipe
from falconry.engine.tensorrt_llm.runner import BuildRunner, HostRunner
from falconry.engine.tensorrt_llm.spec import (
    GpuEngineSpec,
    ModelFacts,
    chosen_source,
    facts_of,
    model_facts,
    require_source,
)
from falconry.engine.tensorrt_llm.spec_checks import may_load_by_shard, spec_checks
from falconry.engine.toolchain import load_toolchains
from falconry.errors import EngineError
from falconry.files import remove
from falconry.findings import Finding, State, failures, refuse
from falconry.pipeline import Report
from falconry.progress import human_count
from falconry.settings import Settings

# Raised whenever the same inputs would give other engines.
_VERSION = "4"

# NCCL and TensorRT-LLM's worker processes share memory; Docker's own 64 MiB stop them
# (TensorRT-LLM 1.0.0, docs/source/installation: `--ipc=host`, or a larger /dev/shm).
_SHM_BYTES = 8 << 30

# How a plan names the states of its checks.
_PLAN_STATES: Mapping[State, str] = {
    "ok": "checked",
    "skipped": "checked",
    "warning": "warning",
    "failed": "refused",
}

# In the plan for a checkpoint that is not here.
_UNKNOWN_VIEW = (ContainerFile(CHECKPOINT, Path("CHECKPOINT")),)


class TensorRtLlmJob:
    """An EngineJob; `build` keeps logs, scratch and the timing cache.

    `runner` runs the build's container, this machine when left out.
    """

    builder = "tensorrt_llm"

    def __init__(
        self,
        settings: Settings,
        build: Path,
        digests: DigestCache,
        runner: BuildRunner | None = None,
    ) -> None:
        self._build = build
        self._runner = runner or HostRunner(build)
        self._store = settings.engine.store
        self._digests = digests
        self._recipe = load_gpu_recipe(settings.recipe)
        self._toolchain = load_toolchains().row(settings.engine.toolchain)
        self._shape = gpu_shape_of(settings)
        self._image = settings.engine.image
        self._verify = settings.engine.verify == "on"
        self._answers = load_answers()
        self._source = chosen_source(settings.checkpoint, self._recipe.model)

    @property
    def checkpoint_name(self) -> str:
        """The checkpoint's name for people."""
        return self._source.name if self._source else str(self._recipe.model.hub)

    def inputs(self) -> Mapping[str, str]:
        """Checkpoint, recipe, toolchain and GPU architecture; see EngineJob."""
        source, row = self._source, self._toolchain
        recipe = self._recipe.model_dump(mode="json", exclude={"description", "model"})
        return {
            "checkpoint": self._checkpoint_digest(source) if source else "no commit is named",
            "recipe": value_digest(recipe),
            "builder": f"{self.builder} {_VERSION}",
            "toolchain": f"{row.release}: TensorRT-LLM {row.tensorrt_llm}, TensorRT {row.tensorrt}",
            "image": self._image_reference(),
            "build script": self._digests.file(project_file(BUILD_SCRIPT_SOURCE)),
            "GPU": f"SM {self._shape.sm}",
        }

    def plan(self, key: str) -> Sequence[str]:
        """The key, the container's command, what runs inside it, and every check."""
        facts = model_facts(self._source, self._recipe.model)
        lines = [f"key      {key}" if self._source else f"key      {self._missing_commit()}"]
        if facts is None:
            return [*lines, "checks   when the checkpoint is here: its config.json is not known"]
        spec = self._spec(facts)
        directory = self._source.at_hand() if self._source else None
        view = container_view(directory) if directory else _UNKNOWN_VIEW
        run = self._run(key, spec, view, self._store / key, self._build / "scratch")
        lines += self._runner.plan(run, spec)
        checks = spec_checks(spec)
        if not failures(checks):
            ranks = spec.recipe.parallelism.world_size
            reference = self._reference(spec, ranks * usable_bytes(spec.shape))
            inside = shell_lines(_phases(spec, reference))
            lines += [f"inside   {line}" for line in inside]
            lines.append(_verify_line(reference))
        return [*lines, *_check_lines(checks)]

    def build(self, key: str, output: Path, report: Report, finished: Finished) -> BuildResult:
        """Builds it in the toolchain's image; see EngineJob."""
        source = require_source(self._source, self._recipe.model)
        known = model_facts(source, self._recipe.model)
        report("checking", 0.0)
        if known and not known.at_hand:  # before gigabytes are fetched in vain
            self._check(self._spec(known))
        directory = self._runner.checkpoint(source, report)
        spec = self._spec(facts_of(directory))
        self._check(spec)
        if note := family_note(spec.architecture):
            report(f"warning: {note}", None)
        read_chat(directory)  # a broken template is reported before the long build
        scratch_root = self._build / "scratch"
        scratch_root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=scratch_root))
        try:
            run = self._run(key, spec, container_view(directory), output, scratch)
            reference = self._reference(spec, self._runner.gpu_bytes(spec))
            document = plan_document(spec, _phases(spec, reference))
            (scratch / PLAN.name).write_text(json.dumps(document))
            if reference:
                asking = json.dumps(question(spec, directory, self._answers))
                (scratch / QUESTION.name).write_text(asking)
            found = self._runner.run(run, spec, report)
            verified = self._verified(run, spec, reference, directory)
        finally:
            remove(scratch)
        if skipped := not_compared(verified):
            report(f"warning: {skipped}", None)
        shutil.copyfile(directory / TOKENIZER, output / TOKENIZER)
        write_chat(directory, output)
        _write_serving(spec, output)
        return self._built(spec, found, verified)

    def _verified(
        self, run: BuildRun, spec: GpuEngineSpec, reference: Reference | None, directory: Path
    ) -> str:
        """Checks what was built; gives what its answers were compared with."""
        try:
            check_engine(run.output, spec)
            if reference is None:
                return OFF
            return compare(spec, reference, directory, run.scratch, run.log, self._answers)
        except EngineError:
            self._runner.reject(run)
            raise

    def _check(self, spec: GpuEngineSpec) -> None:
        checks = [*spec_checks(spec), *self._runner.checks(spec)]
        refuse(checks, EngineError, "this engine")

    def _reference(self, spec: GpuEngineSpec, gpu_bytes: int) -> Reference | None:
        """What the engine's answers are compared with; None with engine.verify off."""
        if not self._verify:
            return None
        hub = self._source.hub if self._source else None
        name = f"hub:{hub.repository}@{hub.revision}" if hub else None
        return reference_for(spec, name, gpu_bytes, self._answers)

    def _spec(self, facts: ModelFacts) -> GpuEngineSpec:
        return GpuEngineSpec.of(facts, self._recipe, self._toolchain, self._shape, self._image)

    def _checkpoint_digest(self, source: CheckpointSource) -> str:
        """Of the container's view: `auto_map` and RoPE's spelling change no engine."""
        if source.path:
            return view_digest(source.path, self._digests)
        return source.digest(self._digests)

    def _run(
        self,
        key: str,
        spec: GpuEngineSpec,
        checkpoint: tuple[ContainerFile, ...],
        output: Path,
        scratch: Path,
    ) -> BuildRun:
        dataset = spec.recipe.calibration.dataset if spec.recipe.calibration else ""
        local = Path(dataset) if dataset.startswith("/") else None
        sm = spec.shape.sm
        return BuildRun(
            key=key,
            image=spec.image,
            checkpoint=checkpoint,
            output=output.absolute(),
            scratch=scratch.absolute(),
            cache=(self._build / "timing" / f"{spec.toolchain.release}-sm{sm}").absolute(),
            calibration=local,
            gpus=spec.recipe.parallelism.world_size,
            network=bool(dataset) and local is None,
            shm_bytes=_SHM_BYTES,
            log=(self._build / "logs" / f"engine-{key[:12]}.log").absolute(),
            environment={},
            may_load_by_shard=may_load_by_shard(spec) and not spec.recipe.load_by_shard,
        )

    def _image_reference(self) -> str:
        return self._image or self._toolchain.reference

    def _missing_commit(self) -> str:
        hub = self._recipe.model.hub
        return f"not known before the commit is: CHECKPOINT=hub:{hub}@<40 hex digits>"

    def _built(self, spec: GpuEngineSpec, found: Mapping[str, Any], verified: str) -> BuildResult:
        parallel = spec.recipe.parallelism
        weights = (
            spec.recipe.dtype if spec.recipe.quantization == "none" else spec.recipe.quantization
        )
        gpu = GpuEngine(
            release=spec.toolchain.release,
            image=str(found.get("image", spec.image)),
            tensorrt_llm=found["tensorrt_llm"],
            tensorrt=found["tensorrt"],
            cuda=found["cuda"],
            driver=found["driver"],
            gpu=found["gpu"],
            sm=found["sm"],
            tensor_parallel=parallel.tensor,
            pipeline_parallel=parallel.pipeline,
            memory_bytes=estimate(spec).needed,
            verified=verified,
        )
        size = f"{human_count(spec.num_parameters)} parameters"
        parts = (self.builder, spec.architecture.family, weights, size, f"{gpu.gpu} (SM {gpu.sm})")
        return BuildResult(
            description=" · ".join(parts),
            toolchain={
                "builder": _VERSION,
                "tensorrt_llm": gpu.tensorrt_llm,
                "tensorrt": gpu.tensorrt,
                "cuda": gpu.cuda,
            },
            gpu=gpu,
        )


def _phases(spec: GpuEngineSpec, reference: Reference | None) -> tuple[Phase, ...]:
    building = phases(spec, spec.recipe.parallelism.world_size)
    return with_questions(building, spec, reference) if reference else building


def _verify_line(reference: Reference | None) -> str:
    if reference is None:
        return "warning  answers: not compared, engine.verify is off"
    if reference.problem:
        return f"warning  answers: cannot be compared, {reference.problem}"
    others = "transformers' in the container" if reference.in_container else "recorded ones"
    return f"checked  answers: the engine's are compared with {others} before it is stored"


def _check_lines(checks: Sequence[Finding]) -> list[str]:
    lines = []
    for check in checks:
        remedy = f"; {check.remedy}" if check.remedy else ""
        lines.append(f"{_PLAN_STATES[check.state]}  {check.check}: {check.text}{remedy}")
    return lines


def _write_serving(spec: GpuEngineSpec, engine: Path) -> None:
    """`engine.json`, the part that every kind of engine has."""
    limits = spec.recipe.limits
    serving = {
        "format": 2,
        "kind": TensorRtLlmJob.builder,
        "vocab_size": spec.architecture.vocab_size,
        "max_batch_size": limits.max_batch_size,
        "max_input_len": limits.max_input_len,
        "max_seq_len": limits.max_seq_len,
        "end_ids": spec.end_ids,
        "pad_id": spec.pad_id,
    }
    (engine / SERVING_FILE).write_text(json.dumps(serving, indent=2) + "\n", encoding="utf-8")
