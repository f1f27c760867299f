import threading
from dataclasses import replace
from pathlib import Path

import pytest

from falconry.cloud.catalog import Catalog
from falconry.cloud.deployments import Deployments, Wanted, command, environment
from falconry.cloud.logs import Logs
from falconry.errors import CloudError
from falconry.image.output import ImageOutput


def quiet(step, fraction):
    pass


@pytest.fixture
def make_model(session, make_view, request):
    """Makes a catalog model with an artifact of its own."""

    def make(name):
        view = make_view(name, f"{request.node.name} {name}".encode())
        return Catalog(session).add(view, name, quiet)

    return make


@pytest.fixture
def wanted(settings, session, make_model):
    return Wanted(
        settings=settings.deployment,
        serving=settings.serving,
        image=ImageOutput(
            path=Path(),
            digest="sha256:",
            summary="",
            reference=settings.image.process_image,
            kind="process",
        ),
        model_id=make_model("first"),
        project_id=Catalog(session).project(),
        log=Logs(session).ensure(),
        tags={"falconry-key": "one"},
    )


@pytest.fixture
def deployments(session, settings):
    """The deployments; the test's own is deleted at the end."""
    made = Deployments(session)
    yield made
    left = made.settled(settings.deployment.name, settings.deployment, quiet)
    if left:
        made.delete(left, settings.deployment, quiet)


def test_a_deployment_is_made_with_its_steps_told(deployments, wanted):
    steps = []
    active = deployments.bring_about(wanted, lambda step, fraction: steps.append((step, fraction)))
    assert active.lifecycle_state == "ACTIVE"
    assert active.freeform_tags == {"falconry-key": "one"}
    assert steps[-1][1] == 1.0
    assert len({step for step, _ in steps}) > 1


def test_what_is_as_wanted_is_left_alone(deployments, wanted):
    deployments.bring_about(wanted, quiet)
    steps = []
    deployments.bring_about(wanted, lambda step, fraction: steps.append(step))
    assert steps == []


def test_everything_that_differs_is_changed_on_the_same_deployment(
    deployments, wanted, settings, make_model
):
    first = deployments.bring_about(wanted, quiet)
    changed = replace(
        wanted,
        model_id=make_model("second"),
        serving=settings.serving.model_copy(update={"route": "infer"}),
        tags={"falconry-key": "two"},
    )
    second = deployments.bring_about(changed, quiet)
    assert second.id == first.id
    details = second.model_deployment_configuration_details
    assert details.model_configuration_details.model_id == changed.model_id
    variables = details.environment_configuration_details.environment_variables
    assert variables == {"CONTAINER_TYPE": "TRITON"}
    assert second.freeform_tags == {"falconry-key": "two"}


def test_a_failed_creation_raises_with_what_the_cloud_says_and_the_next_succeeds(
    deployments, wanted, cloud
):
    cloud.fault(kind="no_capacity", operation="create_model_deployment")
    with pytest.raises(CloudError) as failure:
        deployments.bring_about(wanted, quiet)
    assert "no capacity for the specified shape" in str(failure.value)
    assert "ocid1.datascienceworkrequest" in str(failure.value)
    assert deployments.bring_about(wanted, quiet).lifecycle_state == "ACTIVE"


def test_a_failed_update_raises_keeps_the_old_tags_and_the_next_succeeds(
    deployments, wanted, cloud, make_model
):
    deployments.bring_about(wanted, quiet)
    changed = replace(wanted, model_id=make_model("second"), tags={"falconry-key": "two"})
    cloud.fault(kind="bootstrap", operation="update_model_deployment")
    with pytest.raises(CloudError, match="Errors occurred while bootstrapping"):
        deployments.bring_about(changed, quiet)
    standing = deployments.get(wanted.settings.name)
    assert standing.lifecycle_state == "NEEDS_ATTENTION"
    assert standing.freeform_tags == {"falconry-key": "one"}
    assert deployments.bring_about(changed, quiet).lifecycle_state == "ACTIVE"


def test_a_creation_that_somebody_else_began_is_waited_for(deployments, wanted):
    began = threading.Event()
    other = threading.Thread(
        target=deployments.bring_about, args=(wanted, lambda step, fraction: began.set())
    )
    other.start()
    assert began.wait(20)
    active = deployments.bring_about(wanted, quiet)
    other.join()
    assert active.lifecycle_state == "ACTIVE"


def test_bandwidth_is_not_changed_while_active(deployments, wanted):
    deployments.bring_about(wanted, quiet)
    settings = wanted.settings.model_copy(update={"bandwidth_mbps": 50})
    with pytest.raises(CloudError, match="only of an inactive deployment"):
        deployments.bring_about(replace(wanted, settings=settings), quiet)


def test_an_unknown_image_is_refused_in_one_sentence(deployments, wanted):
    image = replace(wanted.image, reference="local.ocir.io/nobody/nothing:1")
    with pytest.raises(CloudError) as failure:
        deployments.bring_about(replace(wanted, image=image), quiet)
    assert "creating the deployment was refused: 400" in str(failure.value)
    assert "nobody/nothing" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_cloud_that_throttles_for_a_while_is_waited_for(deployments, wanted, cloud):
    cloud.fault(kind="status", operation="create_model_deployment", status=429, times=2)
    assert deployments.bring_about(wanted, quiet).lifecycle_state == "ACTIVE"


def test_the_default_command_is_the_documents(settings):
    assert command(settings.serving) == [
        "tritonserver",
        "--model-repository=/opt/ds/model/deployed_model/model_repository",
    ]
    other = settings.serving.model_copy(update={"port": 9000})
    assert command(other)[-1] == "--http-port=9000"


def test_the_routes_are_oracles_variables(settings):
    assert environment(settings.serving) == {
        "MODEL_DEPLOY_PREDICT_ENDPOINT": "/v2/models/ensemble/versions/1/generate",
        "MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready",
    }
