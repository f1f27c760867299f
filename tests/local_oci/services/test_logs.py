"""The Logging service and its search."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import oci
import pytest

from tests.local_oci.support import Sdk, ds, refusal, wait_until

log_models = oci.logging.models
DAY = timedelta(days=1)


def _work_request_subject(sdk: Sdk, answer: Any) -> str:
    """What the composite operations of the SDK look at."""
    work_request = sdk.logging.get_work_request(answer.headers["opc-work-request-id"]).data
    assert work_request.status == "SUCCEEDED"
    return work_request.resources[0].identifier


@pytest.fixture
def group(sdk: Sdk) -> str:
    name = f"group-{uuid.uuid4().hex[:8]}"
    details = log_models.CreateLogGroupDetails(compartment_id=sdk.compartment, display_name=name)
    return _work_request_subject(sdk, sdk.logging.create_log_group(details))


@pytest.fixture
def log(sdk: Sdk, group: str) -> str:
    details = log_models.CreateLogDetails(display_name="predict", log_type="CUSTOM")
    return _work_request_subject(sdk, sdk.logging.create_log(group, details))


def _references(group: str, log: str) -> Any:
    reference = ds.LogDetails(log_id=log, log_group_id=group)
    return ds.CategoryLogDetails(access=reference, predict=reference)


def _search(sdk: Sdk, query: str, start=None, end=None, **options: Any) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    details = oci.loggingsearch.models.SearchLogsDetails(
        time_start=start or now - DAY, time_end=end or now + DAY, search_query=query
    )
    answer = sdk.log_search.search_logs(details, **options).data
    assert answer.summary.result_count == len(answer.results)
    return [result.data["logContent"] for result in answer.results]


def test_groups_and_logs_are_made_and_listed(sdk: Sdk, group: str, log: str) -> None:
    assert group in [found.id for found in sdk.logging.list_log_groups(sdk.compartment).data]
    listed = sdk.logging.list_logs(group).data
    assert [(found.id, found.display_name) for found in listed] == [(log, "predict")]
    read = sdk.logging.get_log(group, log).data
    assert (read.log_type, read.is_enabled, read.lifecycle_state) == ("CUSTOM", True, "ACTIVE")


def test_a_name_is_taken_once(sdk: Sdk, group: str, log: str) -> None:
    details = log_models.CreateLogDetails(display_name="predict", log_type="CUSTOM")
    assert refusal(lambda: sdk.logging.create_log(group, details))[0] == 409


def test_a_group_is_deleted_after_its_logs(sdk: Sdk, group: str, log: str) -> None:
    assert refusal(lambda: sdk.logging.delete_log_group(group)) == (409, "Conflict")
    sdk.logging.delete_log(group, log)
    sdk.logging.delete_log_group(group)
    assert refusal(lambda: sdk.logging.get_log_group(group))[0] == 404


def test_a_deployment_logs_its_output_and_its_calls(sdk: Sdk, group: str, log: str) -> None:
    deployment = sdk.deploy(logs=_references(group, log)).id
    assert sdk.post(deployment).ok
    stream = f'search "{sdk.compartment}/{group}/{log}"'

    def messages(condition: str) -> list[str]:
        found = _search(sdk, f"{stream} | where {condition} | sort by datetime asc")
        return [entry["data"]["message"] for entry in found]

    output = wait_until(lambda: len(found := messages("type = '*.predict'")) == 2 and found)
    assert output == ["about to start", "asked for /predict"]
    assert messages("type = '*.access'") == ["POST /predict 1.1"]
    assert messages(f"source = '*{deployment}' and type != '*.predict'") == ["POST /predict 1.1"]
    assert messages("source = '*ocid1.other'") == []
    sdk.delete(deployment)


def test_an_entry_has_the_fields_that_clients_read(sdk: Sdk, group: str, log: str) -> None:
    deployment = sdk.deploy(logs=_references(group, log)).id
    sdk.post(deployment, headers={"opc-request-id": "ABC"})
    query = f"SEARCH \"{sdk.compartment}/{group}/{log}\" | WHERE type = '*access'"
    (entry,) = _search(sdk, query)
    assert entry["source"] == deployment
    assert entry["data"]["status"] == 200
    assert entry["data"]["opcRequestId"] == "ABC"
    assert entry["data"]["modelLatency"] > 0
    assert entry["oracle"]["logid"] == log
    sdk.delete(deployment)


def test_a_search_has_a_window_an_order_and_pages(sdk: Sdk, group: str, log: str) -> None:
    deployment = sdk.deploy(logs=_references(group, log)).id
    for number in range(5):
        sdk.post(deployment, headers={"opc-request-id": str(number)})
    stream = f"search \"{sdk.compartment}/{group}/{log}\" | where type = '*access'"

    def ids(entries: list[dict[str, Any]]) -> list[str]:
        return [entry["data"]["opcRequestId"] for entry in entries]

    assert ids(_search(sdk, f"{stream} | sort by datetime desc")) == list("43210")
    assert ids(_search(sdk, f"{stream} | sort by datetime asc", limit=2)) == list("01")
    details = oci.loggingsearch.models.SearchLogsDetails(
        time_start=datetime.now(UTC) - DAY,
        time_end=datetime.now(UTC) + DAY,
        search_query=f"{stream} | sort by datetime desc",
    )
    first = sdk.log_search.search_logs(details, limit=3)
    second = sdk.log_search.search_logs(details, limit=3, page=first.next_page)
    contents = [r.data["logContent"] for r in [*first.data.results, *second.data.results]]
    assert ids(contents) == list("43210")
    assert not second.has_next_page
    assert _search(sdk, stream, end=datetime.now(UTC) - DAY / 2) == []
    sdk.delete(deployment)


def test_logs_are_found_by_names_and_by_whole_groups(sdk: Sdk, group: str, log: str) -> None:
    deployment = sdk.deploy(logs=_references(group, log)).id
    sdk.post(deployment)
    name = sdk.logging.get_log_group(group).data.display_name
    for stream in (f"{sdk.compartment}/{name}/predict", f"{sdk.compartment}/{group}"):
        assert _search(sdk, f"search \"{stream}\" | where type = '*access'")
    sdk.delete(deployment)


@pytest.mark.parametrize(
    "query",
    [
        "select everything",
        'search "a/b/c" | summarize count()',
        'search "a/b/c" | sort by subject',
        'search "a//c"',
        'search "a/b/c" | where level > 3',
        # ADS 2.16.1, ads/common/oci_logging.py: "source = <OCID> is not allowed"
        "search \"a/b/c\" | where source = 'ocid1.datasciencemodeldeployment.oc1..a'",
        "search \"a/b/c\" | where type = 'x' and logContent.source = 'ocid1.x'",
    ],
)
def test_a_query_that_is_not_understood_is_refused(sdk: Sdk, query: str) -> None:
    assert refusal(lambda: _search(sdk, query)) == (400, "InvalidParameter")


def test_a_window_that_is_too_wide_or_turned_around_is_refused(sdk: Sdk) -> None:
    now = datetime.now(UTC)
    for start in (now - timedelta(days=20), now + timedelta(days=20)):
        call = {"query": 'search "a/b/c"', "start": start, "end": now}
        assert refusal(lambda call=call: _search(sdk, **call)) == (400, "InvalidParameter")


def test_a_group_and_a_log_are_updated_for_their_version_only(
    sdk: Sdk, group: str, log: str
) -> None:
    etag = sdk.logging.get_log(group, log).headers["etag"]
    update = log_models.UpdateLogDetails(is_enabled=False, retention_duration=60)
    sdk.logging.update_log(group, log, update, if_match=etag)
    read = sdk.logging.get_log(group, log).data
    assert (read.is_enabled, read.retention_duration, read.display_name) == (False, 60, "predict")
    assert refusal(lambda: sdk.logging.update_log(group, log, update, if_match=etag)) == (
        412,
        "NoEtagMatch",
    )
    name = f"new-{uuid.uuid4().hex[:8]}"
    sdk.logging.update_log_group(group, log_models.UpdateLogGroupDetails(display_name=name))
    assert sdk.logging.get_log_group(group).data.display_name == name


# oci 2.189.0, CreateLogDetails.retention_duration: 30-day steps up to 180
@pytest.mark.parametrize("days", [0, 31, 210])
def test_a_retention_outside_the_steps_is_refused(sdk: Sdk, group: str, days: int) -> None:
    details = log_models.CreateLogDetails(
        display_name="x", log_type="CUSTOM", retention_duration=days
    )
    assert refusal(lambda: sdk.logging.create_log(group, details)) == (400, "InvalidParameter")


def test_the_work_requests_of_logging_are_listed_with_what_they_did(sdk: Sdk, group: str) -> None:
    listed = sdk.logging.list_work_requests(sdk.compartment).data
    (found,) = [
        record
        for record in (sdk.logging.get_work_request(each.id).data for each in listed)
        if record.resources[0].identifier == group
    ]
    assert found.operation_type == "CREATE_LOG_GROUP"
    assert sdk.logging.list_work_request_logs(found.id).data
    assert sdk.logging.list_work_request_errors(found.id).data == []


def _push(sdk: Sdk, log: str, *entries: tuple[datetime, str]) -> None:
    client = sdk.client(oci.loggingingestion.LoggingClient)
    models = oci.loggingingestion.models
    client.put_logs(
        log,
        models.PutLogsDetails(
            specversion="1.0",
            log_entry_batches=[
                models.LogEntryBatch(
                    source="a-test",
                    type="test",
                    defaultlogentrytime=datetime.now(UTC),
                    entries=[
                        models.LogEntry(id=str(uuid.uuid4()), time=time, data=data)
                        for time, data in entries
                    ],
                )
            ],
        ),
    )


def test_entries_are_pushed_and_found_by_their_own_time(sdk: Sdk, group: str, log: str) -> None:
    now = datetime.now(UTC)
    _push(sdk, log, (now - timedelta(minutes=1), "second"), (now - timedelta(hours=1), "first"))
    _push(sdk, log, (now - timedelta(days=2), "early"), (now, '{"message": "third", "level": 3}'))
    stream = f'search "{sdk.compartment}/{group}/{log}"'
    found = _search(sdk, f"{stream} | sort by datetime asc")
    assert [entry["data"]["message"] for entry in found] == ["first", "second", "third"]
    assert found[-1]["data"]["level"] == 3
    assert {entry["source"] for entry in found} == {"a-test"}


def test_a_search_result_can_be_too_large(sdk: Sdk, group: str, log: str) -> None:
    now = datetime.now(UTC)
    for _ in range(2):
        _push(sdk, log, (now, "x" * 6_000_000))
    query = f'search "{sdk.compartment}/{group}/{log}"'
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        _search(sdk, query)
    # what ADS looks for: ads/common/oci_logging.py
    assert refused.value.status == 400
    assert "search result is too large" in refused.value.message
    assert len(_search(sdk, query, limit=1)) == 1


def test_a_log_that_is_off_takes_no_entries(sdk: Sdk, group: str, log: str) -> None:
    sdk.logging.update_log(group, log, log_models.UpdateLogDetails(is_enabled=False))
    call = (datetime.now(UTC), "x")
    assert refusal(lambda: _push(sdk, log, call)) == (409, "Conflict")
