"""The deployment's logs, read and followed through OCI's log search.

What OCI calls the predict log holds what the container writes; the access log its requests. Both
may be one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import oci
from oci.logging import LoggingManagementClient
from oci.logging.models import CreateLogDetails, CreateLogGroupDetails
from oci.loggingsearch import LogSearchClient
from oci.loggingsearch.models import SearchLogsDetails

from falconry.cloud.session import Session, translate_cloud_errors
from falconry.errors import CloudError

# Log search looks at 14 days at most in one query (Oracle, Logging Query Language), and gives 1000
# entries at most at a time (oracle/accelerated-data-science, ads/common/oci_logging.py).
_WINDOW = timedelta(days=14)
_MOST_RESULTS = 1000
# How late an entry may enter the log and still be followed: OCI ingests in batches [inferred].
_LATENESS = timedelta(minutes=2)
_FOLLOW_PAUSE_S = 2.0
# How many entries of a job are read between two looks.
_MOST_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class LogIds:
    """OCIDs of the logs of a container's output and of its requests."""

    group_id: str
    log_id: str
    access_log_id: str

    @property
    def log_ids(self) -> list[str]:
        """The logs' OCIDs, each once."""
        return list(dict.fromkeys((self.log_id, self.access_log_id)))


class Logs:
    """The log group and the logs that the profile names."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = session.client(LoggingManagementClient)

    def find(self) -> LogIds | None:
        """Finds the logs; None if one of them does not exist."""
        group_id = self._find_group()
        if group_id is None:
            return None
        found = [self._find_log(group_id, name) for name in self._names()]
        return LogIds(group_id, found[0], found[1]) if found[0] and found[1] else None

    def ensure(self) -> LogIds:
        """Finds the logs, or creates them.

        Raises:
            CloudError: they can be neither found nor created.
        """
        return self.find() or self._make()

    def read(self, newest: int, source: str | None = None) -> Iterator[str]:
        """Reads a number of newest lines, oldest first.

        With a deployment's OCID as source it reads only the lines of that deployment.

        Raises:
            CloudError: there is no log, or the search was refused.
        """
        yield from (_line(entry) for entry in self._newest(newest, source))

    def container_lines(self, newest: int, source: str, since: datetime) -> list[str]:
        """Reads the newest lines that a deployment's container wrote, without their times."""
        entries = self._newest(newest, source, since)
        return [
            str((entry.get("data") or {}).get("message", ""))
            for entry in entries
            if _category(entry) != "access"
        ]

    def follow(self, newest: int, source: str | None = None) -> Iterator[str]:
        """Reads the newest lines, then each new line, without end.

        Entries come in the order of their times, except for those that enter the log late.
        """
        begun = datetime.now(UTC)
        seen: dict[str, datetime] = {}
        entries = self._newest(newest, source)
        while True:
            for entry in entries:
                if entry.get("id") not in seen:
                    yield _line(entry)
                seen[str(entry.get("id"))] = datetime.now(UTC)
            time.sleep(_FOLLOW_PAUSE_S)
            now = datetime.now(UTC)
            seen = {name: at for name, at in seen.items() if now - at < 2 * _LATENESS}
            start = max(begun, now - _LATENESS)
            entries = self._search(start, "asc", source, _MOST_RESULTS)

    def tail(self, source: str, begun: datetime) -> Callable[[], list[str]]:
        """Makes a function that reads a resource's lines which are new since its last call.

        Args:
            source: the resource's OCID.
            begun: when the resource began; its lines are not older.
        """
        seen: dict[str, datetime] = {}
        last: datetime | None = None

        def new_lines() -> list[str]:
            nonlocal last
            now = datetime.now(UTC)
            # A clock that is behind the cloud's must not search for the future.
            start = min(begun if last is None else max(begun, last - _LATENESS), now - _LATENESS)
            entries = self._search(start, "asc", source, _MOST_AT_ONCE)
            lines = [
                str((entry.get("data") or {}).get("message", ""))
                for entry in entries
                if entry.get("id") not in seen
            ]
            seen.update((str(entry.get("id")), now) for entry in entries)
            last = now
            return lines

        return new_lines

    def _newest(
        self, count: int, source: str | None, since: datetime | None = None
    ) -> list[dict[str, Any]]:
        return self._search(since, "desc", source, count)[::-1]

    def _search(
        self, since: datetime | None, order: str, source: str | None, count: int
    ) -> list[dict[str, Any]]:
        """Reads the content of the entries of all logs, sorted by time."""
        end = datetime.now(UTC)  # never later: ADS does not request a time in the future either
        logs = self.find()
        if logs is None:
            raise CloudError("there is no log yet", remedy="run: make deploy")
        compartment = self._session.compartment_id
        names = (f'"{compartment}/{logs.group_id}/{log_id}"' for log_id in logs.log_ids)
        # The service refuses a complete OCID as the source, and accepts it after a `*`
        # (oracle/accelerated-data-science, ads/common/oci_logging.py).
        where = f" | where source = '*{source}'" if source else ""
        details = SearchLogsDetails(
            time_start=since or end - _WINDOW,
            time_end=end,
            search_query=f"search {', '.join(names)}{where} | sort by datetime {order}",
        )
        client: Any = self._session.client(LogSearchClient)
        found: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        with translate_cloud_errors("searching the log"):
            while len(found) < count:
                limit = min(count - len(found), _MOST_RESULTS)
                answer = client.search_logs(details, limit=limit, **page)
                found += [result.data["logContent"] for result in answer.data.results or []]
                if not answer.next_page:
                    break
                page = {"page": answer.next_page}
        return found

    def _names(self) -> tuple[str, str]:
        settings = self._session.settings
        return settings.log, settings.access_log or settings.log

    def _find_group(self) -> str | None:
        settings, compartment = self._session.settings, self._session.compartment_id
        with translate_cloud_errors(f"looking for the log group '{settings.log_group}'"):
            groups = self._client.list_log_groups(compartment, display_name=settings.log_group).data
        return str(groups[0].id) if groups else None

    def _find_log(self, group_id: str, name: str) -> str | None:
        with translate_cloud_errors(f"looking for the log '{name}'"):
            logs = self._client.list_logs(group_id, display_name=name).data
        return str(logs[0].id) if logs else None

    def _make(self) -> LogIds:
        """Creates what is missing, unless another run creates it meanwhile."""
        settings = self._session.settings
        composite = oci.logging.LoggingManagementClientCompositeOperations(self._client)
        ended = ["SUCCEEDED", "FAILED"]
        if self._find_group() is None:
            details = CreateLogGroupDetails(
                compartment_id=self._session.compartment_id,
                display_name=settings.log_group,
                freeform_tags=self._session.tags,
            )
            with translate_cloud_errors(f"making the log group '{settings.log_group}'"):
                _unless_there(composite.create_log_group_and_wait_for_state, details, ended)
        group_id = self._find_group()
        for name in dict.fromkeys(self._names()):
            if group_id is None or self._find_log(group_id, name):
                continue
            details = CreateLogDetails(
                display_name=name,
                log_type="CUSTOM",
                is_enabled=True,
                freeform_tags=self._session.tags,
            )
            with translate_cloud_errors(f"making the log '{name}'"):
                _unless_there(composite.create_log_and_wait_for_state, group_id, details, ended)
        logs = self.find()
        if logs is None:
            raise CloudError("could not be made", where=settings.log)
        return logs


def _unless_there(create: Any, *arguments: Any) -> None:
    """Creates something unless another run has created it meanwhile."""
    try:
        create(*arguments)
    except oci.exceptions.CompositeOperationError as error:
        raise error.cause from None
    except oci.exceptions.ServiceError as error:
        if error.status != 409:
            raise


def _category(content: dict[str, Any]) -> str:
    """Returns an entry's category: `access`, or `predict` for the container's output."""
    return str(content.get("type", "")).rpartition(".")[2]


def _line(content: dict[str, Any]) -> str:
    """Formats an entry, with an access's status and latency (ADS, logging)."""
    data = content.get("data") or {}
    text = data.get("message", "")
    if "status" in data:
        text += f"  {data['status']}  {data.get('modelLatency', 0):.0f} ms"
    return f"{content.get('time', '')}  {_category(content):<8}{text}"
