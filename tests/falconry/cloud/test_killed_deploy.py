"""A deployment whose runs are killed after any of their calls: the next run ends it.

`test_every_fault` has the calls fail, which a run notices; here its process is gone before it has
the answer. That a run is killed before a call is that it is killed after the one before.
"""

import multiprocessing
import os
import secrets

import oci
import pytest
from oci.data_science import DataScienceClient

from falconry.cloud.session import Session
from falconry.endpoint.client import DeploymentClient
from tests.falconry.cloud.conftest import run

_KILLED = 40


def killed_after_a_new_call(work, met):
    """Runs work in this process, and ends it after a call that no run was ended after yet.

    Args:
        work: what makes the calls.
        met: a pipe that gives the calls that runs were ended after, and is told of this one's.
    """
    known = set(met.recv())

    def deadly(original, operation_of):
        def call(client, *arguments, **named):
            answer = original(client, *arguments, **named)
            if (operation := operation_of(named)) not in known:
                met.send(operation)
                os._exit(_KILLED)
            return answer

        return call

    kind = oci.base_client.BaseClient
    kind.call_api = deadly(kind.call_api, lambda named: named["operation_name"])
    DeploymentClient.send = deadly(DeploymentClient.send, lambda named: "predict")
    work()


def every_kill(work):
    """Runs work until there is no call left to be killed after; gives the calls."""
    processes = multiprocessing.get_context("fork")
    met = []
    while True:
        here, there = processes.Pipe()
        child = processes.Process(target=killed_after_a_new_call, args=(work, there))
        child.start()
        there.close()
        here.send(met)
        child.join()
        if child.exitcode == 0:
            return met
        assert child.exitcode == _KILLED, met
        met.append(here.recv())


@pytest.fixture
def settings_of_its_own(make_settings):
    """Nothing that they name is there yet; even a small artifact goes through a bucket."""
    own = secrets.token_hex(4)
    names = ("project", "model_version_set", "log_group", "log", "upload.bucket")
    words = " ".join([f"cloud.{name}={own}" for name in names] + [f"deployment.name={own}"])
    return make_settings(f"{words} cloud.upload.staged_above_mib=0")


def test_a_deploy_killed_after_any_of_its_calls_is_finished_by_the_next(
    deployments, make_stage, settings_of_its_own
):
    run(make_stage("hello"))  # so that no child has to import what a deployment needs
    settings = settings_of_its_own
    stage = make_stage("hello", settings=settings)

    met = every_kill(lambda: run(stage))

    assert {"commit_multipart_upload", "create_model_deployment", "predict"} <= set(met)
    output = run(stage)
    session = Session(settings.cloud)
    science, name = session.client(DataScienceClient), settings.deployment.name
    (deployment,) = science.list_model_deployments(session.compartment_id, display_name=name).data
    assert (deployment.id, deployment.lifecycle_state) == (output.digest, "ACTIVE")
    assert len(science.list_models(session.compartment_id, display_name=name).data) == 1
    project = settings.cloud.project
    assert len(science.list_projects(session.compartment_id, display_name=project).data) == 1
