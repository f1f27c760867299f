"""The diagnosis as a whole: every check has its line, whatever happens to it."""

import threading
import time

import pytest

from falconry.doctor.examine import CHECKS, examine
from falconry.errors import MachineError
from falconry.findings import Finding, failures, rows

FINE = Finding("a", "ok", "fine")
WRONG = Finding("b", "failed", "wrong", "mend it")


def _raise(error):
    def check(subject):
        raise error

    return check


def test_findings_come_in_the_order_of_the_checks(subject):
    checks = {"b": lambda _: WRONG, "a": lambda _: FINE}
    assert examine(subject(), checks) == [WRONG, FINE]


def test_what_a_check_raises_is_its_finding(subject):
    error = MachineError("it is broken", where="the machine", remedy="mend it")
    assert examine(subject(), {"x": _raise(error), "a": lambda _: FINE}) == [
        Finding("x", "failed", "the machine: it is broken", "mend it"),
        FINE,
    ]


def test_an_unforeseen_error_is_named_by_its_kind_alone(subject):
    found = examine(subject(), {"x": _raise(ValueError("token=secret")), "a": lambda _: FINE})
    assert found[0].state == "failed"
    assert "ValueError" in found[0].text
    assert "secret" not in str(found)
    assert found[1] == FINE


def test_a_check_that_hangs_holds_the_others_up_for_its_deadline_only(subject):
    forever = threading.Event()
    start = time.monotonic()
    found = examine(subject(), {"x": lambda _: forever.wait(), "a": lambda _: FINE}, 0.2)
    assert time.monotonic() - start < 5
    assert found == [Finding("x", "failed", "no answer within 0.2 s", "see what holds it up"), FINE]
    forever.set()


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("profile", ["local", "oci"])
def test_every_check_gives_one_finding_of_its_name(subject, profile):
    found = examine(subject(profile, overrides="cloud.config_file=/nowhere/config"))
    assert [finding.check for finding in found] == list(CHECKS)
    assert not [finding for finding in found if "report this as a bug" in finding.remedy]


def test_the_local_profile_is_well_on_a_machine_with_a_docker_engine(
    subject, engine_host, tmp_path
):
    found = examine(subject(overrides=f"cloud.config_file={tmp_path}/config"))
    assert not failures(found), rows(found)


@pytest.mark.usefixtures("no_engine")
def test_the_local_profile_is_well_without_a_docker_engine_as_well(subject, tmp_path):
    found = examine(subject(overrides=f"cloud.config_file={tmp_path}/config"))
    assert not failures(found), rows(found)
    docker = next(finding for finding in found if finding.check == "Docker")
    assert "deployments run as processes" in docker.text
