"""Deployments of a running local_oci: made, changed and ended, whatever goes wrong meanwhile."""

import contextlib
import copy
import threading
from dataclasses import replace
from types import SimpleNamespace

import oci
import pytest
from oci.data_science import DataScienceClient

from falconry.cloud.session import Session
from falconry.cloud.work_requests import Watch
from falconry.deployment import deployments as deployments_module
from falconry.deployment.changes import Group, differences, differing_fields
from falconry.deployment.deployments import Deployments
from falconry.deployment.target import MODEL_NAME, target_of
from falconry.errors import CloudError, DetachedOperation
from tests.falconry.cloud.conftest import WATCH


def model_of(deployment):
    details = deployment.model_deployment_configuration_details
    return details.model_configuration_details.model_id


def standing(deployments, name):
    """All deployments of a name that are not deleted."""
    return [each for each in deployments.named(name) if each.lifecycle_state != "DELETED"]


def test_a_deployment_is_made_with_its_steps_told(deployments, make_target):
    steps = []
    watch = Watch(60, lambda step, fraction: steps.append((step, fraction)))
    active = deployments.apply(make_target(), watch)
    assert active.lifecycle_state == "ACTIVE"
    assert steps[-1][1] == 1.0
    assert len({step for step, _ in steps}) > 1


def test_it_says_that_it_is_as_wanted_only_when_that_is_confirmed(deployments, make_target):
    target = make_target()
    active = deployments.apply(target, WATCH)
    assert "falconry-key" not in active.freeform_tags
    deployments.confirm(active.id, target, WATCH)
    assert deployments.read(active.id).freeform_tags["falconry-key"] == "first"


def test_what_is_as_wanted_is_left_alone(deployments, make_target):
    target = make_target()
    deployments.apply(target, WATCH)
    steps = []
    deployments.apply(target, Watch(60, lambda step, fraction: steps.append(step)))
    assert steps == []


def test_everything_that_differs_is_changed_on_the_same_deployment(
    deployments, make_target, make_settings
):
    first = deployments.apply(make_target(), WATCH)
    other = make_settings(
        "deployment.environment.CONTAINER_TYPE=TRITON"
        " deployment.instances=2 deployment.memory_gib=32"
        " deployment.bandwidth_mbps=20 deployment.maximum_bandwidth_mbps=40"
        " deployment.environment.LEVEL=2 deployment.description=other"
    )
    target = make_target("second", settings=other.deployment, serving=other.serving)
    second = deployments.apply(target, WATCH)
    assert second.id == first.id
    details = second.model_deployment_configuration_details
    model = details.model_configuration_details
    assert model.model_id == target.model_id
    assert model.scaling_policy.instance_count == 2
    assert (model.bandwidth_mbps, model.maximum_bandwidth_mbps) == (20, 40)
    size = model.instance_configuration.model_deployment_instance_shape_config_details
    assert size.memory_in_gbs == 32
    container = details.environment_configuration_details
    assert container.environment_variables == {
        "CONTAINER_TYPE": "TRITON",
        "LEVEL": "2",
        MODEL_NAME: second.display_name,
    }
    assert second.description == "other"


def test_a_deployment_that_changes_claims_nothing_until_it_is_confirmed(deployments, make_target):
    first = make_target()
    deployments.confirm(deployments.apply(first, WATCH).id, first, WATCH)
    changed = deployments.apply(make_target("second"), WATCH)
    assert "falconry-key" not in changed.freeform_tags
    assert changed.freeform_tags["falconry-model"] == first.model_id


def test_an_update_that_ended_in_the_middle_is_finished_by_another_run(
    deployments, make_target, make_settings, session, cloud
):
    deployments.apply(make_target(), WATCH)
    other = make_settings("deployment.environment.CONTAINER_TYPE=TRITON")
    target = make_target("second", settings=other.deployment)
    # The second of three updates is refused for good, as if the run had been killed there.
    cloud.fault(kind="status", operation="update_model_deployment", status=400, skip=1)
    with pytest.raises(CloudError, match="400"):
        deployments.apply(target, WATCH)
    assert deployments.get(target.name).lifecycle_state == "ACTIVE"
    done = Deployments(Session(session.settings)).apply(target, WATCH)
    assert model_of(done) == target.model_id
    variables = done.model_deployment_configuration_details.environment_configuration_details
    assert variables.environment_variables == {
        "CONTAINER_TYPE": "TRITON",
        MODEL_NAME: target.name,
    }


# Forms in which a service might write what it was given: whether Oracle's does is not known.
def _added_variable(container):
    container.environment_variables = {**container.environment_variables, "ADDED": "1"}


def _reversed_endpoints(container):
    container.custom_http_endpoints = container.custom_http_endpoints[::-1]


def _pinned_image(container):
    container.image = f"{container.image}@sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("normalise", "field", "now", "wanted"),
    [
        (_added_variable, "environment_variables.ADDED", '"1"', "null"),
        (_reversed_endpoints, "custom_http_endpoints", '[{"endpoint_uri_suffix": "/v2/', "["),
        (_pinned_image, "image", ":2.51.0@sha256:0000", ':2.51.0"'),
    ],
    ids=["variable", "endpoints", "image"],
)
def test_an_update_that_the_service_does_not_keep_is_made_once_and_its_field_is_named(
    deployments, make_target, session, monkeypatch, normalise, field, now, wanted
):
    client, updates = session.client(DataScienceClient), []
    get, update = client.get_model_deployment, client.update_model_deployment

    def get_normalised(*arguments, **options):
        answer = get(*arguments, **options)
        details = answer.data.model_deployment_configuration_details
        normalise(details.environment_configuration_details)
        return answer

    def count(deployment, details, **options):
        updates.append(details.model_deployment_configuration_details)
        return update(deployment, details, **options)

    monkeypatch.setattr(client, "get_model_deployment", get_normalised)
    monkeypatch.setattr(client, "update_model_deployment", count)
    with pytest.raises(CloudError) as failure:
        Deployments(session).apply(make_target(), WATCH)
    assert len(updates) == 1
    assert failure.value.problem.count(" is ") == 1
    is_now, _, should_be = failure.value.problem.partition(" and should be ")
    assert f"{field} is " in is_now and now in is_now
    assert wanted in should_be


@pytest.mark.parametrize("mapping", [{}, {"CONTAINER_TYPE": "TRITON"}], ids=["ours", "oracle"])
def test_variables_change_before_the_model(make_wanted, mapping):
    """The storage of a larger model, and the image that serves it, come before it."""
    wanted = make_wanted()
    before, after = (
        target_of(
            replace(
                wanted,
                model_id=f"ocid1.datasciencemodel.oc1..{number}",
                variables={"STORAGE_SIZE_IN_GB": str(number), **(mapping if number else {})},
            )
        )
        for number in range(2)
    )
    found = differences(_current(before), after)
    kept = [group for group in found if group is not Group.CONTAINER]
    assert kept == [Group.ENVIRONMENT, Group.MODEL]


def _current(target):
    return SimpleNamespace(
        model_deployment_configuration_details=copy.deepcopy(target.configuration),
        category_log_details=target.logs,
        description=target.description,
    )


def test_no_secret_is_in_what_differs(make_target):
    target = make_target()
    current = _current(target)
    container = current.model_deployment_configuration_details.environment_configuration_details
    container.environment_variables |= {"HF_TOKEN": "hf_abc", "LEVEL": "2"}
    found = differing_fields(current, target, {Group.ENVIRONMENT})
    assert [field for field, _, _ in found] == [
        "environment_variables.HF_TOKEN",
        "environment_variables.LEVEL",
    ]
    assert "hf_abc" not in str(found)
    assert found[1][1:] == ('"2"', "null")


def test_a_failed_creation_says_what_the_cloud_says_and_what_to_do_and_the_next_succeeds(
    deployments, make_target, cloud
):
    target = make_target()
    cloud.fault(kind="no_capacity", operation="create_model_deployment")
    with pytest.raises(CloudError) as failure:
        deployments.apply(target, WATCH)
    # Oracle's words, as users quote them.
    assert "There is currently no capacity for the specified shape" in str(failure.value)
    assert "ocid1.datascienceworkrequest" in str(failure.value)
    assert "deployment.shape" in failure.value.remedy
    assert deployments.apply(target, WATCH).lifecycle_state == "ACTIVE"
    assert len(standing(deployments, target.name)) == 1


def test_a_container_that_ends_is_quoted_with_what_it_said(deployments, make_target):
    with pytest.raises(CloudError) as failure:
        deployments.apply(make_target("exit"), WATCH)
    assert "\n" not in str(failure.value)
    said = "\n".join(failure.value.details)
    assert "deserialization failed: the engine is for another GPU" in said
    assert "loading exit" in said
    assert "toolchain of the image" in failure.value.remedy


def test_a_failed_update_raises_keeps_the_old_claims_and_the_next_succeeds(
    deployments, make_target, cloud
):
    first = make_target()
    deployments.confirm(deployments.apply(first, WATCH).id, first, WATCH)
    second = make_target("second")
    cloud.fault(kind="bootstrap", operation="update_model_deployment")
    with pytest.raises(CloudError, match="Errors occurred while bootstrapping"):
        deployments.apply(second, WATCH)
    left = deployments.get(first.name)
    assert left.lifecycle_state == "NEEDS_ATTENTION"
    assert left.freeform_tags["falconry-key"] == "first"
    assert deployments.apply(second, WATCH).lifecycle_state == "ACTIVE"


def test_a_deployment_that_needs_attention_and_nothing_else_is_looked_at_again(
    deployments, make_target, cloud
):
    first = make_target()
    deployments.apply(first, WATCH)
    cloud.fault(kind="bootstrap", operation="update_model_deployment")
    with pytest.raises(CloudError):
        deployments.apply(make_target("second"), WATCH)
    assert deployments.apply(first, WATCH).lifecycle_state == "ACTIVE"


def test_a_creation_that_somebody_else_began_is_waited_for(deployments, make_target):
    target, began = make_target(), threading.Event()
    watch = Watch(60, lambda step, fraction: began.set())
    other = threading.Thread(target=deployments.apply, args=(target, watch))
    other.start()
    assert began.wait(20)
    active = deployments.apply(target, WATCH)
    other.join()
    assert active.lifecycle_state == "ACTIVE"
    assert len(standing(deployments, target.name)) == 1


def test_a_change_that_no_operation_makes_is_not_waited_for(
    deployments, make_target, monkeypatch, cloud
):
    """As of a cloud that has lost an operation; here the operation is only not shown."""
    monkeypatch.setattr(deployments_module, "_MOST_IDLE_S", 0.2)
    target, began = make_target(), threading.Event()
    cloud.fault(kind="never_healthy", operation="create_model_deployment", seconds=2)
    creation = threading.Thread(target=ignore_failure, args=(deployments, target, began))
    creation.start()
    assert began.wait(20)
    with monkeypatch.context() as patch:
        patch.setattr(deployments_module, "running_request", lambda *_: None)
        with pytest.raises(CloudError, match="CREATING, and no operation is running on it; run"):
            deployments.settled(target.name, WATCH)
    creation.join()


def ignore_failure(deployments, target, began):
    with contextlib.suppress(CloudError):
        deployments.apply(target, Watch(60, lambda step, fraction: began.set()))


def test_an_inactive_deployment_is_changed_at_once_and_started(
    deployments, make_target, make_settings, session
):
    first = deployments.apply(make_target(), WATCH)
    assert deployments.deactivate(first.display_name, WATCH).lifecycle_state == "INACTIVE"
    other = make_settings("deployment.bandwidth_mbps=20 deployment.instances=2")
    active = deployments.apply(make_target("second", settings=other.deployment), WATCH)
    assert active.lifecycle_state == "ACTIVE"
    assert operations(session, first.id).count("MODEL_DEPLOYMENT_UPDATE") == 1


def operations(session, deployment_id):
    client = session.client(oci.data_science.DataScienceClient)
    requests = client.list_work_requests(session.compartment_id, resource_id=deployment_id).data
    return [each.operation_type for each in requests]


def refuse_while_active(cloud):
    """Lets the cloud refuse what UpdateModelDeploymentDetails calls possible only when inactive."""
    cloud.fault(
        kind="status",
        operation="update_model_deployment",
        status=409,
        code="IncorrectState",
        times=2,
    )


def test_a_change_that_needs_a_stop_is_refused_unless_a_stop_is_allowed(
    deployments, make_target, make_settings, cloud
):
    first = deployments.apply(make_target(), WATCH)
    other = make_settings("deployment.bandwidth_mbps=20")
    refuse_while_active(cloud)
    with pytest.raises(CloudError) as failure:
        deployments.apply(make_target(settings=other.deployment), WATCH)
    assert "bandwidth" in str(failure.value)
    assert "deployment.downtime=true" in str(failure.value)
    assert deployments.read(first.id).lifecycle_state == "ACTIVE"


def test_a_change_that_needs_a_stop_is_made_with_one_where_that_is_allowed(
    deployments, make_target, make_settings, session, cloud
):
    first = deployments.apply(make_target(), WATCH)
    other = make_settings("deployment.bandwidth_mbps=20 deployment.downtime=true")
    refuse_while_active(cloud)
    active = deployments.apply(make_target(settings=other.deployment), WATCH)
    details = active.model_deployment_configuration_details.model_configuration_details
    assert (active.id, details.bandwidth_mbps) == (first.id, 20)
    assert "MODEL_DEPLOYMENT_DEACTIVATE" in operations(session, first.id)


def test_an_engine_and_the_image_that_it_is_bound_to_change_together_or_not_at_all(
    deployments, make_wanted, session, make_settings
):
    first = deployments.apply(target_of(make_wanted(engine_bound=True)), WATCH)
    other = make_wanted("second", engine_bound=True)
    image = replace(other.image, reference=f"{other.image.reference}-other")
    with pytest.raises(CloudError, match=r"image.*deployment\.downtime=true"):
        deployments.apply(target_of(replace(other, image=image)), WATCH)
    assert operations(session, first.id) == ["MODEL_DEPLOYMENT_CREATE"]


def test_a_setting_that_cannot_be_taken_back_is_named(deployments, make_target, make_settings):
    deployments.apply(make_target(), WATCH)
    closed = make_settings("deployment.openai=false").deployment
    with pytest.raises(CloudError, match="does not take back predict_api_specification"):
        deployments.apply(make_target(settings=closed), WATCH)


def test_an_unknown_image_is_refused_in_one_sentence(deployments, make_wanted):
    wanted = make_wanted()
    image = replace(wanted.image, reference="local.ocir.io/nobody/nothing:1")
    with pytest.raises(CloudError) as failure:
        deployments.apply(target_of(replace(wanted, image=image)), WATCH)
    assert "creating the deployment was refused: 400" in str(failure.value)
    assert "nobody/nothing" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_starting_and_stopping_twice_is_as_once(deployments, make_target):
    first = deployments.apply(make_target(), WATCH)
    for _ in range(2):
        assert deployments.deactivate(first.display_name, WATCH).lifecycle_state == "INACTIVE"
    for _ in range(2):
        assert deployments.activate(first.display_name, WATCH).lifecycle_state == "ACTIVE"


def test_one_that_cannot_be_asked_says_what_to_run(deployments, make_target):
    name = make_target().name
    with pytest.raises(CloudError, match=r"nothing is deployed; run: make deploy$"):
        deployments.in_use(name)
    active = deployments.apply(make_target(), WATCH)
    assert deployments.in_use(name).id == active.id
    deployments.deactivate(name, WATCH)
    with pytest.raises(CloudError, match=r"is INACTIVE; run: make activate PROFILE=oci$"):
        deployments.in_use(name, "PROFILE=oci")


def test_a_deployment_is_made_again_after_each_deletion(deployments, make_target):
    target, made = make_target(), []
    for _ in range(3):
        active = deployments.apply(target, WATCH)
        made.append(active.id)
        deployments.delete(active, WATCH)
    assert len(set(made)) == 3
    assert deployments.find(target.name) is None


def test_a_deletion_that_an_earlier_run_began_is_waited_for(session, deployments, make_target):
    target = make_target()
    active = deployments.apply(target, WATCH)
    session.client(DataScienceClient).delete_model_deployment(active.id)
    deployments.remove(target.name, WATCH)
    assert deployments.read(active.id).lifecycle_state == "DELETED"
    assert not deployments.remove(target.name, WATCH)


def test_an_interrupted_wait_leaves_the_operation_running_and_says_so(deployments, make_target):
    target = make_target()

    def interrupt(step, fraction):
        raise KeyboardInterrupt

    with pytest.raises(DetachedOperation, match="make status and make logs"):
        deployments.apply(target, Watch(60, interrupt))
    assert deployments.settled(target.name, WATCH).lifecycle_state == "ACTIVE"
