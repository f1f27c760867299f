"""Runs a GPU engine's build as a Data Science Job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.checkpoint.outline import HubFile, fetch_outline
from falconry.checkpoint.source import CheckpointSource
from falconry.cloud import emulator
from falconry.digests import DigestCache
from falconry.engine.tensorrt_llm.container import BuildRun
from falconry.engine.tensorrt_llm.memory import usable_bytes
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine_settings import MirrorSettings
from falconry.errors import EngineError, FalconryError, SettingsError
from falconry.findings import Finding, failures, verdict
from falconry.jobs.follow import FollowTimes
from falconry.jobs.request import JobRequest, JobResult, request_of
from falconry.oci_facts import gpu_shape
from falconry.pipeline import Report
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.cloud.session import Session
    from falconry.image.registry import RegistryProvider
    from falconry.jobs.bucket import JobBucket
    from falconry.jobs.runs import BuildJobs, JobSpec

# A build keeps the checkpoint, its converted form and the engine at a time.
_COPIES = 4
_LEAST_STORAGE_GB = 50


class JobRunner:
    """A BuildRunner.

    Args:
        settings: the profile's.
        build: the directory of the profile's outputs.
        digests: remembers those of checkpoints.
        registry: where the job's image is put.
        times: how often to look at a run.
    """

    def __init__(
        self,
        settings: Settings,
        build: Path,
        digests: DigestCache,
        registry: RegistryProvider,
        times: FollowTimes | None = None,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._job = settings.engine.job
        self._digests = digests
        self._times = times or FollowTimes()
        self._shape = gpu_shape(self._job.shape or settings.deployment.shape)
        self._outlines = build / "outlines"
        self._hub_files: Mapping[Path, HubFile] = {}
        self._request: JobRequest | None = None

    def plan(self, run: BuildRun, spec: GpuEngineSpec) -> Sequence[str]:
        """The job's machine, image, limit and price."""
        minutes = self._job.timeout_minutes
        network = f"subnet {self._job.subnet_id}" if self._job.subnet_id else "Oracle's network"
        return [
            f"job      {self._shape.name}, {self._storage_gb(spec)} GB of disk, {network}",
            f"image    {self._job.process_image or spec.image}",
            f"bucket   {self._mirror.bucket}: the checkpoint on its way there, the engine back",
            f"limit    {minutes} minutes{self._price(minutes)}",
            *(f"refused  {each.check}: {each.text}" for each in failures(self.checks(spec))),
        ]

    def checkpoint(self, source: CheckpointSource, report: Report) -> Path:
        """Of the hub's, unless it is here already, all but the weights, which the job fetches."""
        if source.hub is None or source.at_hand() is not None:
            return source.fetch(report)
        outline = fetch_outline(source.hub, self._outlines, report)
        self._hub_files = outline.weights
        return outline.directory

    def checks(self, spec: GpuEngineSpec) -> Sequence[Finding]:
        """Whether the job's GPUs are the engine's, and enough."""
        wanted, found = spec.shape, self._shape
        ranks = spec.recipe.parallelism.world_size
        remedy = "set engine.job.shape to a shape with such GPUs, or leave it out"
        return [
            verdict(
                "job's GPUs",
                found.sm == wanted.sm,
                f"{found.gpu}, as where the engine shall run",
                f"the job's {found.name} has {found.gpu} (SM {found.sm}), and the engine is for"
                f" {wanted.gpu} (SM {wanted.sm})",
                remedy,
            ),
            verdict(
                "job's GPUs",
                found.gpus >= ranks,
                f"{found.gpus} for {ranks} ranks",
                f"the job's {found.name} has {found.gpus} GPUs for {ranks} ranks",
                remedy,
            ),
        ]

    def gpu_bytes(self, spec: GpuEngineSpec) -> int:
        """Of the job's GPUs."""
        return spec.recipe.parallelism.world_size * usable_bytes(self._shape)

    def run(self, run: BuildRun, spec: GpuEngineSpec, report: Report) -> Mapping[str, Any]:
        """Builds in a job, or joins the run of another machine; see BuildRunner."""
        from falconry.jobs.bucket import JobBucket
        from falconry.jobs.runs import BuildJobs

        session = self._session(report)
        bucket, jobs = JobBucket(session, self._mirror), BuildJobs(session)
        prefix = self._mirror.prefix.strip("/")
        request = request_of(run, prefix, self._digests, self._hub_files)
        self._request = request
        result = bucket.result(request)
        if result is None:
            bucket.hand_over(request, report)
            self._build(run, spec, session, bucket, jobs, report)
            result = bucket.result(request)
        if result is None:
            raise EngineError(
                "the job run ended and left no engine, or the engine was removed",
                where=run.log,
                remedy="run the same command again",
            )
        self._fetch(result, run, session, report)
        self._remove(jobs, run.key, report)
        return {**result.documents["report.json"], "image": result.image}

    def reject(self, run: BuildRun) -> None:
        """Forgets the result, so that the next run builds anew."""
        from falconry.cloud.session import session_of
        from falconry.jobs.bucket import JobBucket

        if self._request:
            JobBucket(session_of(self._settings.cloud), self._mirror).discard(self._request)

    def _build(
        self,
        run: BuildRun,
        spec: GpuEngineSpec,
        session: Session,
        bucket: JobBucket,
        jobs: BuildJobs,
        report: Report,
    ) -> None:
        """Follows a run to its end, which it begins unless there is one."""
        from falconry.deployment.logs import Logs
        from falconry.jobs.follow import RunFollower

        assert self._request
        logs = Logs(session)
        running = jobs.running(run.key, self._request.digest)
        if running:
            report(f"joining the job run {running[0].id}", None)
            job_run = running[0]
        else:
            job_run = jobs.start(self._spec(run, spec, session, bucket, logs, report))
        follower = RunFollower(
            jobs, logs, run.log, self._times, may_load_by_shard=run.may_load_by_shard
        )
        try:
            follower.follow(job_run, report)
        except EngineError:
            self._remove(jobs, run.key, report)
            raise

    def _spec(
        self,
        run: BuildRun,
        spec: GpuEngineSpec,
        session: Session,
        bucket: JobBucket,
        logs: Any,
        report: Report,
    ) -> JobSpec:
        from falconry.deployment.catalog import Catalog
        from falconry.jobs.image import COMMAND
        from falconry.jobs.runs import JobSpec

        assert self._request
        image, digest, toolchain = self._image(spec, report)
        where = {
            "image": toolchain,
            "namespace": bucket.namespace,
            "bucket": bucket.bucket,
            "request": self._request.name,
            "token_secret": self._job.hub_token_secret,
            "endpoint": emulator.endpoint(local) if (local := self._local) else None,
        }
        return JobSpec(
            key=run.key,
            request=self._request.digest,
            project_id=Catalog(session).project(),
            image=image,
            image_digest=digest,
            command=COMMAND,
            variables={"FALCONRY_JOB": json.dumps({n: v for n, v in where.items() if v})},
            shape=self._shape.name,
            storage_gb=self._storage_gb(spec),
            subnet_id=self._job.subnet_id,
            timeout_minutes=self._job.timeout_minutes,
            log=logs.ensure(),
        )

    def _image(self, spec: GpuEngineSpec, report: Report) -> tuple[str, str | None, str]:
        """The job's image, its digest, and the toolchain's image."""
        if self._job.process_image:
            return self._job.process_image, None, spec.image
        from falconry.jobs.image import JobImage

        return JobImage(self._registry.connect(), spec.image, spec.toolchain).ensure(report)

    def _fetch(
        self,
        result: JobResult,
        run: BuildRun,
        session: Session,
        report: Report,
    ) -> None:
        from falconry.engine.mirror import ObjectStorageMirror

        mirror = ObjectStorageMirror(session, self._mirror)
        run.output.mkdir(parents=True, exist_ok=True)
        try:
            mirror.fetch_files(run.key, result.files, run.output, report)
        except EngineError:
            self.reject(run)
            raise
        for name, document in result.documents.items():
            (run.scratch / Path(name).name).write_text(json.dumps(dict(document)))

    def _remove(self, jobs: BuildJobs, key: str, report: Report) -> None:
        if self._job.keep:
            return
        try:
            jobs.remove(key)
        except FalconryError as error:
            report(f"warning: the job stays in the cloud: {error}", None)

    def _session(self, report: Report) -> Session:
        from falconry.cloud.session import session_of

        if self._local and emulator.why_start(self._local):
            report("starting the local cloud", None)
            emulator.start(self._local, registry=self._job.process_image is None)
        return session_of(self._settings.cloud)

    def _storage_gb(self, spec: GpuEngineSpec) -> int:
        needed = _COPIES * spec.checkpoint_bytes // 10**9 + _LEAST_STORAGE_GB
        return self._job.storage_gb or needed

    def _price(self, minutes: int) -> str:
        if self._job.prices is None:
            return ""
        from falconry.shapes.prices import read_prices

        table = read_prices(self._job.prices)
        hour = table.of_gpus(self._shape)
        if hour is None:
            return f"; {self._job.prices} has no price for {self._shape.name}"
        cost = f"{hour * minutes / 60:.2f} {table.currency}"
        return f", {cost} at most ({hour:g} {table.currency} an hour)"

    @property
    def _local(self) -> Any:
        return self._settings.cloud.emulator

    @property
    def _mirror(self) -> MirrorSettings:
        mirror = self._settings.engine.mirror
        if mirror is None:
            raise SettingsError("a job needs a bucket", where="engine.mirror")
        return mirror
