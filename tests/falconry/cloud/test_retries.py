"""When a request is sent again, with the SDK's own exceptions."""

import io
import time
from email.utils import formatdate

import oci
import pytest
from oci._vendor.requests.exceptions import ConnectionError as ConnectionLostError

from falconry.cloud.catalog import Catalog
from falconry.cloud.retries import RetryPolicy, asked_pause
from falconry.cloud.session import Session
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
PASSING = [
    refusal(429, "TooManyRequests"),
    refusal(500, "InternalServerError"),
    refusal(503, "ServiceUnavailable"),
    refusal(504),
    refusal(409, "LockConflict"),
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


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(policy, error):
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
    pause = asked_pause(refusal(503, headers={"retry-after": formatdate(time.time() + 5)}))
    assert 3 < pause <= 5


@pytest.mark.parametrize("text", ["", "soon", "-"])
def test_a_pause_that_is_none_is_not_heeded(text):
    assert asked_pause(refusal(503, headers={"retry-after": text})) is None


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
