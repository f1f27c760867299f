"""The deployment's log: found or made by name, and read through OCI's log search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import oci
from oci.logging import LoggingManagementClient
from oci.logging.models import CreateLogDetails, CreateLogGroupDetails
from oci.loggingsearch import LogSearchClient
from oci.loggingsearch.models import SearchLogsDetails

from falconry.cloud.session import Session, cloud_errors_told
from falconry.errors import CloudError

# Log search looks at 14 days at most in one query (Oracle, Logging Query Language).
_WINDOW = timedelta(days=14)
# The newest entries may bear a time that this machine's clock has not reached yet.
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a deployment logs to."""

    group_id: str
    log_id: str


class Logs:
    """The log group and the log that the profile names."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = session.client(LoggingManagementClient)

    def find(self) -> LogPlace | None:
        """The log, if it stands."""
        settings, compartment = self._session.settings, self._session.compartment_id
        with cloud_errors_told(f"looking for the log '{settings.log}'"):
            groups = self._client.list_log_groups(compartment, display_name=settings.log_group).data
            for group in groups:
                logs = self._client.list_logs(group.id, display_name=settings.log).data
                if logs:
                    return LogPlace(group.id, logs[0].id)
        return None

    def ensure(self) -> LogPlace:
        """The log, made when there is none.

        Raises:
            CloudError: it can be neither found nor made.
        """
        place = self.find()
        return place or self._make()

    def read(self, newest: int) -> Iterator[str]:
        """The newest lines of the log, oldest first: `time  text`.

        Raises:
            CloudError: there is no log, or the search was refused.
        """
        place = self.find()
        if place is None:
            raise CloudError("there is no log yet", remedy="run: make deploy")
        client: Any = self._session.client(LogSearchClient)
        end = datetime.now(UTC) + _CLOCK_SKEW
        query = (
            f'search "{self._session.compartment_id}/{place.group_id}/{place.log_id}" '
            "| sort by datetime desc"
        )
        details = SearchLogsDetails(time_start=end - _WINDOW, time_end=end, search_query=query)
        with cloud_errors_told("searching the log"):
            results = client.search_logs(details, limit=newest).data.results or []
        for result in reversed(results):
            yield _line(result.data["logContent"])

    def _make(self) -> LogPlace:
        settings, compartment = self._session.settings, self._session.compartment_id
        composite = oci.logging.LoggingManagementClientCompositeOperations(self._client)
        with cloud_errors_told(f"making the log '{settings.log}'"):
            groups = self._client.list_log_groups(compartment, display_name=settings.log_group).data
            if not groups:
                composite.create_log_group_and_wait_for_state(
                    CreateLogGroupDetails(
                        compartment_id=compartment, display_name=settings.log_group
                    ),
                    wait_for_states=["SUCCEEDED", "FAILED"],
                )
                groups = self._client.list_log_groups(
                    compartment, display_name=settings.log_group
                ).data
            composite.create_log_and_wait_for_state(
                groups[0].id,
                CreateLogDetails(display_name=settings.log, log_type="CUSTOM", is_enabled=True),
                wait_for_states=["SUCCEEDED", "FAILED"],
            )
        place = self.find()
        if place is None:
            raise CloudError("could not be made", where=settings.log)
        return place


def _line(content: dict[str, Any]) -> str:
    """An entry as one line; those of the access log bear a status and a latency (ADS, logging)."""
    data = content.get("data") or {}
    text = data.get("message", "")
    if "status" in data:
        text += f"  {data['status']}  {data.get('modelLatency', 0):.0f} ms"
    return f"{content.get('time', '')}  {text}"
