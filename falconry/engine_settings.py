"""The profile's `[engine]`: how engines are built, where, and where they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from falconry.data_files import Section


class MirrorSettings(Section):
    """An Object Storage bucket that build runners share engines through.

    Attributes:
        bucket: its name.
        prefix: what the names of its objects begin with.
    """

    bucket: str
    prefix: str = "engines"


class JobSettings(Section):
    """The Data Science Job that builds an engine with `run = "job"`.

    Attributes:
        shape: of its machine; the deployment's when left out. Its GPUs have to be of the same kind.
        storage_gb: its disk, in GB; a multiple of the checkpoint's size when left out.
        subnet_id: a network of the user's; Oracle's own, with internet, when left out.
        timeout_minutes: the limit of a run, which the cloud ends then.
        keep: whether the job and its runs stay in the cloud afterwards.
        hub_token_secret: OCID of the OCI Vault secret with a token for the hub.
        prices: a price table, for what the plan says a run costs at most.
        process_image: for the emulator: the name of a process image with the toolchain, which
            replaces its image.
    """

    shape: str | None = None
    storage_gb: Annotated[int, Field(ge=50)] | None = None
    subnet_id: str | None = None
    timeout_minutes: Annotated[int, Field(ge=1)] = 240
    keep: bool = False
    hub_token_secret: Annotated[str, Field(pattern=r"^ocid1\.vaultsecret\.")] | None = None
    prices: Path | None = None
    process_image: str | None = None


class EngineSettings(Section):
    """How engines are built and where they are kept.

    Attributes:
        builder: OpenVINO for CPUs, TensorRT-LLM for NVIDIA GPUs.
        run: where GPU engines are built: on this machine, or by a job in Oracle's cloud, which
            leaves them in the mirror.
        store: the directory of finished engines.
        toolchain: TensorRT-LLM's row in engine/toolchains.toml; its default when left out.
        image: replaces the row's image.
        verify: whether a new GPU engine must answer as its checkpoint does to enter the store.
        mirror: a bucket that engines are fetched from and put into.
    """

    builder: Literal["openvino", "tensorrt_llm"]
    run: Literal["host", "job"] = "host"
    store: Path
    toolchain: str | None = None
    image: str | None = None
    verify: Literal["on", "off"] = "on"
    mirror: MirrorSettings | None = None
    job: JobSettings = JobSettings()

    @model_validator(mode="after")
    def _job_can_leave_its_engine(self) -> EngineSettings:
        if self.run == "job" and self.builder != "tensorrt_llm":
            raise ValueError('run = "job" is for engines of the builder tensorrt_llm')
        if self.run == "job" and self.mirror is None:
            raise ValueError(
                'run = "job" needs [engine.mirror] with a bucket, where the job leaves the engine'
            )
        return self
