"""What each make target does with what is deployed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.cloud import emulator
from falconry.documents import DocumentError, parse_json
from falconry.errors import EndpointError, FalconryError
from falconry.pipeline import Workspace
from falconry.progress import Progress
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.cloud.session import Session
    from falconry.cloud.work_requests import Watch
    from falconry.deployment.catalog import PrunedModel
    from falconry.deployment.deployments import Deployments
    from falconry.deployment.expiry import Reaped
    from falconry.deployment.status import DeploymentStatus
    from falconry.endpoint.endpoint import Endpoint
    from falconry.proxy.access import Access

# What a target needs is imported where it is used: none needs all of it.

# A deletion that the local cloud does not finish in that time is cut short by the cloud's end.
_LOCAL_DELETION_S = 60.0


class Operations:
    """What can be done with a profile's deployment, whoever made it.

    Args:
        settings: the profile with the command line's values.
        progress: where to report what is being done.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._workspace = Workspace.open(settings.build_directory, progress)

    def query(
        self, prompt: str | None, body: str | None, max_tokens: int, *, stream: bool = False
    ) -> None:
        """Sends a request to the deployment and prints the answer's text.

        Args:
            prompt: the question.
            body: a request in JSON, sent instead.
            max_tokens: the most that the answer to a prompt may have.
            stream: whether to print the text as it comes.

        Raises:
            EndpointError: there is neither prompt nor body, or the endpoint refuses.
            CloudError: nothing is deployed, or it is stopped.
        """
        endpoint, request = self._request(prompt, body, max_tokens)
        if stream:
            self._progress.text(endpoint.stream(request))
        else:
            self._progress.text([endpoint.text_of(endpoint.predict(request))])

    def answer(self, prompt: str | None, body: str | None, max_tokens: int) -> dict[str, Any]:
        """Sends a request to the deployment; gives the complete answer. See `query`."""
        endpoint, request = self._request(prompt, body, max_tokens)
        return endpoint.predict(request)

    def _request(
        self, prompt: str | None, body: str | None, max_tokens: int
    ) -> tuple[Endpoint, dict[str, Any]]:
        if body is None and prompt is None:
            raise EndpointError(
                "there is nothing to ask",
                remedy='give PROMPT="..." or BODY=\'{"text_input": ...}\'',
            )
        endpoint = self._endpoint()
        return endpoint, (
            endpoint.body(str(prompt), max_tokens) if body is None else _json_object(body)
        )

    def proxy(self, port: int, ready: Callable[[str, Access], None]) -> None:
        """Serves the deployment to local clients that cannot sign, until Ctrl-C.

        Args:
            port: any free one if 0.
            ready: called with the URL and the way in once it is open.
        """
        from falconry.proxy.server import DeploymentProxy, ProxiedDeployment, description_of

        session = self._session()
        deployment = self._deployments().in_use(self._settings.deployment.name)
        proxied = ProxiedDeployment(
            deployment.model_deployment_url,
            session.signer(),
            description_of(deployment),
        )
        build = self._settings.build_directory
        DeploymentProxy(proxied, build, self._progress.note).run(port, ready)
        self._progress.done("proxy", "closed")

    def status(self, prices: Path | None = None) -> DeploymentStatus:
        """Describes what is deployed, in any state; a price table tells what it costs."""
        from falconry.deployment.status import DeploymentStatus, status_of
        from falconry.shapes import read_prices

        table = read_prices(prices) if prices else None
        name = self._settings.deployment.name
        if emulator.is_stopped(self._settings.cloud.emulator):
            return DeploymentStatus(name, error="the local cloud is not running; run: make deploy")
        return status_of(self._session(), name, table)

    def logs(self, lines: int, show: Callable[[str], None], *, follow: bool) -> None:
        """Shows the newest lines of the deployment's logs.

        Args:
            lines: how many.
            show: called with each.
            follow: whether to continue with each new line until the user interrupts.
        """
        from falconry.deployment.logs import Logs

        deployment = self._deployments().find(self._settings.deployment.name)
        source = deployment.id if deployment else None
        logs = Logs(self._session())
        with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
            for line in logs.follow(lines, source) if follow else logs.read(lines, source):
                show(line)

    def reap(self) -> list[Reaped]:
        """Deactivates the compartment's deployments whose time is over.

        Returns:
            Every deployment that has an end.
        """
        from falconry.deployment.expiry import reap

        if emulator.is_stopped(self._settings.cloud.emulator):
            return []
        return reap(self._session(), datetime.now(UTC), self._watch())

    def activate(self, expires: str = "") -> None:
        """Starts the deployment that was deactivated, and verifies that it answers.

        Args:
            expires: when `make reap` may stop it, such as `4h` from now, or `never`.
        """
        from falconry.deployment.expiry import expiry_warning
        from falconry.deployment.stage import endpoint_of

        tag = expiry_tag_of(expires)
        self._write_expiry(tag)
        with self._workspace.lock("deployment"):
            active = self._deployments().activate(self._settings.deployment.name, self._watch())
        endpoint_of(active, self._session()).smoke()
        if warning := expiry_warning(active, datetime.now(UTC)):
            self._progress.note(warning)
        self._progress.done("deployment", active.lifecycle_state, active.model_deployment_url)

    def deactivate(self) -> None:
        """Stops the deployment; its URL and its configuration stay."""
        with self._workspace.lock("deployment"):
            stopped = self._deployments().deactivate(self._settings.deployment.name, self._watch())
        self._progress.done("deployment", stopped.lifecycle_state, "make activate starts it again")

    def prune_models(self, keep: int, *, delete: bool) -> list[PrunedModel]:
        """Deactivates the deployment's models but the newest and those in use.

        Args:
            keep: how many of the newest stay.
            delete: whether to delete the others instead.

        Returns:
            Every model, the newest first.
        """
        from falconry.deployment.catalog import prune_models

        name = self._settings.deployment.name
        return prune_models(self._session(), name, keep, delete=delete)

    def down(self) -> dict[str, str | None]:
        """Deletes the deployment, and ends the local cloud where there is one.

        The local cloud ends also if it does not answer, or refuses this client.

        Returns:
            What became of the deployment and of the local cloud; None where there is no cloud here.
        """
        local = self._settings.cloud.emulator
        if local is None:
            return {"deployment": self._delete_deployment(self._watch()), "local_cloud": None}
        deployment = "none"
        if not emulator.is_stopped(local):
            try:
                watch = replace(self._watch(), timeout_s=_LOCAL_DELETION_S)
                deployment = self._delete_deployment(watch)
            except FalconryError as error:
                deployment = "not deleted"
                self._progress.note(f"warning: the deployment is not deleted: {error}")
        cloud = "stopped" if emulator.stop(local) else "not running"
        self._progress.done("local cloud", cloud)
        return {"deployment": deployment, "local_cloud": cloud}

    def _write_expiry(self, tag: str | None) -> None:
        """Tags the deployment with its end, "" for none; None changes nothing."""
        if tag is None:
            return
        from falconry.deployment.expiry import tag_expiry

        with self._workspace.lock("deployment"):
            tag_expiry(self._session(), self._settings.deployment.name, tag, self._watch())
        self._progress.done("deployment", "expires", tag or "never")

    def _delete_deployment(self, watch: Watch) -> str:
        with self._workspace.lock("deployment"):
            removed = self._deployments().remove(self._settings.deployment.name, watch)
            outcome = "deleted" if removed else "none"
            self._progress.done("deployment", outcome)
            return outcome

    def _session(self) -> Session:
        from falconry.cloud.session import session_of

        return session_of(self._settings.cloud)

    def _deployments(self) -> Deployments:
        from falconry.deployment.deployments import Deployments

        return Deployments(self._session())

    def _watch(self) -> Watch:
        """Returns how to wait for the cloud outside of the pipeline."""
        from falconry.cloud.work_requests import Watch

        def report(step: str, fraction: float | None) -> None:
            self._progress.running("deployment", step, fraction)

        return Watch(self._settings.deployment.timeout_minutes * 60, report)

    def _endpoint(self) -> Endpoint:
        from falconry.deployment.stage import endpoint_of

        deployment = self._deployments().in_use(self._settings.deployment.name)
        return endpoint_of(deployment, self._session())


def expiry_tag_of(expires: str) -> str | None:
    """Returns the tag for the option EXPIRES; None if it is left out.

    Raises:
        SettingsError: it is not a duration.
    """
    if not expires:
        return None
    from falconry.deployment.expiry import expiry_tag

    return expiry_tag(expires, datetime.now(UTC))


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except DocumentError as error:
        raise EndpointError(str(error), where="BODY") from None
    if not isinstance(value, dict):
        raise EndpointError("is not a JSON object", where="BODY")
    return value
