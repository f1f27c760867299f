"""`make status` in each state of a deployment's life, against a running local_oci."""

import threading

import pytest

from falconry.cloud.work_requests import Watch
from falconry.deployment.status import DeploymentStatus, status_of
from falconry.errors import CloudError
from tests.falconry.cloud.conftest import WATCH
from tests.local_oci.support import wait_until


@pytest.fixture
def status(session, settings):
    return lambda: status_of(session, settings.deployment.name)


def test_nothing_deployed_is_status_three(status):
    found = status()
    assert (found.state, found.exit_status) == (None, 3)


def test_a_deployment_that_is_made_is_seen_with_its_operation(status, deployments, make_target):
    target, seen = make_target(), []

    def look(step, fraction):
        if not seen and step == "Starting container":
            seen.append(status())

    deployments.apply(target, Watch(60, look))
    (found,) = seen
    assert (found.state, found.exit_status) == ("CREATING", 1)
    assert found.operation.startswith("MODEL_DEPLOYMENT_CREATE IN_PROGRESS  ocid1.")


def test_an_active_deployment_is_told_whole(status, deployments, make_target):
    target = make_target(
        tags={
            "falconry-key": "k",
            "falconry-engine": "e" * 64,
            "falconry-image": "sha256:" + "1" * 64,
            "falconry-artifact": "sha256:" + "2" * 64,
        }
    )
    active = deployments.apply(target, WATCH)
    unasked = status()
    assert (unasked.exit_status, unasked.verified) == (0, False)
    assert "has not answered yet" in "\n".join(unasked.table())
    deployments.confirm(active.id, target, WATCH)
    found = status()
    assert found == DeploymentStatus(
        deployment=target.name,
        state="ACTIVE",
        verified=True,
        since=found.since,
        url=active.model_deployment_url,
        id=active.id,
        model=target.model_id,
        artifact="sha256:" + "2" * 64,
        image=f"{target.image}@sha256:{'1' * 64}",
        engine="e" * 64,
        shape="VM.Standard.E4.Flex, 2 OCPU, 16 GB",
        instances="1",
        operation=found.operation,
        spending=found.spending,
        error=None,
    )
    assert found.operation.startswith("MODEL_DEPLOYMENT_UPDATE SUCCEEDED  ocid1.")
    assert found.since >= f"{active.time_created:%Y-%m-%dT%H:%M:%SZ}"
    assert found.facts()["state"] == "ACTIVE"


def test_replaced_containers_are_counted_with_the_last_reason(
    status, deployments, make_target, cloud
):
    cloud.fault(kind="dies_later", operation="create_model_deployment", seconds=0.1)
    deployments.apply(make_target(), WATCH)
    wait_until(lambda: "Containers replaced: 1. " in (status().details or ""))
    found = status()
    assert (found.exit_status, found.error) == (0, None)
    assert "The last one " in found.details
    assert f"{'details':<12}{found.details}" in found.table()


def test_a_failed_deployment_is_told_with_its_reason(status, deployments, make_target, cloud):
    cloud.fault(kind="no_capacity", operation="create_model_deployment")
    with pytest.raises(CloudError):
        deployments.apply(make_target(), WATCH)
    found = status()
    assert (found.state, found.exit_status) == ("FAILED", 1)
    assert "no capacity for the specified shape" in found.error


def test_a_failed_update_is_told_with_its_reason(status, deployments, make_target, cloud):
    deployments.apply(make_target(), WATCH)
    cloud.fault(kind="bootstrap", operation="update_model_deployment")
    with pytest.raises(CloudError):
        deployments.apply(make_target("second"), WATCH)
    found = status()
    assert (found.state, found.exit_status) == ("NEEDS_ATTENTION", 1)
    assert "Errors occurred while bootstrapping" in found.error


def test_a_stopped_deployment_is_told(status, deployments, make_target):
    active = deployments.apply(make_target(), WATCH)
    deployments.deactivate(active.display_name, WATCH)
    found = status()
    assert (found.state, found.exit_status) == ("INACTIVE", 1)
    assert found.operation.startswith("MODEL_DEPLOYMENT_DEACTIVATE SUCCEEDED")


def test_a_deployment_that_goes_is_seen_going_and_then_is_none(status, deployments, make_target):
    active = deployments.apply(make_target(), WATCH)
    states, over = [], threading.Event()

    def look():
        while not over.is_set():
            states.append(status().state)

    watcher = threading.Thread(target=look)
    watcher.start()
    deployments.delete(active, WATCH)
    over.set()
    watcher.join()
    assert set(states) <= {"ACTIVE", "DELETING", None}
    assert status().exit_status == 3
