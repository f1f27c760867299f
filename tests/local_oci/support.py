"""What the tests share: a cloud in a process of its own, and the SDK to speak to it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import oci
import requests

from local_oci import cli

REPOSITORY = Path(__file__).parents[2]
IMAGE = "local/echo:1"
PORT = 8000
MODEL_FILES = {"model_repository/echo/config.pbtxt": b'name: "echo"\n'}
ds = oci.data_science.models


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of a condition."""
    started = time.monotonic()
    while True:
        value = condition()
        waited = time.monotonic() - started
        if value or waited > seconds:
            assert value, "it did not happen in time"
            return value
        # Each look is a request, which takes both processors from what is waited for.
        time.sleep(min(0.25, max(0.05, waited / 10)))


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One command of the program, to its end; one that starts no server in this process."""
    if arguments[0] in ("stop", "status"):
        said, complaints = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaints):
            try:
                status = cli.main(arguments)
            except SystemExit as end:  # argparse's
                status = int(end.code or 0)
        text, errors = said.getvalue(), complaints.getvalue()
        return subprocess.CompletedProcess(arguments, status, text, errors)
    return subprocess.run(
        [sys.executable, "-m", "local_oci", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )


def processes_of(directory: Path) -> list[int]:
    """Processes that have to do with a cloud's directory, by arguments or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(directory) in text:
            found.append(int(entry.name))
    return found


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for name, content in files.items():
            package.writestr(name, content)
    return buffer.getvalue()


def zipped_repository(repository: Path) -> bytes:
    """A model artifact with a model repository, as falconry packs it."""
    return zipped(
        {
            f"model_repository/{path.relative_to(repository)}": path.read_bytes()
            for path in repository.rglob("*")
            if path.is_file()
        }
    )


def ask_cloud(
    directory: Path, endpoint: str, method: str, path: str, **options: Any
) -> requests.Response:
    """A request to the routes of a cloud that are for this machine alone."""
    headers = {"authorization": f"Bearer {(directory / 'local-token').read_text()}"}
    url = f"{endpoint}/_local/{path}"
    return requests.request(method, url, headers=headers, **{"timeout": 5, **options})


class LocalCloud:
    """A cloud that runs `serve` in the foreground of a process of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    def start(self) -> LocalCloud:
        with (self.directory.parent / f"{self.directory.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "local_oci", "serve"),
                    *(f"--directory={self.directory}", *self.arguments),
                ],
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers)
        return self

    def find(self) -> LocalCloud:
        """The cloud that `start` left running in the directory."""
        self.endpoint = (self.directory / "endpoint").read_text()
        return self

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "the server ended"
        try:
            self.endpoint = (self.directory / "endpoint").read_text()
            return self.local("GET", "health").ok
        except (OSError, requests.RequestException):
            return False

    def signal(self, number: int) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def fault(self, **fault: object) -> None:
        """Let a fault happen."""
        self.local("POST", "faults", json=[fault]).raise_for_status()

    def forget_faults(self) -> None:
        """Let nothing more happen."""
        self.local("DELETE", "faults").raise_for_status()

    def local(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request to the cloud itself, with its token."""
        return ask_cloud(self.directory, self.endpoint, method, path, **options)


class Sdk:
    """The SDK's clients for a cloud, and the steps that most tests need."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.config = oci.config.from_file(str(cloud.directory / "config"))
        self.signer = oci.signer.Signer.from_config(self.config)
        self.compartment = self.config["tenancy"]
        self.data_science = self.client(oci.data_science.DataScienceClient)
        self.object_storage = self.client(oci.object_storage.ObjectStorageClient)
        self.artifacts = self.client(oci.artifacts.ArtifactsClient)
        self.identity = self.client(oci.identity.IdentityClient)
        self.logging = self.client(oci.logging.LoggingManagementClient)
        self.log_search = self.client(oci.loggingsearch.LogSearchClient)
        self.inference = self.client(oci.model_deployment.ModelDeploymentClient)

    def client(self, kind: Any, **options: Any) -> Any:
        """A client that neither retries nor breaks the circuit."""
        defaults = {
            "service_endpoint": self.cloud.endpoint,
            "retry_strategy": oci.retry.NoneRetryStrategy(),
            "circuit_breaker_strategy": oci.circuit_breaker.NoCircuitBreakerStrategy(),
            "timeout": (5, 30),
            "signer": self.signer,
        }
        return kind(self.config, **{**defaults, **options})

    @contextmanager
    def auth_token(self) -> Iterator[str]:
        """An auth token that is deleted afterwards."""
        details = oci.identity.models.CreateAuthTokenDetails(description="for a test")
        created = self.identity.create_auth_token(details, self.config["user"]).data
        yield created.token
        self.identity.delete_auth_token(self.config["user"], created.id)

    def repository(self, **details: Any) -> Any:
        """A new container repository."""
        return self.artifacts.create_container_repository(
            oci.artifacts.models.CreateContainerRepositoryDetails(
                **{
                    "compartment_id": self.compartment,
                    "display_name": f"test/{uuid.uuid4().hex[:12]}",
                    **details,
                }
            )
        ).data

    def project(self) -> str:
        """OCID of a new project."""
        details = ds.CreateProjectDetails(compartment_id=self.compartment)
        return str(self.data_science.create_project(details).data.id)

    def model(self, artifact: bytes | None = None, project: str | None = None) -> str:
        """OCID of a new model with an artifact."""
        details = ds.CreateModelDetails(
            compartment_id=self.compartment, project_id=project or self.project()
        )
        model = self.data_science.create_model(details).data
        content = zipped(MODEL_FILES) if artifact is None else artifact
        self.data_science.create_model_artifact(
            model.id, content, content_disposition='attachment; filename="artifact.zip"'
        )
        return str(model.id)

    def log(self) -> tuple[str, str]:
        """OCIDs of a new log group and of a log in it."""
        name = f"group-{uuid.uuid4().hex[:8]}"
        made = self.logging.create_log_group(
            oci.logging.models.CreateLogGroupDetails(
                compartment_id=self.compartment, display_name=name
            )
        )
        group = self._logging_subject(made)
        made = self.logging.create_log(
            group, oci.logging.models.CreateLogDetails(display_name="log", log_type="CUSTOM")
        )
        return group, self._logging_subject(made)

    def _logging_subject(self, answer: Any) -> str:
        """What the composite operations of the SDK look at."""
        work_request = self.logging.get_work_request(answer.headers["opc-work-request-id"]).data
        return str(work_request.resources[0].identifier)

    def deployment_details(
        self,
        model: str,
        variables: dict[str, str] | None = None,
        logs: Any = None,
        **container: Any,
    ) -> Any:
        """What to create: a container of the test image, with what the test wants different."""
        project = self.data_science.get_model(model).data.project_id
        environment = {
            "image": IMAGE,
            "cmd": ["serve", str(PORT)],
            "server_port": PORT,
            "health_check_port": PORT,
            "environment_variables": variables or {},
            **container,
        }
        return ds.CreateModelDeploymentDetails(
            compartment_id=self.compartment,
            project_id=project,
            display_name=f"test-{uuid.uuid4().hex[:8]}",
            category_log_details=logs,
            model_deployment_configuration_details=ds.SingleModelDeploymentConfigurationDetails(
                model_configuration_details=ds.ModelConfigurationDetails(
                    model_id=model,
                    instance_configuration=ds.InstanceConfiguration(
                        instance_shape_name="VM.Standard.E4.Flex"
                    ),
                ),
                environment_configuration_details=(
                    ds.OcirModelDeploymentEnvironmentConfigurationDetails(**environment)
                ),
            ),
        )

    def begin_deployment(self, *arguments: Any, **options: Any) -> tuple[str, str]:
        """OCIDs of a new deployment and of its work request."""
        answer = self.data_science.create_model_deployment(
            self.deployment_details(*arguments, **options)
        )
        return answer.data.id, answer.headers["opc-work-request-id"]

    def deploy(self, model: str | None = None, **options: Any) -> Any:
        """A new deployment that is ACTIVE."""
        deployment, work_request = self.begin_deployment(model or self.model(), **options)
        assert self.finished(work_request).status == "SUCCEEDED", self.errors(work_request)
        return self.data_science.get_model_deployment(deployment).data

    def update(self, deployment: str, **details: Any) -> Any:
        """The finished work request of an update."""
        answer = self.data_science.update_model_deployment(
            deployment, ds.UpdateModelDeploymentDetails(**details)
        )
        return self.finished(answer.headers["opc-work-request-id"])

    def delete(self, deployment: str) -> None:
        """Delete a deployment, to the end."""
        answer = self.data_science.delete_model_deployment(deployment)
        assert self.finished(answer.headers["opc-work-request-id"]).status == "SUCCEEDED"

    def finished(self, work_request: str) -> Any:
        """A work request, when it is over."""

        def over() -> Any:
            record = self.data_science.get_work_request(work_request).data
            return record if record.status in ("SUCCEEDED", "FAILED") else None

        return wait_until(over, 30)

    def steps(self, work_request: str) -> list[str]:
        """The log of a work request."""
        logs = self.data_science.list_work_request_logs(work_request).data
        return [entry.message for entry in logs]

    def errors(self, work_request: str) -> list[tuple[str, str]]:
        """Why a work request failed."""
        errors = self.data_science.list_work_request_errors(work_request).data
        return [(error.code, error.message) for error in errors]

    def state(self, deployment: str) -> str:
        """Lifecycle state of a deployment."""
        return str(self.data_science.get_model_deployment(deployment).data.lifecycle_state)

    def post(self, deployment: str, path: str = "/predict", **options: Any) -> requests.Response:
        """A signed call of a deployment."""
        return self.call("POST", deployment, path, **{"json": {}, **options})

    def call(self, method: str, deployment: str, path: str, **options: Any) -> requests.Response:
        """A signed call of a deployment with any method."""
        url = f"{self.cloud.endpoint}/{deployment}{path}"
        return requests.request(method, url, auth=self.signer, **{"timeout": 30, **options})


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    """Status and code of the SDK's error; a call that succeeds is a failure."""
    try:
        call()
    except oci.exceptions.ServiceError as error:
        return error.status, error.code
    raise AssertionError("the call was not refused")


def job_run(sdk: Sdk, **container: Any) -> Any:
    """A run of a new job, when it has ended."""
    job = sdk.data_science.create_job(
        ds.CreateJobDetails(
            project_id=sdk.project(),
            compartment_id=sdk.compartment,
            job_configuration_details=ds.DefaultJobConfigurationDetails(),
            job_infrastructure_configuration_details=(
                ds.ManagedEgressStandaloneJobInfrastructureConfigurationDetails(
                    shape_name="VM.GPU.A10.1", block_storage_size_in_gbs=50
                )
            ),
            job_environment_configuration_details=(
                ds.OcirContainerJobEnvironmentConfigurationDetails(**container)
            ),
        )
    ).data
    details = ds.CreateJobRunDetails(
        project_id=job.project_id, compartment_id=job.compartment_id, job_id=job.id
    )
    run = sdk.data_science.create_job_run(details).data

    def ended() -> Any:
        found = sdk.data_science.get_job_run(run.id).data
        return found if found.lifecycle_state in ("SUCCEEDED", "FAILED", "CANCELED") else None

    return wait_until(ended, 60)
