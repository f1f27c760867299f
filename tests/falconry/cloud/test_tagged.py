"""What a trial made is removed, also when the trial was killed, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest
from oci.data_science import DataScienceClient
from oci.logging import LoggingManagementClient

from falconry.deployment.tagged import remove_tagged
from falconry.prove.guardian import TAG, TASK, Task, finish_old_trials
from falconry.prove.report import REPORT_JSON, Record
from tests.falconry.cloud.conftest import ROOT, WATCH
from tests.local_oci.support import wait_until

# Waits to be killed, as a trial in the middle of a long operation.
TRIAL = """
import json, sys, time
from pathlib import Path
from falconry.prove.guardian import Task, guarded
with guarded(Path(sys.argv[1]), Task(**json.loads(sys.argv[2]))):
    print("guarded", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(request):
    return request.node.name[:60]


@pytest.fixture
def settings(make_settings, run):
    """The profile with a trial's tag and a trial's names."""
    names = " ".join(f"cloud.{each}={run}" for each in ("project", "model_version_set"))
    words = f"{names} cloud.log_group={run} cloud.log={run}"
    return make_settings(f"{words} cloud.tags='[\"{TAG}={run}\"]'")


@pytest.fixture
def made(session, deployments, make_target, run):
    """A project, a model of a set, a log and a deployment, all with the tag."""
    active = deployments.apply(make_target(tags=session.tags), WATCH)
    assert active.freeform_tags[TAG] == run
    assert run in names_in_the_cloud(session)
    return active


def record(run):
    return Record(run, "local", "2026-11-27T06:00:00Z", "", "VM.Standard.E4.Flex", 90, None)


def task(settings, run):
    return Task(run, settings.cloud.model_dump_json(), 600, ends_emulator=False)


def names_in_the_cloud(session):
    science, logging = session.client(DataScienceClient), session.client(LoggingManagementClient)
    compartment = session.compartment_id
    gone = {"DELETED", "DELETING"}
    found = [
        *science.list_model_deployments(compartment).data,
        *science.list_models(compartment).data,
        *science.list_projects(compartment).data,
        *science.list_model_version_sets(compartment).data,
        *logging.list_log_groups(compartment).data,
    ]
    return [
        getattr(each, "display_name", None) or each.name
        for each in found
        if getattr(each, "lifecycle_state", None) not in gone
    ]


def test_everything_with_the_tag_is_removed_and_nothing_else(session, made, run):
    others = [name for name in names_in_the_cloud(session) if name not in (run, "a model")]
    assert remove_tagged(session, TAG, "another trial", WATCH) == []
    removed = remove_tagged(session, TAG, run, WATCH)
    kinds = ["deployment", "model", "model version set", "project", "log", "log group"]
    assert [(each.kind, each.problem) for each in removed] == [(kind, None) for kind in kinds]
    assert removed[0].id == made.id
    left = names_in_the_cloud(session)
    assert run not in left
    assert set(others) - {made.display_name} <= set(left)
    assert remove_tagged(session, TAG, run, WATCH) == []


def test_what_cannot_be_removed_is_reported_and_the_rest_goes(session, made, run, cloud):
    cloud.fault(kind="policy", operation="delete_log_group", times=99)
    cloud.fault(kind="policy", operation="list_models", times=1)
    removed = {each.kind: each for each in remove_tagged(session, TAG, run, WATCH)}
    assert "removing the log group was refused" in (removed["log group"].problem or "")
    assert "looking for models was refused" in removed["models"].problem
    assert removed["deployment"].problem is None
    cloud.forget_faults()
    assert all(each.problem is None for each in remove_tagged(session, TAG, run, WATCH))
    assert run not in names_in_the_cloud(session)


def test_a_killed_trial_is_removed(session, settings, made, run, tmp_path, cloud):
    cloud.fault(kind="status", status=409, operation="delete_model_version_set", times=1)
    record(run).write(tmp_path)
    given = json.dumps(asdict(task(settings, run)))
    trial = subprocess.Popen(
        [sys.executable, "-c", TRIAL, str(tmp_path), given],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with trial:
        assert trial.stdout.readline() == "guarded\n"
        os.killpg(trial.pid, signal.SIGKILL)
    wait_until(lambda: (tmp_path / REPORT_JSON).exists(), 60)
    assert run not in names_in_the_cloud(session)
    found = json.loads((tmp_path / REPORT_JSON).read_text())
    assert [each["problem"] for each in found["removed"]] == [None] * 6
    assert found["ended"] is False
    assert made.id not in json.dumps(found)


def test_a_trial_whose_guardian_was_killed_too_is_removed_by_the_next(
    session, settings, made, run, tmp_path
):
    directory = tmp_path / run
    directory.mkdir()
    record(run).write(directory)
    (directory / TASK).write_text(json.dumps(asdict(task(settings, run))))
    assert finish_old_trials(tmp_path) == [run]
    assert run not in names_in_the_cloud(session)
    assert finish_old_trials(tmp_path) == []
