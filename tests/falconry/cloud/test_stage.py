"""The deployment stage as `make deploy` runs it: it answers, or goes back to what did."""

import multiprocessing
import os
import signal

import pytest
import requests
from oci._vendor.requests.adapters import HTTPAdapter
from oci.data_science import DataScienceClient

from falconry.cloud import emulator
from falconry.cloud.session import session_of
from falconry.deployment import stage as stage_module
from falconry.deployment.catalog import Catalog
from falconry.endpoint import Endpoint
from falconry.errors import CloudError, DetachedOperation, EndpointError
from tests.falconry.cloud.conftest import WATCH, run
from tests.falconry.cloud.eight_clients import assert_took_over, eight_clients


def reason(stage):
    return stage.reason(stage.inputs())


def up_to_date(stage):
    return stage.find(stage.key(stage.inputs())) is not None


@pytest.fixture
def answer(session, settings, deployments):
    """Asks the deployment, and gives the text of its answer."""

    def ask():
        url = deployments.get(settings.deployment.name).model_deployment_url
        return Endpoint(url, session.signer()).answer("who?", 1)

    return ask


@pytest.fixture
def sent(monkeypatch):
    """The requests that this process sends, by the SDK or without it."""
    urls = []
    for adapter in (HTTPAdapter, requests.adapters.HTTPAdapter):
        original = adapter.send

        def send(self, request, *arguments, original=original, **named):
            urls.append((request.method, request.url))
            return original(self, request, *arguments, **named)

        monkeypatch.setattr(adapter, "send", send)
    return urls


def test_what_is_in_place_costs_one_request_and_one_question(make_stage, answer, sent):
    run(make_stage("hello"))
    assert answer() == "hello"
    sent.clear()
    assert up_to_date(make_stage("hello"))
    assert [method for method, _ in sent] == ["GET", "POST"]
    assert sent[-1][1].endswith("/predict")


def test_the_container_has_the_variables_that_the_plan_shows(make_stage, deployments, settings):
    stage = make_stage("hello")
    planned = [line.split()[1] for line in stage.details("")]
    run(stage)
    current = deployments.get(settings.deployment.name).model_deployment_configuration_details
    variables = current.environment_configuration_details.environment_variables
    assert planned == [
        f"{name}={variables[name]}" for name in (line.split("=")[0] for line in planned)
    ]
    assert {line.split("=")[0] for line in planned} == {
        "STORAGE_SIZE_IN_GB",
        "DEPLOYMENT_TIMEOUT_IN_MINUTES",
        "MODEL_DEPLOY_ENABLE_STREAMING",
    }


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"kind": "delay", "seconds": 3}, "the deployment does not answer"),
        ({"kind": "status", "status": 503}, "the deployment answers a question with status 503"),
    ],
    ids=["silent", "refusing"],
)
def test_what_stopped_answering_is_not_up_to_date(
    make_stage, cloud, deployments, monkeypatch, fault, why
):
    run(make_stage("hello"))
    monkeypatch.setattr(stage_module, "_QUESTION_TIMEOUT_S", (1.0, 0.5))
    cloud.fault(path="*/predict", **fault)
    stage = make_stage("hello")
    assert not up_to_date(stage)
    assert reason(stage) == why


def test_a_local_cloud_of_older_code_is_a_reason_to_deploy(make_stage, deployments, monkeypatch):
    run(make_stage("hello"))
    monkeypatch.setattr(emulator, "_health", lambda _: {"outdated": True})
    assert not up_to_date(make_stage("hello"))
    assert reason(make_stage("hello")) == "the local cloud runs older code"


def test_the_deployment_says_what_it_is(make_stage, deployments, settings):
    stage = make_stage("hello")
    output = run(stage)
    tags = deployments.get(settings.deployment.name).freeform_tags
    assert tags["falconry-key"] == stage.key(stage.inputs())
    assert tags["falconry-artifact"] == stage.inputs()["artifact"]
    assert tags["falconry-engine"] == "e" * 64
    assert output.summary.startswith("ACTIVE")


def test_how_a_run_waits_is_no_reason_to_deploy_again(make_stage, make_settings, deployments):
    run(make_stage("hello"))
    patient = make_settings("deployment.timeout_minutes=90 deployment.downtime=true")
    assert up_to_date(make_stage("hello", settings=patient))


def test_what_is_active_and_does_not_answer_is_not_reported_as_up_to_date(
    make_stage, deployments, settings
):
    with pytest.raises(EndpointError, match="the model cannot answer"):
        run(make_stage("mute"))
    assert deployments.get(settings.deployment.name).lifecycle_state == "ACTIVE"
    assert not up_to_date(make_stage("mute"))
    assert reason(make_stage("mute")) == "it has not answered yet"


@pytest.mark.parametrize("bad", ["exit", "mute"])
def test_a_new_model_that_fails_is_followed_by_the_old_one_where_that_is_asked(
    make_stage, answer, bad, deployments, settings
):
    run(make_stage("good"))
    before = deployments.get(settings.deployment.name)
    with pytest.raises(CloudError) as failure:
        run(make_stage(bad, rollback=True))
    model = before.freeform_tags["falconry-model"]
    assert f"returned to model {model}" in str(failure.value)
    assert "which answers" in str(failure.value)
    after = deployments.get(settings.deployment.name)
    assert (after.id, after.lifecycle_state) == (before.id, "ACTIVE")
    assert after.freeform_tags == before.freeform_tags
    assert answer() == "good"
    assert up_to_date(make_stage("good"))


def test_the_reason_of_the_failure_is_told_with_the_return(make_stage, deployments):
    run(make_stage("good"))
    with pytest.raises(CloudError) as failure:
        run(make_stage("exit", rollback=True))
    assert "deserialization failed" in "\n".join(failure.value.details)
    assert "toolchain of the image" in failure.value.remedy


def test_without_being_asked_nothing_returns(make_stage, deployments, settings):
    run(make_stage("good"))
    with pytest.raises(EndpointError):
        run(make_stage("mute"))
    standing = deployments.get(settings.deployment.name)
    model = standing.model_deployment_configuration_details.model_configuration_details.model_id
    assert model != standing.freeform_tags["falconry-model"]


def test_a_run_that_finds_a_half_made_change_returns_to_what_answered_last(
    make_stage, answer, deployments
):
    run(make_stage("good"))
    with pytest.raises(EndpointError):
        run(make_stage("mute"))  # ends here, as if it had been killed after the change
    with pytest.raises(CloudError, match="which answers"):
        run(make_stage("mute", rollback=True))
    assert answer() == "good"


def test_a_first_deployment_has_nothing_to_return_to(make_stage, deployments):
    with pytest.raises(CloudError, match="nothing to return to"):
        run(make_stage("exit", rollback=True))


def test_a_return_that_fails_is_told_with_both_reasons(make_stage, deployments, cloud):
    run(make_stage("good"))
    cloud.fault(kind="bootstrap", operation="update_model_deployment", times=9)
    with pytest.raises(CloudError) as failure:
        run(make_stage("other", rollback=True))
    assert "Errors occurred while bootstrapping" in str(failure.value)


def test_a_new_model_takes_over_while_eight_clients_ask_and_no_request_fails(
    make_stage, deployments, settings, session
):
    run(make_stage("A"))
    with eight_clients(deployments.get(settings.deployment.name), session) as told:
        run(make_stage("B"))
    assert_took_over(told, "A", "B")


def deploy_in_a_process(stage, results):
    """What one of two runners does."""
    try:
        results.put(run(stage).digest)
    except CloudError as failure:
        results.put(str(failure))


def test_two_runners_that_deploy_the_same_make_one_deployment_and_one_model(
    make_stage, deployments, settings, session
):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    runners = [
        context.Process(target=deploy_in_a_process, args=(make_stage("same"), results))
        for _ in range(2)
    ]
    for runner in runners:
        runner.start()
    found = {results.get(timeout=90) for _ in runners}
    for runner in runners:
        runner.join()
    standing = [
        each.id
        for each in deployments.named(settings.deployment.name)
        if each.lifecycle_state != "DELETED"
    ]
    assert found == set(standing)
    assert len(standing) == 1
    made = make_stage("same").inputs()["artifact"]
    tags = [model.freeform_tags["falconry-artifact"] for model in Catalog(session).models()]
    assert tags.count(made) == 1


def interrupted_in_a_process(stage, waiting, results):
    """Waits for a deployment until Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def report(step, fraction):
        if step == "Waiting for the container to be healthy":
            waiting.set()

    try:
        run(stage, report)
        results.put("it ended by itself")
    except DetachedOperation as interrupt:
        results.put(str(interrupt))


def test_ctrl_c_ends_the_wait_and_the_cloud_goes_on(
    cloud, make_stage, make_settings, deployments, settings
):
    begin = cloud.directory.parent / "signals" / "begin"
    slow = make_settings(f"deployment.environment.START_WITH_FILE={begin}")
    context = multiprocessing.get_context("spawn")
    waiting, results = context.Event(), context.Queue()
    runner = context.Process(
        target=interrupted_in_a_process, args=(make_stage("hi", settings=slow), waiting, results)
    )
    runner.start()
    assert waiting.wait(60)
    os.kill(runner.pid, signal.SIGINT)
    said = results.get(timeout=10)
    runner.join()
    assert "the creation of the deployment continues in the cloud" in said
    assert "make status and make logs" in said
    assert deployments.find(settings.deployment.name).lifecycle_state == "CREATING"
    begin.touch()
    assert deployments.settled(settings.deployment.name, WATCH).lifecycle_state == "ACTIVE"
    run(make_stage("hi", settings=slow))
    assert up_to_date(make_stage("hi", settings=slow))


def test_everything_in_a_run_shares_one_session(settings):
    assert session_of(settings.cloud) is session_of(settings.cloud)


def test_the_catalog_names_the_licence_and_the_engine(make_stage, deployments, session, settings):
    run(make_stage("licensed"))
    model_id = deployments.get(settings.deployment.name).freeform_tags["falconry-model"]
    model = session.client(DataScienceClient).get_model(model_id).data
    items = {item.key: item.value for item in model.custom_metadata_list}
    # checkpoints/tiny-falcon/README.md, in its front matter.
    assert items["license"] == "apache-2.0"
    assert items["engine"] == "e" * 64
