"""The list of deployments, and the newest one that exists."""

import pytest

from falconry.deployment import deployment_list
from falconry.errors import CloudError
from tests.falconry.cloud.conftest import WATCH


def test_a_deleted_one_is_listed_but_is_not_the_current_one(session, deployments, make_target):
    target = make_target()
    first = deployments.apply(target, WATCH)
    deployments.delete(first, WATCH)
    assert deployment_list.current(session, target.name) is None
    second = deployments.apply(target, WATCH)
    assert deployment_list.current(session, target.name).id == second.id
    assert {each.id for each in deployment_list.named(session, target.name)} == {
        first.id,
        second.id,
    }


def test_a_refusal_says_what_was_asked(cloud, session):
    cloud.fault(kind="policy", operation="list_model_deployments")
    with pytest.raises(CloudError, match=r"looking for the deployment 'x' was refused: 404"):
        deployment_list.current(session, "x")


def test_a_passing_failure_is_asked_again(cloud, session):
    cloud.fault(kind="throttle", operation="list_model_deployments", times=2)
    assert deployment_list.current(session, "x") is None
