"""What the Logging service stores: groups, logs, and entries by time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from local_oci.http.messages import read_json
from local_oci.services.deployments.models import LogReference, ModelDeployment
from local_oci.services.logs.models import Log, LoggingWorkRequest, LogGroup
from local_oci.storage.database import Database
from local_oci.storage.records import Collection, now

Entry = dict[str, Any]
# Time in seconds and serial number of an entry, by which entries are in order.
Position = tuple[float, int]


class Category(StrEnum):
    """What a deployment logs; the values are the end of an entry's `type`.

    Read in oracle/accelerated-data-science, tests/.../test_oci_logging.py.
    """

    ACCESS = "access"
    PREDICT = "predict"


@dataclass(frozen=True, slots=True)
class PushedEntry:
    """An entry on its way into a log.

    Args:
        identifier: unique id.
        source: what wrote it, such as a deployment's OCID.
        kind: its `type`, such as "com.oraclecloud.datascience.modeldeployment.predict".
        time: when it was written.
        data: what it says: fields, or text, which becomes the field `message` unless it is a JSON
            object [inferred].
    """

    identifier: str
    source: str
    kind: str
    time: datetime
    data: str | dict[str, Any]

    @property
    def fields(self) -> dict[str, Any]:
        """What it says, as fields."""
        if isinstance(self.data, dict):
            return self.data
        try:
            value = read_json(self.data)
        except ValueError:
            value = None
        return value if isinstance(value, dict) else {"message": self.data}


class LogStore:
    """The logs of one cloud."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.groups = Collection(database, "log_group", LogGroup, lambda record: record.id)
        self.logs = Collection(database, "log", Log, lambda record: record.id)
        self.work_requests = Collection(
            database, "logging_work_request", LoggingWorkRequest, lambda record: record.id
        )

    def write_deployment(
        self, deployment: ModelDeployment, category: Category, messages: Sequence[str], **data: Any
    ) -> None:
        """Write lines of a deployment into the log that it names for them, if it names one."""
        references = deployment.category_log_details
        if references is None:
            return
        reference = references.access if category is Category.ACCESS else references.predict
        kind = f"com.oraclecloud.datascience.modeldeployment.{category}"
        self.write(reference, deployment.id, kind, messages, **data)

    def write(
        self,
        reference: LogReference | None,
        source: str,
        kind: str,
        messages: Sequence[str],
        **data: Any,
    ) -> None:
        """Write lines of a resource into a log, if it exists and is enabled."""
        log = None if reference is None else self._enabled(reference)
        if log is None:
            return
        time = now()
        contents = [
            PushedEntry(
                identifier=str(uuid.uuid4()),
                source=source,
                kind=kind,
                time=time,
                data={"logEmissionTime": rfc3339(time), "message": message, **data},
            )
            for message in messages
        ]
        self.push(log, contents)

    def _enabled(self, reference: LogReference) -> Log | None:
        log = self.logs.get(reference.log_id)
        return log if log is not None and log.is_enabled else None

    def push(self, log: Log, entries: Sequence[PushedEntry]) -> None:
        """Write entries into a log."""
        ingested = rfc3339(now())
        oracle = {
            "compartmentid": log.compartment_id,
            "ingestedtime": ingested,
            "loggroupid": log.log_group_id,
            "logid": log.id,
            "tenantid": log.tenancy_id,
        }
        with self._database.transaction():
            for entry in entries:
                content = {
                    "id": entry.identifier,
                    "specversion": "1.0",
                    "source": entry.source,
                    "type": entry.kind,
                    "time": rfc3339(entry.time),
                    "data": entry.fields,
                    "oracle": oracle,
                }
                seconds = entry.time.timestamp()
                document = {"datetime": int(seconds * 1000), "logContent": content}
                self._database.execute(
                    "INSERT INTO log_entries (log_id, time, document) VALUES (?, ?, ?)",
                    log.id,
                    seconds,
                    json.dumps(document),
                )

    def read(
        self, log_ids: Iterable[str], start: datetime, end: datetime
    ) -> list[tuple[Position, Entry]]:
        """Entries of some logs within [start, end), oldest first, with their positions."""
        wanted = list(log_ids)
        marks = ", ".join("?" * len(wanted))
        rows = self._database.execute(
            f"SELECT time, sequence, document FROM log_entries WHERE log_id IN ({marks}) "
            "AND time >= ? AND time < ? ORDER BY time, sequence",
            *wanted,
            start.timestamp(),
            end.timestamp(),
        )
        return [((time, sequence), json.loads(document)) for time, sequence, document in rows]

    def delete(self, log: Log) -> None:
        """Delete a log with its entries."""
        with self._database.transaction():
            self._database.execute("DELETE FROM log_entries WHERE log_id = ?", log.id)
            self.logs.delete(log.id)

    def forget_old_entries(self) -> None:
        """Drop entries that are past their retention."""
        for log in self.logs.scan():
            horizon = (now() - timedelta(days=log.retention_duration)).timestamp()
            self._database.execute(
                "DELETE FROM log_entries WHERE log_id = ? AND time < ?", log.id, horizon
            )


def rfc3339(time: datetime) -> str:
    """A time as log entries have it."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
