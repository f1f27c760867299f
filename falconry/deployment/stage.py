"""The deployment stage: from an artifact to an ACTIVE deployment.

The deployment has the stage's key as a tag from its first answer on, so a runner with an empty
build directory finds what is deployed, asks it one question and does nothing. A rollback returns to
what answered before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oci.data_science import DataScienceClient
from typing_extensions import override

from falconry.artifact.stage import ArtifactOutput
from falconry.cloud import emulator
from falconry.cloud.session import Session, session_of
from falconry.cloud.work_requests import Watch
from falconry.deployment.deployments import Deployments
from falconry.deployment.expiry import EXPIRES_TAG, expiry_warning
from falconry.deployment.target import (
    ARTIFACT_TAG,
    ENGINE_TAG,
    IMAGE_TAG,
    KEY_TAG,
    DeploymentRequest,
    DeploymentSpec,
    previous_target,
    target_of,
)
from falconry.deployment.variables import Sizes, Variable, image_bytes, ranks_of, worked_out
from falconry.engine.manifest import Manifest, read_manifest
from falconry.errors import CloudError, FalconryError, PreflightError
from falconry.findings import refuse
from falconry.image.output import ImageOutput
from falconry.pipeline import Output, Report, Stage
from falconry.repository import FRONT_MODEL
from falconry.settings import EmulatorSettings, Settings

if TYPE_CHECKING:
    from falconry.endpoint.endpoint import Endpoint

# A run with nothing to do reads the deployment and asks it one question. The modules of all other
# clients of the SDK, and httpx, are imported where a deployment is made: each of both costs a tenth
# of a second.

Verify = Callable[[Any], None]
"""Sends a request to an ACTIVE deployment; raises a FalconryError if it fails."""
# Settings that decide how a run waits and change nothing about the deployment.
_OF_THE_RUN = {"timeout_minutes", "downtime"}
_QUESTION: Mapping[str, Any] = {"text_input": "Hello", "max_tokens": 1}
_QUESTION_TIMEOUT_S = (5.0, 10.0)
_BUSY = 429


def endpoint_of(deployment: Any, session: Session) -> Endpoint:
    """Returns the endpoint of a deployment, signed as the session's user."""
    from falconry.endpoint.endpoint import Endpoint

    return Endpoint(deployment.model_deployment_url, session.signer())


def apply_with_rollback(
    deployments: Deployments,
    target: DeploymentSpec,
    verify: Verify,
    watch: Watch,
    *,
    rollback: bool,
) -> Any:
    """Applies a target and verifies that the deployment answers.

    With `rollback` a failure returns to what last answered.

    Raises:
        FalconryError: the failure; after a rollback it also says what is deployed now.
    """
    before = deployments.get(target.name) if rollback else None
    previous = previous_target(before, target) if before else None
    try:
        return _verified(deployments.apply(target, watch), target, deployments, verify, watch)
    except FalconryError as failure:
        if not rollback:
            raise
        raise _roll_back(failure, before, previous, deployments, verify, watch) from failure


def _verified(
    active: Any, target: DeploymentSpec, deployments: Deployments, verify: Verify, watch: Watch
) -> Any:
    watch.report("asking it a first question", None)
    verify(active)
    deployments.confirm(active.id, target, watch)
    return active


def _roll_back(
    failure: FalconryError,
    before: Any | None,
    previous: DeploymentSpec | None,
    deployments: Deployments,
    verify: Verify,
    watch: Watch,
) -> CloudError:
    """Returns to the previous deployment; gives the failure with the outcome."""
    if before is None or previous is None:
        return _with_outcome(
            failure, "there is nothing to return to: no deployment has answered before"
        )
    watch.report("returning to the previous model and image", None)
    what = f"model {previous.model_id} and image {previous.image}"
    try:
        active = deployments.reconcile(before.id, previous, watch)
        _verified(active, previous, deployments, verify, watch)
    except FalconryError as second:
        outcome = f"the return to {what} failed as well: {second}"
        return _with_outcome(failure, outcome, second.details)
    return _with_outcome(failure, f"returned to {what}, which answers")


def _with_outcome(failure: FalconryError, outcome: str, more: tuple[str, ...] = ()) -> CloudError:
    return CloudError(
        f"{failure.problem}; {outcome}",
        where=failure.where,
        remedy=failure.remedy,
        details=[*failure.details, *more],
    )


_NOT_KEPT_APART = (
    "warning: this machine has no namespaces, so the local deployment sees its files; serve an "
    'artifact that you do not trust from a container (image.run = "container")'
)


class DeploymentStage(Stage):
    """Creates or changes the profile's deployment; may return to what answered before."""

    name = "deployment"
    version = 4

    def __init__(
        self,
        settings: Settings,
        engine: Output,
        artifact: ArtifactOutput,
        image: ImageOutput,
        *,
        rollback: bool = False,
        expiry: str | None = None,
        note: Callable[[str], None] = print,
    ) -> None:
        self._expiry = expiry
        self._note = note
        self._settings = settings
        self._engine = engine
        self._artifact = artifact
        self._image = image
        self._rollback = rollback
        self._problem: str | None = None  # of the last question

    @override
    def inputs(self) -> Mapping[str, str]:
        return {
            "artifact": self._artifact.digest,
            "image": self._image.pinned,
            "deployment": self._settings.deployment.model_dump_json(exclude=_OF_THE_RUN),
            "serving": self._settings.serving.model_dump_json(),
        }

    @override
    def find(self, key: str) -> Output | None:
        current = self._current()
        if current is None or current.lifecycle_state != "ACTIVE":
            return None
        if (current.freeform_tags or {}).get(KEY_TAG) != key:
            return None
        self._problem = self._ask(current.model_deployment_url)
        if self._problem:
            return None
        self._warn(current)
        return _output(current)

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        if why := emulator.why_start(self._settings.cloud.emulator):
            return why
        current = self._current()
        if current is None:
            return "nothing deployed yet"
        if current.lifecycle_state != "ACTIVE":
            return f"the deployment is {current.lifecycle_state}"
        tags = current.freeform_tags or {}
        if tags.get(ARTIFACT_TAG) != inputs["artifact"]:
            return "artifact changed"
        if tags.get(IMAGE_TAG) != self._image.digest:
            return "image changed"
        if self._problem:
            return self._problem
        return "settings changed" if KEY_TAG in tags else "it has not answered yet"

    @override
    def details(self, key: str) -> Sequence[str]:
        return [str(each) for each in self._variables()]

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> Output:
        settings = self._settings
        if settings.cloud.emulator:
            report("starting the local cloud", None)
            self._start(settings.cloud.emulator)
        session = session_of(settings.cloud)
        target = self._target(session, key, report)

        def verify(active: Any) -> None:
            endpoint_of(active, session).smoke()

        watch = Watch(target.timeout_s, report)
        deployments = Deployments(session)
        active = apply_with_rollback(deployments, target, verify, watch, rollback=self._rollback)
        self._warn(active)
        return _output(active)

    def _warn(self, deployment: Any) -> None:
        """Says that the deployment's time is over, unless this run extends it."""
        warning = expiry_warning(deployment, datetime.now(UTC))
        if warning and self._expiry is None:
            self._note(warning)

    def _target(self, session: Session, key: str, report: Report) -> DeploymentSpec:
        """Makes the target, after its logs and its model in the catalog."""
        from falconry.deployment.catalog import Catalog
        from falconry.deployment.logs import Logs
        from falconry.deployment.provenance import entry_of

        settings = self._settings
        engine = read_manifest(self._engine.path)
        catalog = Catalog(session)
        request = DeploymentRequest(
            settings=settings.deployment,
            serving=settings.serving,
            image=self._image,
            model_id="",
            project_id=catalog.project(),
            log=Logs(session).ensure(),
            tags={
                **session.tags,
                KEY_TAG: key,
                ARTIFACT_TAG: self._artifact.digest,
                IMAGE_TAG: self._image.digest,
                ENGINE_TAG: engine.key,
                **({EXPIRES_TAG: self._expiry} if self._expiry else {}),
            },
            variables={each.name: each.value for each in self._variables()},
            engine_bound=engine.gpu is not None,
        )
        self._check(session, target_of(request).configuration, engine, report)
        entry = entry_of(settings, self._artifact.digest, engine, self._image.pinned)
        model_id = catalog.ensure(entry, self._artifact.view(), report)
        return target_of(replace(request, model_id=model_id))

    def _variables(self) -> list[Variable]:
        """Works out the container's variables from what was made and what is deployed."""
        layout = self._artifact.contents().layout()
        unpacked = sum(entry.size for entry in layout.entries)
        sizes = Sizes(image_bytes(self._image), layout.size, unpacked)
        ranks = ranks_of(read_manifest(self._engine.path))
        current = self._current()
        configuration = current and current.model_deployment_configuration_details
        container = configuration and configuration.environment_configuration_details
        variables = container and container.environment_variables
        return worked_out(self._settings, sizes, ranks, variables)

    def _check(
        self, session: Session, configuration: Any, engine: Manifest, report: Report
    ) -> None:
        """Refuses what would fail after a long upload."""
        from falconry.deployment.account import read_account, subject_of
        from falconry.deployment.preflight.check import check_deployment
        from falconry.deployment.preflight.subject import Artifact, Image
        from falconry.engine.toolchain import load_toolchains

        report("checking limits and sizes", None)
        settings, image, layout = self._settings, self._image, self._artifact.contents().layout()
        release = engine.gpu.release if engine.gpu else None
        subject = subject_of(
            settings.deployment.name,
            configuration,
            Artifact([entry.name for entry in layout.entries], layout.size),
            Image(image.reference, image.compressed_bytes, image.labels),
            engine=engine,
            toolchain=load_toolchains().row(release) if release else None,
            account=read_account(session, settings),
        )
        refuse(check_deployment(subject), PreflightError, "this deployment", subject.name)

    def _start(self, local: EmulatorSettings) -> None:
        """Starts the emulator with what it needs to run the image."""
        if self._image.kind == "process":
            emulator.start(local, process_images={self._image.reference: self._image.path})
            if emulator.shows_this_machine(local):
                self._note(_NOT_KEPT_APART)
        else:
            emulator.start(local, registry=True)

    def _ask(self, url: str) -> str | None:
        """Requests one token; returns why none came, None if one did."""
        session = session_of(self._settings.cloud)
        http = session.client(DataScienceClient).base_client.session
        try:
            answer = http.post(
                f"{url}/predict",
                data=json.dumps(_QUESTION),
                headers={
                    "content-type": "application/json",
                    "model_name": FRONT_MODEL,
                    "model_version": "1",
                },
                auth=session.signer(),
                timeout=_QUESTION_TIMEOUT_S,
            )
        except OSError:  # the errors of requests are
            return "the deployment does not answer"
        if answer.ok or answer.status_code == _BUSY:
            return None
        return f"the deployment answers a question with status {answer.status_code}"

    def _current(self) -> Any | None:
        if emulator.why_start(self._settings.cloud.emulator):
            return None
        session = session_of(self._settings.cloud)
        return Deployments(session).find(self._settings.deployment.name)


def _output(deployment: Any) -> Output:
    url = deployment.model_deployment_url
    return Output(path=Path(), digest=deployment.id, summary=f"ACTIVE  {url}")
