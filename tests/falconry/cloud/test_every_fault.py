"""A deployment's whole life, with faults at each of its calls: it ends well or in one clear error.

Which calls there are is not listed here: whatever a step asks the cloud for suffers its faults the
first time, so a call that is new is tested as well.
"""

import dataclasses
import re
import secrets
import threading
from collections import Counter

import oci
import pytest
from oci.data_science import DataScienceClient
from oci.logging import LoggingManagementClient

from falconry.cloud import session as session_module
from falconry.cloud.session import session_of
from falconry.cloud.work_requests import Watch
from falconry.deployment.catalog import prune_models
from falconry.deployment.deployments import Deployments
from falconry.deployment.logs import Logs
from falconry.deployment.stage import endpoint_of
from falconry.deployment.status import status_of
from falconry.deployment.target import ARTIFACT_TAG
from falconry.endpoint import endpoint
from falconry.endpoint.client import DeploymentClient
from falconry.errors import CloudError, FalconryError
from tests.falconry.cloud.conftest import WATCH, quiet, run
from tests.local_oci.support import ask_cloud

# A route of local_oci with two methods has the name of the one.
_ROUTES = {"head_model_artifact": "get_model_artifact_content"}
_BUDGET_S = 0.05
# Faults end after a number of requests and not after a time, so pauses need not be long.
_PAUSES_S = (0.005, 0.01)
_MOST_CALLS = 60
# What a question is not asked again for: it may have been carried out.
_LASTING_FOR_A_QUESTION = (409, 500, 504)
_READ_TIMEOUT_S = 5.0
_SHORT_READ_TIMEOUT_S = 0.1
_WAIT_S = 4.0
_WATCH = Watch(_WAIT_S, quiet)


class Life:
    """What make's targets do to a deployment, a method a step."""

    def __init__(self, make_settings, make_stage):
        # All of its own, so that everything is made.
        own = secrets.token_hex(4)
        names = ("project", "model_version_set", "log_group", "log", "upload.bucket")
        words = " ".join([f"cloud.{name}={own}" for name in names] + [f"deployment.name={own}"])
        self.settings, self._staged = (
            _hurried(make_settings(f"{words} cloud.upload.staged_above_mib={limit}"))
            for limit in (2048, 0)
        )
        self._make_stage = make_stage
        self.name = self.settings.deployment.name

    @property
    def session(self):
        return session_of(self.settings.cloud)

    @property
    def deployments(self):
        return Deployments(self.session)

    def steps(self):
        """All of them, in order, with their names."""
        return [
            ("make deploy", lambda: self._deploy("first")),
            ("make deploy of a large artifact", lambda: self._deploy("second", self._staged)),
            ("make deploy ROLLBACK=1", self._fall_back),
            ("make status", self._status),
            ("make logs", self._logs),
            ("make deactivate", lambda: self.deployments.deactivate(self.name, _WATCH)),
            ("make activate", self._activate),
            ("make prune-models", lambda: self._prune(delete=False)),
            ("make deploy of a model that was deactivated", lambda: self._deploy("first")),
            ("make prune-models DELETE=1", lambda: self._prune(delete=True)),
            ("make down", lambda: self.deployments.remove(self.name, _WATCH)),
        ]

    def _deploy(self, behaviour, settings=None):
        run(self._make_stage(behaviour, settings=settings or self.settings))

    def _fall_back(self):
        with pytest.raises(CloudError) as failure:
            run(self._make_stage("exit", settings=self.settings, rollback=True))
        if "which answers" not in str(failure.value):
            raise failure.value

    def _status(self):
        assert status_of(self.session, self.name).state == "ACTIVE"

    def _logs(self):
        standing = self.deployments.find(self.name)
        assert list(Logs(self.session).read(5, standing.id))

    def _activate(self):
        endpoint_of(self.deployments.activate(self.name, _WATCH), self.session).smoke()

    def _prune(self, *, delete):
        found = prune_models(self.session, self.name, 1, delete=delete)
        assert {each.outcome for each in found} >= {"kept", "in use"}

    def end(self):
        """Leaves nothing, whatever the test came to."""
        directory = self.settings.cloud.emulator.directory
        ask_cloud(directory, self.session._endpoint, "DELETE", "faults")
        while self.deployments.remove(self.name, WATCH):
            pass


def _hurried(settings):
    """Settings whose operations are waited for shorter than a profile may say."""
    deployment = settings.deployment.model_copy(update={"timeout_minutes": _WAIT_S / 60})
    return settings.model_copy(update={"deployment": deployment})


class FaultInjector:
    """Has the cloud refuse, cut or delay each call of a step the first time that it is made."""

    def __init__(self, cloud, monkeypatch):
        self._cloud = cloud
        self._monkeypatch = monkeypatch
        self._faults = []
        self._met = set()
        self._lock = threading.Lock()
        for kind, name, operation in (
            (oci.base_client.BaseClient, "call_api", lambda named: named["operation_name"]),
            (DeploymentClient, "send", lambda named: "predict"),
        ):
            monkeypatch.setattr(kind, name, self._faulted(getattr(kind, name), operation))

    def give_up_reading_after(self, seconds):
        """Lets clients wait so long for an answer."""
        self._monkeypatch.setattr(session_module, "_TIMEOUT_S", (5.0, seconds))
        session_module._shared_session.cache_clear()

    def inject(self, faults):
        """Injects these faults into each call the next time that it is made."""
        self._faults, self._met = faults, set()

    def pass_by(self):
        """Ends the faults of calls now; those that had some are left alone from now on."""
        self._cloud.forget_faults()
        return self._met

    def end(self):
        """Lets nothing more happen."""
        self.inject([])
        self.pass_by()

    def _arm(self, operation):
        suffered = [fault for fault in self._faults if _can_inject(operation, fault)]
        for place, fault in enumerate(suffered):
            self._cloud.fault(operation=operation, skip=place, **fault)

    def _faulted(self, original, operation_of):
        def call(client, *arguments, **named):
            operation = operation_of(named)
            with self._lock:
                if self._faults and operation not in self._met:
                    self._met.add(operation)
                    self._arm(_ROUTES.get(operation, operation))
            return original(client, *arguments, **named)

        return call


def _can_inject(operation, fault):
    status = fault.get("status")
    if operation == "predict":
        return status not in _LASTING_FOR_A_QUESTION
    # What is read is not locked.
    return status != 409 or not operation.startswith(("get_", "head_", "list_", "search_"))


@pytest.fixture
def fault_injector(cloud, monkeypatch):
    first, longest = _PAUSES_S
    policy = dataclasses.replace(
        session_module._RETRIES, first_pause_s=first, longest_pause_s=longest
    )
    monkeypatch.setattr(session_module, "_RETRIES", policy)
    monkeypatch.setattr(endpoint, "_SMOKE_PAUSE_S", first)
    fault_injector = FaultInjector(cloud, monkeypatch)
    fault_injector.give_up_reading_after(_READ_TIMEOUT_S)
    yield fault_injector
    session_module._shared_session.cache_clear()


@pytest.fixture
def short_retries(monkeypatch):
    """What lasts is given up soon."""
    policy = dataclasses.replace(session_module._RETRIES, budget_s=_BUDGET_S)
    monkeypatch.setattr(session_module, "_RETRIES", policy)
    monkeypatch.setattr(endpoint, "_SMOKE_DEADLINE_S", _BUDGET_S)
    session_module._shared_session.cache_clear()


@pytest.fixture
def life(make_settings, make_stage):
    life = Life(make_settings, make_stage)
    yield life
    life.end()


def what_is_there(life):
    """Checks that a life made nothing twice; gives its deployments' states with their numbers."""
    session, settings = life.session, life.settings.cloud
    science = session.client(DataScienceClient)
    logging = session.client(LoggingManagementClient)
    compartment = session.compartment_id
    assert len(science.list_projects(compartment, display_name=settings.project).data) == 1
    assert (
        len(science.list_model_version_sets(compartment, name=settings.model_version_set).data) == 1
    )
    (group,) = logging.list_log_groups(compartment, display_name=settings.log_group).data
    assert len(logging.list_logs(group.id, display_name=settings.log).data) == 1
    models = science.list_models(compartment, display_name=life.name, limit=1000).data
    holders = Counter(model.freeform_tags[ARTIFACT_TAG] for model in models)
    assert set(holders.values()) == {1}
    assert len(holders) <= 3
    made = science.list_model_deployments(compartment, display_name=life.name).data
    return Counter(each.lifecycle_state for each in made)


# What passes by itself: each kind of it one after the other, at each call.
PASSING = {
    "before-the-effect": [
        {"kind": "throttle", "retryAfter": 0},
        *({"kind": "status", "status": status} for status in (500, 502, 503, 504)),
        {"kind": "status", "status": 409, "code": "LockConflict"},
        {"kind": "reset"},
        {"kind": "cut_request", "afterBytes": 1},
    ],
    "after-the-effect": [
        {"kind": "cut_response"},
        {"kind": "cut_response", "afterBytes": 1},
        {"kind": "slow_body", "bytesPerSecond": 20_000},
    ],
    "late": [
        {"kind": "late_effect", "seconds": 0.5 * _SHORT_READ_TIMEOUT_S},
        {"kind": "delay", "seconds": 1.5 * _SHORT_READ_TIMEOUT_S},
    ],
}
# These end a life's step, which says so, and goes on when it is run again.
LASTING = {
    "refused": ({"kind": "status", "status": 400}, "refused(: | with )400"),
    "no-policy": ({"kind": "policy"}, "refused(: | with )404 NotAuthorizedOrNotFound"),
    "throttled": ({"kind": "throttle"}, "refused(: | with )429 Too ?Many ?Requests"),
    "never-an-answer": ({"kind": "cut_response"}, "got no answer|the answer is incomplete"),
}


# Which of them run in one process, so that several can share the work.
GROUPS = {
    1: ("late", "before-the-effect", "throttled"),
    2: ("never-an-answer",),
    3: ("after-the-effect", "refused", "no-policy"),
}
# What passes or lasts at one call after the other, test_retries.py has. Answers that are lost after
# the effect stay, once and for ever; those that come late lead to the same.
LONG = {"before-the-effect", "late", "throttled", "refused", "no-policy"}


def grouped(name, *values):
    """A test's parameters, which run in the process of their group."""
    (group,) = (number for number, names in GROUPS.items() if name in names)
    marks = [pytest.mark.xdist_group(f"every-fault-{group}")]
    marks += [pytest.mark.long] if name in LONG else []
    return pytest.param(*values, id=name, marks=marks)


@pytest.mark.parametrize(
    ("faults", "read_timeout"),
    [
        grouped(name, faults, _SHORT_READ_TIMEOUT_S if name == "late" else _READ_TIMEOUT_S)
        for name, faults in PASSING.items()
    ],
)
def test_what_passes_at_every_call_of_every_step_changes_nothing(
    life, fault_injector, faults, read_timeout
):
    fault_injector.give_up_reading_after(read_timeout)
    for name, step in life.steps():
        fault_injector.inject(faults)
        step()
        assert fault_injector.pass_by(), name
    fault_injector.end()
    assert what_is_there(life) == {"DELETED": 1}


@pytest.mark.parametrize(
    ("fault", "reason"), [grouped(name, *values) for name, values in LASTING.items()]
)
def test_what_lasts_at_any_call_is_one_clear_error_and_nothing_is_there_twice(
    life, fault_injector, short_retries, fault, reason
):
    fault_injector.inject([{**fault, "times": 1000}])
    told_of = []
    for name, step in life.steps():
        for _ in range(_MOST_CALLS):
            try:
                step()
                break
            except FalconryError as failure:
                told_of.append(str(failure))
            finally:
                fault_injector.pass_by()
        else:
            raise AssertionError(f"{name} does not end: {told_of}")
    fault_injector.end()
    assert len(told_of) > 30
    assert not [text for text in told_of if "\n" in text or not re.search(reason, text)]
    assert what_is_there(life) == {"DELETED": 1}
