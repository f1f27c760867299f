"""Signed clients of the oci SDK for one profile: identity, endpoint, retries; buckets.

Nothing here is imported before a request is to be made: the SDK costs a third of a second.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
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
from falconry.settings import CloudSettings

_Client = TypeVar("_Client")

_RETRIES = RetryPolicy()
_TIMEOUT_S = (10.0, 120.0)


class Session:
    """One profile's way into the cloud; `session_of` gives the one that a run shares.

    Args:
        settings: the profile's cloud section.

    Raises:
        CloudError: the configuration file is missing or not valid.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self._endpoint = emulator.require_endpoint(settings.emulator) if settings.emulator else None
        self._identity = identity_of(settings)
        self._clients: dict[type, Any] = {}

    @property
    def compartment_id(self) -> str:
        """The compartment of everything we make: the profile's, or the tenancy's root."""
        return self.settings.compartment_id or self.tenancy

    @property
    def tenancy(self) -> str:
        """The tenancy's OCID."""
        return self._identity.tenancy

    @property
    def region(self) -> str:
        """The region that the configuration file names, or that this machine is in."""
        return self._identity.region

    def client(self, kind: type[_Client]) -> _Client:
        """The client of one service with this profile's identity, endpoint and retries."""
        if kind not in self._clients:
            self._clients[kind] = self._make_client(kind)
        return self._clients[kind]  # type: ignore[no-any-return]

    def signer(self) -> Any:
        """Signs requests that no client of the SDK makes."""
        return self._identity.signer

    def _make_client(self, kind: type) -> Any:
        options: dict[str, Any] = {
            "retry_strategy": _RETRIES,
            "circuit_breaker_strategy": NoCircuitBreakerStrategy(),
            "timeout": _TIMEOUT_S,
            "signer": self.signer(),
        }
        if self._endpoint:
            options["service_endpoint"] = self._endpoint
        client: Any = kind(self._identity.config, **options)
        if self._endpoint and urlsplit(self._endpoint).hostname == "127.0.0.1":
            # A proxy named in the environment knows nothing of our loopback.
            client.base_client.session.trust_env = False
        return client


def session_of(settings: CloudSettings) -> Session:
    """The session that everything in this process shares for these settings.

    Raises:
        CloudError: see `Session`.
    """
    local = settings.emulator
    endpoint = emulator.require_endpoint(local) if local else None
    return _shared_session(settings, endpoint, identity_of(settings).signer)


@functools.lru_cache(maxsize=4)
def _shared_session(settings: CloudSettings, endpoint: str | None, signer: object) -> Session:
    """One session for a profile, until its emulator moves or its key changes."""
    return Session(settings)


@contextlib.contextmanager
def translate_cloud_errors(action: str) -> Iterator[None]:
    """Turns the SDK's exceptions into a `CloudError` that says what was attempted.

    Args:
        action: a clause such as `creating the model`.

    Raises:
        CloudError: the service refused, or could not be reached.
    """
    try:
        yield
    except oci.exceptions.ServiceError as error:
        raise CloudError(
            f"{action} was refused: {error.status} {_reason(error)}",
            where=error.operation_name,
            remedy=_remedy(error),
        ) from error
    except (oci.exceptions.RequestException, oci.exceptions.ConnectTimeout) as error:
        raise CloudError(
            f"{action} got no answer from the cloud",
            remedy="check the network, or run make deploy to start the local cloud",
        ) from error


def _reason(error: oci.exceptions.ServiceError) -> str:
    """Oracle's code and message; the answer to a HEAD has neither."""
    said = (error.code, error.message)
    return ": ".join(str(each) for each in said if each) or _phrase(error.status)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason was given"


def _remedy(error: oci.exceptions.ServiceError) -> str | None:
    remedies = {
        401: "check the key, the user and the clock of this machine",
        404: "check the OCIDs and that a policy lets this user see them",
        429: "wait a little and run again",
    }
    return remedies.get(error.status)


# --- buckets of Object Storage ----------------------------------------------------------------


def ensure_bucket(client: Any, namespace: str, bucket: str, compartment_id: str) -> None:
    """Makes a bucket unless it is there.

    Args:
        client: an Object Storage client.
        namespace: the tenancy's.
        bucket: its name.
        compartment_id: where it is made.

    Raises:
        CloudError: it may be neither seen nor made.
    """
    with translate_cloud_errors(f"looking for the bucket '{bucket}'"):
        try:
            client.get_bucket(namespace, bucket)
            return
        except oci.exceptions.ServiceError as error:
            if error.status != 404:
                raise
    details = CreateBucketDetails(name=bucket, compartment_id=compartment_id)
    with translate_cloud_errors(f"making the bucket '{bucket}'"):
        try:
            client.create_bucket(namespace, details)
        except oci.exceptions.ServiceError as error:
            if error.code != "BucketAlreadyExists":  # another runner was as quick
                raise
