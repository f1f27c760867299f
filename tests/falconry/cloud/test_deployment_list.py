"""The list of deployments, against what the SDK's own client of the service asks and gives."""

import dataclasses

import pytest
from oci.data_science import DataScienceClient

from falconry.cloud import deployment_list
from falconry.cloud.session import Session
from falconry.errors import CloudError
from tests.falconry.cloud.conftest import WATCH


@pytest.mark.parametrize("region", ["us-ashburn-1", "us-gov-phoenix-1", "eu-jovanovac-1"])
def test_it_asks_where_the_sdks_own_client_asks(cloud, settings, tmp_path, region):
    file = tmp_path / "config"
    lines = (cloud.directory / "config").read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith("region")))
    with file.open("a") as config:
        config.write(f"\nregion={region}\n")
    oracles = settings.cloud.model_copy(update={"emulator": None, "config_file": file})
    session = Session(oracles)
    ours = session.client(deployment_list._ListClient)
    assert ours.base_client.endpoint == session.client(DataScienceClient).base_client.endpoint


def test_it_says_what_the_sdks_own_client_says(session, deployments, make_target):
    target = make_target()
    active = deployments.bring_about(target, WATCH)
    deployments.confirm(active.id, target, WATCH)
    client = session.client(DataScienceClient)
    (theirs,) = client.list_model_deployments(session.compartment_id, display_name=target.name).data
    (ours,) = deployment_list.named(session, target.name)
    for field in dataclasses.fields(ours):
        assert getattr(ours, field.name) == getattr(theirs, field.name)


def test_a_deleted_one_stands_no_more_and_is_remembered(session, deployments, make_target):
    target = make_target()
    first = deployments.bring_about(target, WATCH)
    deployments.delete(first, WATCH)
    assert deployment_list.standing(session, target.name) is None
    second = deployments.bring_about(target, WATCH)
    assert deployment_list.standing(session, target.name).id == second.id
    assert {each.id for each in deployment_list.named(session, target.name)} == {
        first.id,
        second.id,
    }


def test_a_refusal_says_what_was_asked(cloud, session):
    cloud.fault(kind="policy", operation="list_model_deployments")
    with pytest.raises(CloudError, match=r"looking for the deployment 'x' was refused: 404"):
        deployment_list.standing(session, "x")


def test_a_passing_failure_is_asked_again(cloud, session):
    cloud.fault(kind="throttle", operation="list_model_deployments", times=2)
    assert deployment_list.standing(session, "x") is None
