"""Jobs and their runs, by the SDK: their containers run, as processes."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import oci
import pytest

from tests.local_oci.support import IMAGE, Sdk, ds, wait_until

ENDED = ("SUCCEEDED", "FAILED", "CANCELED")
# What a job sees of its principal: the SDK's own signer, and a request that it signs.
ASK_AS_RESOURCE = """
import json, os, oci
signer = oci.auth.signers.get_resource_principals_signer()
client = oci.object_storage.ObjectStorageClient(
    {}, signer=signer, service_endpoint=os.environ["ENDPOINT"])
print(json.dumps({"namespace": client.get_namespace().data,
                  "run": signer.get_claim("res_id"), "here": os.environ["JOB_RUN_OCID"]}))
"""


@pytest.fixture(scope="module")
def log(sdk: Sdk) -> tuple[str, str]:
    """A group and a log that job runs write into."""
    return sdk.log()


@pytest.fixture(scope="module")
def project(sdk: Sdk) -> str:
    return sdk.project()


@pytest.fixture
def new_job(sdk: Sdk, project: str, log: Any) -> Any:
    """Makes a job whose container runs a command."""

    def make(*command: str, image: str = IMAGE, storage: int = 50, **configuration: Any) -> Any:
        details = ds.CreateJobDetails(
            project_id=project,
            compartment_id=sdk.compartment,
            display_name="a job",
            job_configuration_details=ds.DefaultJobConfigurationDetails(**configuration),
            job_infrastructure_configuration_details=(
                ds.ManagedEgressStandaloneJobInfrastructureConfigurationDetails(
                    shape_name="VM.GPU.A10.1", block_storage_size_in_gbs=storage
                )
            ),
            job_environment_configuration_details=(
                ds.OcirContainerJobEnvironmentConfigurationDetails(image=image, cmd=list(command))
            ),
            job_log_configuration_details=ds.JobLogConfigurationDetails(
                enable_logging=True, log_group_id=log[0], log_id=log[1]
            ),
            freeform_tags={"made-by": "a test"},
        )
        return sdk.data_science.create_job(details).data

    return make


def start(sdk: Sdk, job: Any, override: dict[str, Any] | None = None, **options: Any) -> Any:
    """Begins a run, which may have another configuration than its job."""
    details = ds.CreateJobRunDetails(
        project_id=job.project_id, compartment_id=job.compartment_id, job_id=job.id
    )
    if override is not None:
        details.job_configuration_override_details = ds.DefaultJobConfigurationDetails(**override)
    return sdk.data_science.create_job_run(details, **options).data


def ended(sdk: Sdk, run: Any) -> Any:
    def look() -> Any:
        found = sdk.data_science.get_job_run(run.id).data
        return found if found.lifecycle_state in ENDED else None

    return wait_until(look)


def messages(sdk: Sdk, run: Any) -> list[str]:
    """What the run wrote, by the log search."""
    details = run.log_details
    query = f'search "{run.compartment_id}/{details.log_group_id}/{details.log_id}"'
    found = sdk.log_search.search_logs(
        oci.loggingsearch.models.SearchLogsDetails(
            time_start=datetime.now(UTC) - timedelta(hours=1),
            time_end=datetime.now(UTC),
            search_query=f"{query} | sort by datetime asc",
        )
    ).data.results
    contents = [result.data["logContent"] for result in found]
    return [each["data"]["message"] for each in contents if each["source"] == run.id]


def test_a_run_succeeds_and_its_lines_are_in_its_log(sdk: Sdk, new_job: Any) -> None:
    job = new_job("sh", "-c", "echo $WORD $1; echo two >&2", environment_variables={"WORD": "one"})
    run = ended(sdk, start(sdk, job))
    assert run.lifecycle_state == "SUCCEEDED"
    assert run.time_accepted <= run.time_started <= run.time_finished
    assert sorted(messages(sdk, run)) == ["one", "two"]


def test_arguments_follow_the_command(sdk: Sdk, new_job: Any) -> None:
    run = ended(sdk, start(sdk, new_job("echo", "a", command_line_arguments="b 'c  d'")))
    assert messages(sdk, run) == ["a b c  d"]


def test_a_run_adds_variables_and_replaces_arguments(sdk: Sdk, new_job: Any) -> None:
    job = new_job(
        *("sh", "-c", "echo $A $B $0"),
        environment_variables={"A": "1", "B": "2"},
        command_line_arguments="job",
    )
    override = {"environment_variables": {"B": "3"}, "command_line_arguments": "run"}
    assert messages(sdk, ended(sdk, start(sdk, job, override))) == ["1 3 run"]


@pytest.mark.parametrize(
    "override",
    [{"environment_variables": {"A": "x" * 20_001}}, {"command_line_arguments": "x" * 4_001}],
    ids=lambda given: next(iter(given)),
)
def test_a_configuration_beyond_the_limits_is_refused(
    sdk: Sdk, new_job: Any, override: dict[str, Any]
) -> None:
    job = new_job("true")
    for use in (lambda: new_job("true", **override), lambda: start(sdk, job, override)):
        with pytest.raises(oci.exceptions.ServiceError) as refusal:
            use()
        assert (refusal.value.status, refusal.value.code) == (400, "InvalidParameter")


def test_a_long_command_is_refused(new_job: Any) -> None:
    with pytest.raises(oci.exceptions.ServiceError) as refusal:
        new_job("x" * 2048)
    assert refusal.value.status == 400


def test_a_run_is_renamed_and_deleted_once_it_has_ended(sdk: Sdk, new_job: Any) -> None:
    client, run = sdk.data_science, start(sdk, new_job("sleep", "300"))
    update = ds.UpdateJobRunDetails(display_name="another", freeform_tags={"a": "b"})
    renamed = client.update_job_run(run.id, update).data
    assert (renamed.display_name, renamed.freeform_tags) == ("another", {"a": "b"})
    with pytest.raises(oci.exceptions.ServiceError) as refusal:
        client.delete_job_run(run.id)
    assert (refusal.value.status, refusal.value.code) == (409, "IncorrectState")
    client.cancel_job_run(run.id)
    ended(sdk, run)
    client.delete_job_run(run.id)
    assert client.get_job_run(run.id).data.lifecycle_state == "DELETED"


def test_what_is_not_there_is_404(sdk: Sdk) -> None:
    client, nowhere = sdk.data_science, "ocid1.datasciencejobrun.oc1..nowhere"
    for look in (client.get_job_run, client.delete_job_run, client.get_job):
        with pytest.raises(oci.exceptions.ServiceError) as refusal:
            look(nowhere)
        assert refusal.value.status == 404


def test_a_run_signs_as_itself(sdk: Sdk, new_job: Any) -> None:
    variables = {"ENDPOINT": sdk.cloud.endpoint}
    job = new_job(sys.executable, "-c", ASK_AS_RESOURCE, environment_variables=variables)
    run = ended(sdk, start(sdk, job))
    (line,) = messages(sdk, run)
    said = json.loads(line)
    assert said["namespace"] == sdk.object_storage.get_namespace().data
    assert said["run"] == said["here"] == run.id


def test_a_failed_run_tells_its_exit_code(sdk: Sdk, new_job: Any) -> None:
    run = ended(sdk, start(sdk, new_job("sh", "-c", "exit 7")))
    assert run.lifecycle_state == "FAILED"
    assert "exit code 7" in run.lifecycle_details


@pytest.mark.parametrize(
    ("reference", "command"),
    [pytest.param("no/such:image", "sh", id="image"), pytest.param(IMAGE, "none", id="command")],
)
def test_what_cannot_start_fails(sdk: Sdk, new_job: Any, reference: str, command: str) -> None:
    run = ended(sdk, start(sdk, new_job(command, image=reference)))
    assert run.lifecycle_state == "FAILED"
    assert run.lifecycle_details.startswith("Job run bootstrap failure")


def test_a_run_is_cancelled(sdk: Sdk, new_job: Any) -> None:
    job = new_job("sh", "-c", "echo begun; exec sleep 300")
    run = start(sdk, job)
    wait_until(lambda: messages(sdk, sdk.data_science.get_job_run(run.id).data))
    with pytest.raises(oci.exceptions.ServiceError) as refusal:
        sdk.data_science.delete_job(job.id, delete_related_job_runs=True)
    assert (refusal.value.status, refusal.value.code) == (409, "IncorrectState")
    sdk.data_science.cancel_job_run(run.id)
    assert ended(sdk, run).lifecycle_state == "CANCELED"
    with pytest.raises(oci.exceptions.ServiceError):
        sdk.data_science.cancel_job_run(run.id)


def test_a_job_is_deleted_with_its_runs(sdk: Sdk, new_job: Any) -> None:
    job = new_job("true")
    run = ended(sdk, start(sdk, job))
    with pytest.raises(oci.exceptions.ServiceError):
        sdk.data_science.delete_job(job.id)
    sdk.data_science.delete_job(job.id, delete_related_job_runs=True)
    assert sdk.data_science.get_job(job.id).data.lifecycle_state == "DELETED"
    assert sdk.data_science.get_job_run(run.id).data.lifecycle_state == "DELETED"
    with pytest.raises(oci.exceptions.ServiceError):
        start(sdk, job)


def test_jobs_and_runs_are_listed(sdk: Sdk, new_job: Any) -> None:
    job = new_job("true")
    run = start(sdk, job)
    jobs = sdk.data_science.list_jobs(sdk.compartment, display_name="a job").data
    assert job.id in [each.id for each in jobs if each.freeform_tags == {"made-by": "a test"}]
    (found,) = sdk.data_science.list_job_runs(sdk.compartment, job_id=job.id).data
    assert found.id == run.id
    update = ds.UpdateJobDetails(display_name="another", freeform_tags={"a": "b"})
    assert sdk.data_science.update_job(job.id, update).data.freeform_tags == {"a": "b"}


def test_the_same_token_begins_one_run(sdk: Sdk, new_job: Any) -> None:
    job, token = new_job("true"), uuid.uuid4().hex
    first, second = (start(sdk, job, opc_retry_token=token) for _ in range(2))
    assert first.id == second.id


def test_a_run_without_a_machine_fails(sdk: Sdk, new_job: Any) -> None:
    sdk.cloud.fault(kind="no_capacity", operation="create_job_run")
    run = ended(sdk, start(sdk, new_job("true")))
    assert "no capacity" in run.lifecycle_details


def test_too_little_storage_is_refused(new_job: Any) -> None:
    with pytest.raises(oci.exceptions.ServiceError) as refusal:
        new_job("true", storage=49)
    assert refusal.value.status == 400
