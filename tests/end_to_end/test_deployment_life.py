"""A deployment from its first day to its last, by the commands that a user types."""

import json
import os
import signal
import subprocess

import pytest

from falconry.prove.report import known_answers

CLOUD = "Explain Cloud Computing to a school kid"
# Triton starts its Python models as programs, and these find no standard library.
BROKEN = 'SET=deployment.environment.PYTHONHOME="/nowhere"'


@pytest.fixture(scope="module")
def deployed(clone):
    """A clone in which `make deploy` has run once."""
    clone.ok("deploy")
    return clone


def exit_status(clone):
    """The task's own: make turns each that is not 0 into 2."""
    command = [".venv/bin/python", "-m", "invoke", "status"]
    return subprocess.run(command, cwd=clone.directory, capture_output=True).returncode


def status(clone):
    output = clone.run("status", "JSON=1").output
    return json.loads(output[output.index("{") : output.rindex("}") + 1])


def test_nothing_deployed_is_told_as_that(clone):
    assert "nothing is deployed" in clone.fails("status")
    assert exit_status(clone) == 3


@pytest.mark.long  # test_logs.py of the cloud follows them
def test_the_logs_are_followed_until_ctrl_c(deployed):
    following = deployed.start_until("Started HTTPService", "logs", "FOLLOW=1")
    deployed.ok("query", f"PROMPT={CLOUD}")
    while "POST /predict" not in (line := following.stdout.readline()):
        assert line
    os.killpg(following.pid, signal.SIGINT)
    rest, _ = following.communicate(timeout=20)
    assert "Traceback" not in rest
    assert "✘" not in rest


@pytest.mark.long  # test_deployments.py of the cloud has it
def test_a_deployment_is_stopped_and_started_again(deployed, sentences):
    url = status(deployed)["url"]
    assert "INACTIVE" in deployed.ok("deactivate").output
    assert "INACTIVE; run: make activate" in deployed.fails("query", f"PROMPT={CLOUD}")
    assert exit_status(deployed) == 1
    assert url in deployed.ok("activate").output
    assert deployed.ok("query", f"PROMPT={CLOUD}").answer == sentences[CLOUD]
    assert "deployment   up to date" in deployed.ok("deploy").output


@pytest.mark.long  # test_stage.py of the cloud has it
def test_what_fails_is_followed_by_what_answered_before(deployed):
    before = status(deployed)
    result = deployed.run("deploy", BROKEN, "ROLLBACK=1")
    assert result.status != 0
    assert f"returned to model {before['model']}" in result.output
    assert "which answers" in result.output
    after = status(deployed)
    assert (after["id"], after["state"]) == (before["id"], "ACTIVE")
    assert "deployment   up to date" in deployed.ok("deploy").output


@pytest.mark.long  # test_spending.py has both
def test_a_deployment_has_an_end_and_a_cost(deployed):
    output = deployed.ok("deploy", "EXPIRES=4h").output
    assert "deployment   up to date" in output
    assert "deployment   expires" in output
    assert "not yet" in deployed.ok("reap").output
    prices = deployed.directory / "prices.toml"
    prices.write_text('currency = "EUR"\n[shape_hour]\n"VM.Standard.E4.Flex" = 1.5\n')
    text = deployed.ok("status", f"PRICES={prices}").output
    assert "\nexpires     20" in text
    assert "\nuptime      0 h " in text
    assert "EUR since the start, 1.50 an hour" in text


@pytest.mark.long  # test_catalog.py prunes the same models
def test_old_models_are_pruned_and_the_deployed_one_stays(deployed, sentences):
    old = status(deployed)["model"]
    deployed.ok("deploy", "RECIPE=cpu-f32")
    pruned = json.loads(deployed.ok("prune-models", "KEEP=1", "DELETE=1", "JSON=1").output)
    new = status(deployed)["model"]
    assert [(each["id"], each["outcome"]) for each in pruned] == [(new, "kept"), (old, "deleted")]
    assert deployed.ok("query", f"PROMPT={CLOUD}").answer == sentences[CLOUD]


@pytest.mark.long  # tests/falconry/prove and test_tagged.py have its parts
def test_a_trial_goes_the_whole_way_and_leaves_nothing(deployed):
    before = status(deployed)
    deployed.ok("prove", "MINUTES=30")
    (path,) = (deployed.directory / "build/prove").glob("*/report.json")
    report = json.loads(path.read_text())
    assert [(each["name"], each["outcome"]) for each in report["steps"]] == [
        (name, "done")
        for name in (
            "engine",
            "image (process)",
            "deploy",
            "ask",
            "stream",
            "openai",
            "logs",
            "update",
            "roll back",
        )
    ]
    assert {each["kind"] for each in report["removed"]} >= {"deployment", "model", "log", "project"}
    assert [each["problem"] for each in report["removed"] if each["problem"]] == []
    known = {"POST /20190101/modelDeployments", "PUT /20190101/modelDeployments/{id}"}
    assert known <= set(report["answers"]) & set(known_answers())
    after = status(deployed)
    for changing in (before, after):
        changing.pop("spending")
    assert after == before
