"""What the Logging service stores: groups, logs, and entries by time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from local_oci.deployments.models import LogReference, ModelDeployment
from local_oci.limits import LOG_RETENTION
from local_oci.logs.models import Log, LoggingWorkRequest, LogGroup
from local_oci.storage.database import Database
from local_oci.storage.ids import now
from local_oci.storage.records import Collection

Entry = dict[str, Any]


class Category(StrEnum):
    """What a deployment logs; the values are the end of an entry's `type`.

    Read in oracle/accelerated-data-science, tests/.../test_oci_logging.py.
    """

    ACCESS = "access"
    PREDICT = "predict"


class LogService:
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
        """Write lines of a deployment into the log that it names for them, if it names one.

        Args:
            deployment: whose lines they are.
            category: which of its logs.
            messages: the lines.
            data: further fields of each entry's data.
        """
        references = deployment.category_log_details
        if references is None:
            return
        reference = references.access if category is Category.ACCESS else references.predict
        log = None if reference is None else self._enabled(reference)
        if log is not None:
            self._write(log, deployment.id, category, messages, data)

    def _enabled(self, reference: LogReference) -> Log | None:
        log = self.logs.get(reference.log_id)
        return log if log is not None and log.is_enabled else None

    def _write(
        self,
        log: Log,
        source: str,
        category: Category,
        messages: Sequence[str],
        data: Mapping[str, Any],
    ) -> None:
        time = now()
        text = _rfc3339(time)
        with self._database.transaction():
            for message in messages:
                content = {
                    "id": str(uuid.uuid4()),
                    "specversion": "1.0",
                    "source": source,
                    "type": f"com.oraclecloud.datascience.modeldeployment.{category}",
                    "time": text,
                    "data": {"logEmissionTime": text, "message": message, **data},
                    "oracle": {
                        "compartmentid": log.compartment_id,
                        "ingestedtime": text,
                        "loggroupid": log.log_group_id,
                        "logid": log.id,
                        "tenantid": log.tenancy_id,
                    },
                }
                entry = {"datetime": int(time.timestamp() * 1000), "logContent": content}
                self._database.execute(
                    "INSERT INTO log_entries (log_id, time, document) VALUES (?, ?, ?)",
                    log.id,
                    time.timestamp(),
                    json.dumps(entry),
                )

    def read(
        self, log_ids: Iterable[str], start: datetime, end: datetime
    ) -> list[tuple[int, Entry]]:
        """Entries of some logs within [start, end), oldest first, with their serial numbers."""
        wanted = list(log_ids)
        places = ", ".join("?" * len(wanted))
        rows = self._database.execute(
            f"SELECT sequence, document FROM log_entries WHERE log_id IN ({places}) "
            "AND time >= ? AND time < ? ORDER BY sequence",
            *wanted,
            start.timestamp(),
            end.timestamp(),
        )
        return [(sequence, json.loads(document)) for sequence, document in rows]

    def delete(self, log: Log) -> None:
        """Delete a log with its entries."""
        with self._database.transaction():
            self._database.execute("DELETE FROM log_entries WHERE log_id = ?", log.id)
            self.logs.delete(log.id)

    def forget_old_entries(self) -> None:
        """Drop entries that are past their retention."""
        horizon = (now() - LOG_RETENTION).timestamp()
        self._database.execute("DELETE FROM log_entries WHERE time < ?", horizon)


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
