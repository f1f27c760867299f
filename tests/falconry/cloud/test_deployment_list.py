"""The list of deployments, and the newest one that exists."""

import pytest

from falconry.deployment.deployments import Deployments
from falconry.errors import CloudError
from tests.falconry.cloud.conftest import WATCH


def test_a_deleted_one_is_listed_but_is_not_the_current_one(deployments, make_target):
    target = make_target()
    first = deployments.apply(target, WATCH)
    deployments.delete(first, WATCH)
    assert deployments.find(target.name) is None
    second = deployments.apply(target, WATCH)
    assert deployments.find(target.name).id == second.id
    assert {each.id for each in deployments.named(target.name)} == {first.id, second.id}


def test_a_refusal_says_what_was_asked(cloud, session):
    cloud.fault(kind="policy", operation="list_model_deployments")
    with pytest.raises(CloudError, match=r"looking for the deployment 'x' was refused: 404"):
        Deployments(session).find("x")


def test_a_passing_failure_is_asked_again(cloud, session):
    cloud.fault(kind="throttle", operation="list_model_deployments", times=2)
    assert Deployments(session).find("x") is None
