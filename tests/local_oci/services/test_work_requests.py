"""How a work request ends, whatever goes wrong, without a server."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from local_oci.home import DiskFullError
from local_oci.services.work_requests import engine
from local_oci.services.work_requests.engine import Work, WorkError, Workflow, WorkRequests
from local_oci.services.work_requests.models import Operation, Status, WorkRequest
from local_oci.storage.database import Database
from local_oci.storage.records import Collection, Resource

SUBJECT = Resource(id="ocid1.thing.oc1..a", compartment_id="ocid1.tenancy.oc1..a")
FULL = sqlite3.OperationalError("database or disk is full")
FULL.sqlite_errorcode = sqlite3.SQLITE_FULL


class Records(Collection[WorkRequest]):
    """Records on a disk that is full for some writes of an end."""

    refusals = 0

    def put(self, record: WorkRequest) -> WorkRequest:
        if record.percent_complete == 100 and self.refusals:
            self.refusals -= 1
            raise FULL
        return super().put(record)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "state.sqlite3")


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database, "work_request", WorkRequest, lambda record: record.id)


def run(
    records: Records, workflow: Workflow, accept: Callable[[WorkRequests], WorkRequest | None]
) -> WorkRequest | None:
    """Accept a work request and wait for its end."""

    async def accepted() -> WorkRequest | None:
        requests = WorkRequests(records)
        requests.register({Operation.CREATE_DEPLOYMENT: workflow})
        record = accept(requests)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)
        return record and records.get(record.id)

    return asyncio.run(accepted())


def creation(requests: WorkRequests) -> WorkRequest:
    return requests.accept(Operation.CREATE_DEPLOYMENT, SUBJECT, "thing", "things")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (WorkError("ImagePullFailed", "no such image"), "ImagePullFailed", "no such image"),
        (OSError(24, "Too many open files"), "InternalServerError", "Too many open files"),
        (FULL, "InternalServerError", "disk is full"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_of_any_kind_is_recorded_and_brings_the_subject_into_a_final_state(
    records: Records, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, said: str
) -> None:
    """Also when the first two attempts to record it fail."""
    monkeypatch.setattr(engine, "_RECORD_PAUSE_SECONDS", 0.0)
    records.refusals = 2
    given_up: list[tuple[str, str]] = []

    async def fail(work: Work) -> None:
        raise error

    workflow = Workflow(fail, lambda subject, text: given_up.append((subject, text)))
    record = run(records, workflow, creation)
    assert record is not None
    assert (record.status, record.errors[-1].code) == (Status.FAILED, code)
    assert said in record.errors[-1].message
    assert {subject for subject, _ in given_up} == {SUBJECT.id}
    assert said in given_up[-1][1]


def test_a_success_that_cannot_be_recorded_at_first_is_recorded_later(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_RECORD_PAUSE_SECONDS", 0.0)
    records.refusals = 3

    async def nothing(work: Work) -> None:
        return

    record = run(records, Workflow(nothing), creation)
    assert record is not None and record.status is Status.SUCCEEDED


def test_what_is_accepted_in_a_change_that_fails_never_runs(
    records: Records, database: Database
) -> None:
    ran: list[Work] = []

    async def remember(work: Work) -> None:
        ran.append(work)

    def accept_and_fail(requests: WorkRequests) -> None:
        with pytest.raises(DiskFullError), database.transaction():
            creation(requests)
            raise FULL

    run(records, Workflow(remember), accept_and_fail)
    assert (ran, list(records.scan())) == ([], [])


def test_a_transaction_in_another_is_part_of_it(database: Database) -> None:
    insert = "INSERT INTO records VALUES (?, ?, ?)"
    with pytest.raises(DiskFullError), database.transaction():
        with database.transaction():
            database.execute(insert, "kind", "key", "{}")
        raise FULL
    with database.transaction():
        database.execute(insert, "kind", "key", "{}")
    assert database.execute("SELECT COUNT(*) FROM records").fetchone() == (1,)
