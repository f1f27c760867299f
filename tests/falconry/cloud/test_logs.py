"""The logs of deployments of a running local_oci: found or made, read, followed."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from oci.loggingsearch import LogSearchClient

from falconry.cloud.session import Session
from falconry.deployment import logs as logs_module
from falconry.deployment.logs import Logs
from falconry.endpoint import Endpoint
from tests.falconry.cloud.conftest import WATCH


@pytest.fixture
def ask(session):
    def ask(deployment):
        url = deployment.model_deployment_url
        return Endpoint(url, session.signer()).answer("who?", 1)

    return ask


def test_the_container_s_lines_and_the_requests_are_one_log_in_order(
    session, deployments, make_target, ask
):
    active = deployments.apply(make_target(), WATCH)
    ask(active)
    lines = list(Logs(session).read(100, active.id))
    assert lines == sorted(lines)
    texts = [line.split("  ", 1)[1] for line in lines]
    assert texts[0] == "predict loading first"
    assert "predict asked" in texts
    (access,) = [text for text in texts if text.startswith("access")]
    assert " 200  " in access
    assert access.endswith(" ms")


def test_only_the_newest_lines_are_read(session, deployments, make_target, ask):
    active = deployments.apply(make_target(), WATCH)
    for _ in range(5):
        ask(active)
    whole = list(Logs(session).read(100, active.id))
    assert list(Logs(session).read(3, active.id)) == whole[-3:]


def test_requests_may_be_logged_apart(make_settings, deployments, make_target, make_wanted, ask):
    settings = make_settings("cloud.access_log=requests")
    logs = Logs(Session(settings.cloud))
    place = logs.ensure()
    assert place.log_id != place.access_log_id
    active = deployments.apply(make_target(log=place), WATCH)
    ask(active)
    texts = [line.split("  ", 1)[1][:7] for line in logs.read(100, active.id)]
    assert {text.strip() for text in texts} == {"predict", "access"}
    container = logs.container_lines(10, active.id, datetime.now(UTC) - timedelta(minutes=5))
    assert container == ["loading first", "asked"]


def test_lines_are_followed_as_they_come_and_each_is_told_once(
    session, deployments, make_target, ask, monkeypatch
):
    monkeypatch.setattr(logs_module, "_FOLLOW_PAUSE_S", 0.1)
    active = deployments.apply(make_target(), WATCH)
    lines = Logs(session).follow(100, active.id)
    assert "loading first" in next(lines)

    def ask_twice():
        ask(active)
        ask(active)

    asking = threading.Thread(target=ask_twice)
    asking.start()
    seen = []
    while sum("access" in line for line in seen) < 2 or sum("asked" in line for line in seen) < 2:
        seen.append(next(lines))
    asking.join()
    assert len(seen) == 4
    assert not any("loading" in line for line in seen)


def test_a_search_has_the_forms_that_the_service_takes(session, deployments, make_target):
    # ADS 2.16.1, ads/common/oci_logging.py: `*` before an OCID, no time in the future, 14 days.
    active = deployments.apply(make_target(), WATCH)
    client, requests = session.client(LogSearchClient), []
    search = client.search_logs

    def record(details, **options):
        requests.append((details, datetime.now(UTC)))
        return search(details, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "search_logs", record)
        logs = Logs(session)
        assert list(logs.read(10, active.id))
        assert next(logs.follow(10, active.id))
        assert logs.container_lines(10, active.id, datetime.now(UTC) - timedelta(minutes=5))
    assert len(requests) == 3
    for details, sent in requests:
        assert f"where source = '*{active.id}'" in details.search_query
        assert details.time_end <= sent
        assert details.time_end - details.time_start <= timedelta(days=14)


def test_runs_that_make_the_log_at_once_share_it(make_settings):
    cloud = make_settings("cloud.log_group=together cloud.log=together").cloud
    places = []
    threads = [
        threading.Thread(target=lambda: places.append(Logs(Session(cloud)).ensure()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(places) == 4
    assert len(set(places)) == 1
