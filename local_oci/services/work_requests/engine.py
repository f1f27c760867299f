"""Runs work requests as tasks of the event loop and records how far they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from local_oci.services.work_requests.models import (
    UNFINISHED,
    Action,
    LogEntry,
    Operation,
    Status,
    WorkRequest,
    WorkRequestError,
    WorkRequestResource,
    final_action,
)
from local_oci.storage.records import Collection, Resource, new_ocid, now

# While the disk is full or no file can be opened, nothing can be recorded.
_RECORD_PAUSE_SECONDS = 1.0
_LONGEST_RECORD_PAUSE_SECONDS = 30.0

_log = logging.getLogger("local_oci.work_requests")


class WorkError(Exception):
    """A job that cannot be done; code and message reach the client through `/errors`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Work:
    """One run of a work request, as its workflow sees it."""

    def __init__(self, records: Collection[WorkRequest], work_request_id: str) -> None:
        self._records = records
        self._id = work_request_id

    @property
    def record(self) -> WorkRequest:
        """The current work request."""
        record = self._records.get(self._id)
        if record is None:
            raise KeyError(self._id)
        return record

    def step(self, message: str, percent: float) -> None:
        """Record what happens now and how much of the job is done."""
        record = self.record
        self._records.change(
            record, logs=(*record.logs, LogEntry(message=message)), percent_complete=percent
        )
        _log.info("%s %s: %s", record.operation_type, record.subject, message)

    def start(self) -> None:
        """Begin, forgetting what an interrupted run recorded."""
        self._records.change(
            self.record,
            status=Status.IN_PROGRESS,
            percent_complete=0.0,
            time_started=now(),
            logs=(),
            errors=(),
        )

    def succeed(self) -> None:
        """End well."""
        self._finish(Status.SUCCEEDED)

    def fail(self, failure: WorkError) -> None:
        """End badly. As in the cloud, a work request that failed is complete as well."""
        error = WorkRequestError(code=failure.code, message=failure.message)
        self.step(failure.message, 100.0)
        self._finish(Status.FAILED, error)

    def _finish(self, status: Status, *errors: WorkRequestError) -> None:
        record = self.record
        action = final_action(record.operation_type, succeeded=status is Status.SUCCEEDED)
        self._records.change(
            record,
            status=status,
            percent_complete=100.0,
            errors=errors,
            resources=tuple(
                each.model_copy(update={"action_type": action}) for each in record.resources
            ),
            time_finished=now(),
        )


def _leave(_subject: str, _failure: str) -> None:
    """What a failure does to a subject that is not changing its state."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """What an operation does.

    Args:
        run: does it; raises a `WorkError` if it cannot be done.
        give_up: brings the operation's subject, an OCID, into a final state after a failure, whose
            text it gets.
    """

    run: Callable[[Work], Awaitable[None]]
    give_up: Callable[[str, str], None] = _leave


class WorkRequests:
    """All work requests and the tasks that run them."""

    def __init__(self, records: Collection[WorkRequest]) -> None:
        self.records = records
        self._workflows: Mapping[Operation, Workflow] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def register(self, workflows: Mapping[Operation, Workflow]) -> None:
        """Say what each operation does; needed before `accept` and `resume`."""
        self._workflows = workflows

    def accept(
        self,
        operation: Operation,
        subject: Resource,
        entity_type: str,
        collection: str,
        *,
        parameters: str = "{}",
    ) -> WorkRequest:
        """Store a work request and start it.

        Args:
            operation: what to do.
            subject: the resource to do it with.
            entity_type: the type in the subject's OCID.
            collection: the part of the subject's path before its OCID.
            parameters: JSON that the workflow needs besides the subject.
        """
        resource = WorkRequestResource(
            action_type=Action.IN_PROGRESS,
            entity_type=entity_type,
            identifier=subject.id,
            entity_uri=f"/20190101/{collection}/{subject.id}",
        )
        record = self.records.put(
            WorkRequest(
                id=new_ocid("datascienceworkrequest"),
                compartment_id=subject.compartment_id,
                operation_type=operation,
                resources=(resource,),
                parameters=parameters,
            )
        )
        self._launch(record)
        return record

    def subjects(self) -> set[str]:
        """The resources on which an operation is running."""
        return {each.subject for each in self.records.scan() if each.status in UNFINISHED}

    def resume(self) -> None:
        """Run what an earlier process left unfinished, again from the beginning."""
        for record in list(self.records.scan()):
            if record.status in UNFINISHED:
                self._launch(record)

    async def shutdown(self) -> None:
        """Stop the running tasks; their work requests stay unfinished, for `resume`."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _launch(self, record: WorkRequest) -> None:
        task = asyncio.create_task(self._run(record), name=record.id)
        self._tasks[record.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(record.id, None))

    async def _run(self, record: WorkRequest) -> None:
        work = Work(self.records, record.id)
        workflow = self._workflows[record.operation_type]
        failure: WorkError | None = None
        try:
            if self.records.get(record.id) is None:
                return  # the request that it was part of failed
            work.start()
            await workflow.run(work)
        except WorkError as error:
            failure = error
        except Exception as error:
            _log.exception("%s failed by a fault of local_oci", record.id)
            text = f"local_oci failed ({type(error).__name__}: {error}); see its log."
            failure = WorkError("InternalServerError", text)
        pause = _RECORD_PAUSE_SECONDS
        while True:
            try:
                if failure is None:
                    work.succeed()
                else:
                    workflow.give_up(record.subject, failure.message)
                    work.fail(failure)
                return
            except Exception:
                _log.exception("the end of %s cannot be recorded yet", record.id)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RECORD_PAUSE_SECONDS)
