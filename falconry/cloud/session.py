"""Signed clients of the oci SDK for one profile; their errors.

Import this only for requests to the cloud: the SDK takes a third of a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import oci
from oci.circuit_breaker import NoCircuitBreakerStrategy
from oci.object_storage.models import CreateBucketDetails

from falconry.cloud import emulator
from falconry.cloud.identity import identity_of
from falconry.cloud.retries import RetryPolicy
from falconry.errors import CloudError
from falconry.library_errors import setting_error
from falconry.settings import CloudSettings

_Client = TypeVar("_Client")

_RETRIES = RetryPolicy()
_TIMEOUT_S = (10.0, 120.0)
# The local cloud is on this machine: silence that long is looked into.
_LOCAL_TIMEOUT_S = (5.0, 20.0)
_REMEDIES = {
    401: "check the key, the user and the clock of this machine",
    404: "check the OCIDs and that a policy lets this user see them",
    429: "wait a little and run again",
}


_observers: list[Callable[..., None]] = []


def observe_answers(observer: Callable[..., None]) -> None:
    """Calls a function with each answer, a `requests.Response`, of clients made from now on."""
    _observers.append(observer)


class Session:
    """The SDK's clients of one profile; `session_of` shares a session.

    Raises:
        CloudError: the configuration file is missing or not valid, or the emulator is stopped or
            does not answer.
    """

    def __init__(self, settings: CloudSettings, endpoint: str | None = None) -> None:
        self.settings = settings
        self._endpoint = endpoint or _emulator_endpoint(settings)
        self._identity = identity_of(settings)
        self._clients: dict[type, Any] = {}

    @property
    def compartment_id(self) -> str:
        """The profile's compartment, or the tenancy's root."""
        return self.settings.compartment_id or self.tenancy

    @property
    def tags(self) -> dict[str, str]:
        """The freeform tags of what is created."""
        pairs = (each.partition("=") for each in self.settings.tags)
        return {name: value for name, _, value in pairs}

    @property
    def tenancy(self) -> str:
        """The tenancy's OCID."""
        return self._identity.tenancy

    @property
    def region(self) -> str:
        """The region of the configuration file or of this machine."""
        return self._identity.region

    def client(self, kind: type[_Client]) -> _Client:
        """Returns a service's client with this profile's identity, endpoint and retries."""
        if kind not in self._clients:
            self._clients[kind] = self._make_client(kind)
        return self._clients[kind]  # type: ignore[no-any-return]

    def signer(self) -> Any:
        """Returns the signer, for requests without a client of the SDK."""
        return self._identity.signer

    def _make_client(self, kind: type) -> Any:
        options: dict[str, Any] = {
            "retry_strategy": _RETRIES,
            "circuit_breaker_strategy": NoCircuitBreakerStrategy(),
            "timeout": _TIMEOUT_S,
            "signer": self.signer(),
        }
        if local := self.settings.emulator:
            # No retry helps when it is silent or has ended; while it restarts they do.
            check = functools.partial(emulator.require_return, local)
            options["retry_strategy"] = dataclasses.replace(_RETRIES, before_retry=check)
            options["timeout"] = _LOCAL_TIMEOUT_S
            options["service_endpoint"] = self._endpoint
        client: Any = kind(self._identity.config, **options)
        client.base_client.session.hooks["response"] += _observers
        if self._endpoint and urlsplit(self._endpoint).hostname == "127.0.0.1":
            # A proxy named in the environment knows nothing of our loopback.
            client.base_client.session.trust_env = False
        return client


def session_of(settings: CloudSettings) -> Session:
    """Returns the shared session of these settings; raises as `Session`."""
    return _shared_session(settings, _emulator_endpoint(settings), identity_of(settings).signer)


@functools.lru_cache(maxsize=4)
def _shared_session(settings: CloudSettings, endpoint: str | None, signer: object) -> Session:
    """Keeps a profile's session until its emulator's URL or its key changes."""
    return Session(settings, endpoint)


def _emulator_endpoint(settings: CloudSettings) -> str | None:
    return emulator.require_endpoint(settings.emulator) if settings.emulator else None


@contextlib.contextmanager
def translate_cloud_errors(action: str) -> Iterator[None]:
    """Translates the SDK's exceptions into a `CloudError`.

    Args:
        action: what was attempted, a clause such as `creating the model`.
    """
    try:
        yield
    except oci.exceptions.ServiceError as error:
        raise CloudError(
            f"{action} was refused: {error.status} {_reason(error)}",
            where=error.operation_name,
            remedy=_REMEDIES.get(error.status),
        ) from error
    except (oci.exceptions.RequestException, oci.exceptions.ConnectTimeout) as error:
        raise setting_error(error) or CloudError(
            f"{action} got no answer from the cloud",
            remedy="check the network, or run make deploy to start the local cloud",
        ) from error


@contextlib.contextmanager
def ignore_statuses(*statuses: int) -> Iterator[None]:
    """Suppresses refusals with these statuses, such as 404."""
    try:
        yield
    except oci.exceptions.ServiceError as error:
        if error.status not in statuses:
            raise


def _reason(error: oci.exceptions.ServiceError) -> str:
    """Returns Oracle's code and message; the answer to a HEAD has neither."""
    said = (error.code, error.message)
    return ": ".join(str(each) for each in said if each) or _phrase(error.status)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason was given"


def ensure_bucket(session: Session, client: Any, namespace: str, bucket: str) -> None:
    """Creates a bucket of Object Storage unless it exists."""
    with translate_cloud_errors(f"looking for the bucket '{bucket}'"), ignore_statuses(404):
        client.get_bucket(namespace, bucket)
        return
    details = CreateBucketDetails(
        name=bucket, compartment_id=session.compartment_id, freeform_tags=session.tags
    )
    with translate_cloud_errors(f"making the bucket '{bucket}'"):
        try:
            client.create_bucket(namespace, details)
        except oci.exceptions.ServiceError as error:
            if error.code != "BucketAlreadyExists":  # by another run
                raise
