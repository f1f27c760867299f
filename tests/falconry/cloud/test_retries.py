"""When a request is sent again, with the SDK's own exceptions, and how lists are read."""

import dataclasses
import io
import secrets
import time
from email.utils import formatdate

import oci
import pytest
from oci._vendor.requests.exceptions import ConnectionError as ConnectionLostError
from oci.artifacts import ArtifactsClient
from oci.data_science import DataScienceClient
from oci.data_science.models import CreateProjectDetails

from falconry.cloud import session as session_module
from falconry.cloud.retries import RetryPolicy, all_records, retry_after
from falconry.cloud.session import Session, translate_cloud_errors
from falconry.deployment.catalog import Catalog
from falconry.deployment.deployments import Deployments
from falconry.errors import CloudError
from tests.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def policy(clock):
    """The policy of all clients."""
    return RetryPolicy(now=clock.now, sleep=clock.sleep)


def refusal(status, code="", headers=None):
    return oci.exceptions.ServiceError(status, code, headers or {}, "no")


class Calls:
    """Raises each of its errors once, and answers then."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.bodies = []

    def __call__(self, body=None):
        self.bodies.append(body.read() if body else None)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


# Oracle, "API Errors", on which the SDK's documents say what may be sent again.
TRANSIENT = [
    refusal(408, "RequestTimeout"),
    refusal(429, "TooManyRequests"),
    refusal(500, "InternalServerError"),
    refusal(503, "ServiceUnavailable"),
    refusal(504),
    refusal(409, "LockConflict"),
    refusal(409, "ConcurrentObjectUpdate"),
    refusal(400, "UnmatchedContentMD5"),
    refusal(400, "UnmatchedContentCRC32C"),
    ConnectionLostError("reset"),
    oci.exceptions.ConnectTimeout("late"),
]
LASTING = [
    refusal(400, "InvalidParameter"),
    refusal(401, "NotAuthenticated"),
    refusal(404, "NotAuthorizedOrNotFound"),
    refusal(409, "IncorrectState"),
    refusal(409, "InvalidatedRetryToken"),
    refusal(412, "NoEtagMatch"),
    refusal(413, "PayloadTooLarge"),
    refusal(501, "NotImplemented"),
    ValueError("a bug"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_is_transient_is_tried_again(policy, error):
    calls = Calls(error, error)
    assert policy.make_retrying_call(calls) == "done"
    assert len(calls.bodies) == 3


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_lasts_is_not_tried_again(policy, error):
    calls = Calls(error)
    with pytest.raises(type(error)):
        policy.make_retrying_call(calls)
    assert len(calls.bodies) == 1


def test_the_whole_budget_of_a_minute_is_used_and_no_more(policy, clock):
    calls = Calls(*[refusal(503)] * 1000)
    with pytest.raises(oci.exceptions.ServiceError):
        policy.make_retrying_call(calls)
    assert 50 <= clock.time <= 60
    assert 8 < len(calls.bodies) < 20


def test_a_request_that_takes_longer_than_the_budget_is_sent_again(policy, clock):
    calls = Calls(refusal(503))

    def slow(body=None):
        clock.sleep(policy.budget_s * 2)
        return calls(body)

    assert policy.make_retrying_call(slow) == "done"


def test_pauses_grow_from_half_a_second_to_ten(clock):
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        clock.sleep(seconds)

    with pytest.raises(oci.exceptions.ServiceError):
        RetryPolicy(now=clock.now, sleep=sleep).make_retrying_call(Calls(*[refusal(503)] * 1000))
    assert 0.25 <= pauses[0] <= 0.5
    assert pauses[:4] == sorted(pauses[:4])
    assert 5 <= max(pauses) <= 10


def test_without_a_clock_of_the_callers_it_waits_by_the_machines():
    calls = Calls(refusal(429, "TooManyRequests", {"retry-after": "0.1"}))
    began = time.monotonic()
    assert RetryPolicy(first_pause_s=0.0).make_retrying_call(calls) == "done"
    assert time.monotonic() - began >= 0.1


def test_the_pause_that_the_service_asks_for_is_made(policy, clock):
    calls = Calls(refusal(429, "TooManyRequests", {"retry-after": "30"}))
    assert policy.make_retrying_call(calls) == "done"
    assert clock.time == 30


def test_a_pause_that_is_longer_than_the_budget_ends_it_at_once(policy, clock):
    calls = Calls(refusal(429, "TooManyRequests", {"retry-after": "61"}))
    with pytest.raises(oci.exceptions.ServiceError):
        policy.make_retrying_call(calls)
    assert clock.time == 0


def test_a_pause_may_be_given_as_a_date():
    pause = retry_after(refusal(503, headers={"retry-after": formatdate(time.time() + 5)}))
    assert 3 < pause <= 5


@pytest.mark.parametrize("text", ["", "soon", "-"])
def test_a_pause_that_is_none_is_not_heeded(text):
    assert retry_after(refusal(503, headers={"retry-after": text})) is None


def test_a_stream_is_sent_from_its_beginning_again(policy):
    stream = io.BytesIO(b"head body")
    stream.seek(5)
    calls = Calls(refusal(503))
    assert policy.make_retrying_call(calls, body=stream) == "done"
    assert calls.bodies == [b"body", b"body"]


def test_a_stream_that_cannot_go_back_is_sent_once(policy):
    class Pipe:
        def read(self):
            return b"x"

    calls = Calls(refusal(503))
    with pytest.raises(oci.exceptions.ServiceError):
        policy.make_retrying_call(calls, body=Pipe())
    assert len(calls.bodies) == 1


def test_trouble_with_one_service_stops_no_other(settings, cloud):
    session = Session(settings.cloud)
    cloud.fault(kind="status", operation="list_log_groups", status=400, times=30)
    logging = session.client(oci.logging.LoggingManagementClient)
    for _ in range(30):  # the SDK's breaker opens after ten
        with pytest.raises(oci.exceptions.ServiceError):
            logging.list_log_groups(session.compartment_id)
    cloud.fault(kind="status", operation="list_projects", status=500, times=6)
    assert Catalog(session).project()


def test_what_is_refused_for_good_is_one_clear_error(settings, cloud):
    cloud.fault(kind="status", operation="list_projects", status=404, times=1)
    with pytest.raises(CloudError, match="finding the project"):
        Catalog(Session(settings.cloud)).project()


# --- lists in pages ------------------------------------------------------------------------------

BUDGET_S = 0.3
# The SDK's own retries would go on for ten minutes (oci 2.189.0, retry/retry.py).
SOON_S = 5.0


@pytest.fixture
def short_retries(monkeypatch, settings):
    """A session whose requests are sent again for a moment only."""
    policy = dataclasses.replace(session_module._RETRIES, budget_s=BUDGET_S)
    monkeypatch.setattr(session_module, "_RETRIES", policy)
    return Session(settings.cloud)


LISTS = {
    "list_projects": lambda session: Catalog(session).find_project(),
    "list_models": lambda session: Catalog(session).models(),
    "list_model_deployments": lambda session: Deployments(session).named("x"),
    "list_model_version_sets": lambda session: all_records(
        session.client(DataScienceClient).list_model_version_sets, session.compartment_id
    ),
    "list_container_repositories": lambda session: all_records(
        session.client(ArtifactsClient).list_container_repositories, session.compartment_id
    ),
}


@pytest.mark.parametrize("operation", LISTS)
def test_a_list_that_stays_throttled_ends_when_the_budget_is_used_up(
    short_retries, cloud, operation
):
    Catalog(short_retries).project()
    cloud.fault(kind="throttle", operation=operation, times=1000)
    began = time.monotonic()
    refused = pytest.raises(CloudError, match="429 TooManyRequests")
    with refused as failure, translate_cloud_errors("listing"):
        LISTS[operation](short_retries)
    # Pauses double, and one that would end after the budget is not begun: at least a quarter of it
    # has passed then, on a machine where requests take no time.
    assert BUDGET_S / 4 < time.monotonic() - began < SOON_S
    assert failure.value.remedy == "wait a little and run again"
    assert "\n" not in str(failure.value)


def test_all_pages_are_read(session):
    client = session.client(DataScienceClient)
    names = {f"pages-{secrets.token_hex(4)}" for _ in range(3)}
    for name in names:
        client.create_project(
            CreateProjectDetails(compartment_id=session.compartment_id, display_name=name)
        )
    found = all_records(client.list_projects, session.compartment_id, limit=1)
    assert names <= {each.display_name for each in found}
    assert len({each.id for each in found}) == len(found)
