"""Lists in pages: read whole, with this project's retries alone."""

import dataclasses
import secrets
import time

import pytest
from oci.artifacts import ArtifactsClient
from oci.data_science import DataScienceClient
from oci.data_science.models import CreateProjectDetails

from falconry.cloud import session as session_module
from falconry.cloud.catalog import Catalog
from falconry.cloud.deployments import Deployments
from falconry.cloud.pages import all_records
from falconry.cloud.session import Session, cloud_errors_told
from falconry.errors import CloudError

BUDGET_S = 0.3
# The SDK's own retries would go on for ten minutes (oci 2.189.0, retry/retry.py).
SOON_S = 5.0


@pytest.fixture
def hasty(monkeypatch, settings):
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
def test_a_list_that_stays_throttled_ends_when_the_budget_is_used_up(hasty, cloud, operation):
    Catalog(hasty).project()
    cloud.fault(kind="throttle", operation=operation, times=1000)
    began = time.monotonic()
    refused = pytest.raises(CloudError, match="429 TooManyRequests")
    with refused as failure, cloud_errors_told("listing"):
        LISTS[operation](hasty)
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
