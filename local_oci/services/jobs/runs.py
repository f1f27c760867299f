"""The runs of jobs: their containers, states, limits and logs."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from local_oci.home import Home
from local_oci.identity import Identity
from local_oci.limits import DEFAULT_SHM_SIZE, JOB_RUNTIME
from local_oci.runtime.artifact import remove_tree
from local_oci.runtime.runner import Container, Launch, PullError, Runner, StartError, Stream
from local_oci.services.faults.plan import FaultPlan
from local_oci.services.jobs.models import UNFINISHED, Job, JobRun, JobState, RunState
from local_oci.services.logs.store import LogStore
from local_oci.services.sessions.issuing import job_run_principal
from local_oci.services.work_requests.engine import WorkError
from local_oci.storage.database import Database
from local_oci.storage.records import Collection, now

_LOST = "The job run was lost when local_oci ended."
_log = logging.getLogger("local_oci.jobs")


class _FailedError(Exception):
    """Unwinds a run that failed; the text is its lifecycle details."""


class Jobs:
    """All jobs and runs of a cloud, and the containers of those that have not ended."""

    def __init__(
        self,
        database: Database,
        home: Home,
        identity: Identity,
        runner: Runner,
        logs: LogStore,
        faults: FaultPlan,
    ) -> None:
        self.jobs = Collection(database, "job", Job, lambda record: record.id)
        self.runs = Collection(database, "job_run", JobRun, lambda record: record.id)
        self._home = home
        self._identity = identity
        self._runner = runner
        self._logs = logs
        self._faults = faults
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def runs_of(self, job_id: str) -> Iterator[JobRun]:
        """All runs of a job."""
        return (run for run in self.runs.scan() if run.job_id == job_id)

    def begin(self, run: JobRun) -> None:
        """Let a run's container run."""
        task = asyncio.create_task(self._run(run))
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run.id, None))

    def cancel(self, run: JobRun) -> None:
        """Stop a run; it is CANCELED when nothing of it is left."""
        self._change(run.id, RunState.CANCELING)
        if task := self._tasks.get(run.id):
            task.cancel()

    def settle(self) -> None:
        """Give up the runs that an earlier process left."""
        for run in list(self.runs.scan()):
            if not run.ended:
                self._end(run.id, RunState.FAILED, _LOST)

    async def shutdown(self) -> None:
        """Stop all runs; they have failed."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, run: JobRun) -> None:
        directory = self._home.deployments / f"{run.id}.{secrets.token_hex(4)}"
        try:
            await self._run_in(directory, run)
            state, details = RunState.SUCCEEDED, None
        except _FailedError as failure:
            state, details = RunState.FAILED, str(failure)
        except asyncio.CancelledError:
            current = self.runs.get(run.id)
            cancelled = current is not None and current.lifecycle_state is RunState.CANCELING
            state = RunState.CANCELED if cancelled else RunState.FAILED
            details = "The job run was cancelled." if cancelled else _LOST
        except Exception as error:  # a full disk, too few open files
            _log.exception("%s", run.id)
            state, details = RunState.FAILED, f"local_oci failed: {error}"
        await asyncio.to_thread(remove_tree, directory)
        self._end(run.id, state, details)

    async def _run_in(self, directory: Path, run: JobRun) -> None:
        await asyncio.to_thread(directory.mkdir)
        container = await self._start(directory, run)
        try:
            self._change(run.id, RunState.IN_PROGRESS, time_started=now())
            await self._wait(container, run)
        finally:
            await asyncio.shield(container.stop())

    async def _start(self, directory: Path, run: JobRun) -> Container:
        what = run.container
        try:
            self._faults.take_job_fault()
            image = await self._runner.pull(what.image, what.image_digest, lambda _: None)
            launch = await asyncio.to_thread(self._launch, directory, run, image)
            return await self._runner.start(launch)
        except WorkError as failure:
            raise _FailedError(failure.message) from failure
        except (PullError, StartError) as error:
            raise _FailedError(f"Job run bootstrap failure: {error}") from error

    async def _wait(self, container: Container, run: JobRun) -> None:
        minutes = run.configuration.maximum_runtime_in_minutes
        longest = JOB_RUNTIME if minutes is None else timedelta(minutes=minutes)
        try:
            async with asyncio.timeout(longest.total_seconds()):
                how = await container.wait()
        except TimeoutError:
            raise _FailedError(
                f"Job run exceeded the maximum runtime of {longest.total_seconds() / 60:g} minutes."
            ) from None
        if container.status is None:
            raise _FailedError(f"The container {how}.")
        if container.status:
            raise _FailedError(f"Job run failed with exit code {container.status}: it {how}.")

    def _launch(self, directory: Path, run: JobRun, image: str) -> Launch:
        configuration, what = run.configuration, run.container
        arguments = shlex.split(configuration.command_line_arguments or "")
        longest = timedelta(minutes=configuration.maximum_runtime_in_minutes or 0) or JOB_RUNTIME
        return Launch(
            image=image,
            entrypoint=what.entrypoint or (),
            cmd=(*(what.cmd or ()), *arguments),
            environment={
                **configuration.environment_variables,
                **job_run_principal(
                    self._home, self._identity, run.id, run.compartment_id, longest
                ),
                **self._service_variables(run),
            },
            server_port=0,
            health_port=0,
            model=None,
            directory=directory,
            shm_size=DEFAULT_SHM_SIZE,
            output=self._output_of(run),
        )

    def _service_variables(self, run: JobRun) -> dict[str, str]:
        """What the service itself sets (jobs-env-vars.htm)."""
        return {
            "TENANCY_OCID": self._identity.tenancy,
            "PROJECT_OCID": run.project_id,
            "PROJECT_COMPARTMENT_OCID": run.compartment_id,
            "JOB_OCID": run.job_id,
            "JOB_COMPARTMENT_OCID": run.compartment_id,
            "JOB_RUN_OCID": run.id,
            "JOB_RUN_COMPARTMENT_OCID": run.compartment_id,
        }

    def _output_of(self, run: JobRun) -> Callable[[Stream, list[str]], None]:
        path = self._home.outputs / f"{run.id}.log"

        def output(stream: Stream, lines: list[str]) -> None:
            with path.open("a") as file:
                file.writelines(f"{line}\n" for line in lines)
            kind = f"com.oraclecloud.datascience.jobrun.{stream}"
            self._logs.write(run.log_details, run.id, kind, lines)

        return output

    def _change(self, run_id: str, state: RunState, **fields: object) -> None:
        run = self.runs.get(run_id)
        # A run that is being cancelled does not begin any more.
        late = run is not None and run.lifecycle_state is RunState.CANCELING
        if run is not None and run.lifecycle_state in UNFINISHED and not late:
            self.runs.change(run, lifecycle_state=state, **fields)

    def _end(self, run_id: str, state: RunState, details: str | None) -> None:
        run = self.runs.get(run_id)
        if run is not None:
            self.runs.change(
                run, lifecycle_state=state, lifecycle_details=details, time_finished=now()
            )

    def live_job(self, job_id: str) -> Job | None:
        """A job that is not deleted."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.lifecycle_state is JobState.ACTIVE else None
