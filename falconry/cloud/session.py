"""Signed clients of the oci SDK for one profile: credentials, endpoint, retries.

Nothing here is imported before a request is to be made: the SDK costs a third of a second.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import oci
from oci.circuit_breaker import NoCircuitBreakerStrategy
from oci.retry import RetryStrategyBuilder

from falconry.cloud import emulator
from falconry.errors import CloudError
from falconry.settings import CloudSettings

_Client = TypeVar("_Client")

# The SDK's own default waits up to ten minutes on 5xx; a build tool should say sooner that the
# cloud is ill. The breaker is off because one of its kind is shared by all clients of a process.
_RETRIES = (
    RetryStrategyBuilder()
    .add_max_attempts(5)
    .add_total_elapsed_time(60)
    .add_service_error_check(service_error_retry_on_any_5xx=True)
    .get_retry_strategy()
)
_TIMEOUT_S = (10.0, 120.0)


class Session:
    """One profile's way into the cloud.

    Args:
        settings: the profile's cloud section.

    Raises:
        CloudError: the configuration file is missing or not valid.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self._endpoint = emulator.require_endpoint(settings.emulator) if settings.emulator else None
        self._config = read_config(settings)

    @property
    def compartment_id(self) -> str:
        """The compartment of everything we make: the profile's, or the tenancy's root."""
        return self.settings.compartment_id or self.tenancy

    @property
    def tenancy(self) -> str:
        """The tenancy's OCID."""
        return str(self._config["tenancy"])

    @property
    def region(self) -> str:
        """The region that the configuration file names."""
        return str(self._config["region"])

    def client(self, kind: type[_Client]) -> _Client:
        """A client of one service with this profile's credentials, endpoint and retries."""
        options: dict[str, Any] = {
            "retry_strategy": _RETRIES,
            "circuit_breaker_strategy": NoCircuitBreakerStrategy(),
            "timeout": _TIMEOUT_S,
            "signer": self.signer(),
        }
        if self._endpoint:
            options["service_endpoint"] = self._endpoint
        client: Any = kind(self._config, **options)  # type: ignore[call-arg]
        if self._endpoint and urlsplit(self._endpoint).hostname == "127.0.0.1":
            # A proxy named in the environment knows nothing of our loopback.
            client.base_client.session.trust_env = False
        return client  # type: ignore[no-any-return]

    def signer(self) -> oci.signer.Signer:
        """Signs requests that no client of the SDK makes."""
        names = ("tenancy", "user", "fingerprint", "key_file", "pass_phrase", "key_content")
        return _signer(*(self._config.get(name) for name in names))


@functools.cache
def _signer(*identity: str | None) -> oci.signer.Signer:
    """A user's signer; reading and checking the key costs more than a local request."""
    tenancy, user, fingerprint, key_file, pass_phrase, key_content = identity
    return oci.signer.Signer(tenancy, user, fingerprint, key_file, pass_phrase, key_content)


@contextlib.contextmanager
def cloud_errors_told(action: str) -> Iterator[None]:
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
            f"{action} was refused: {error.status} {error.code}: {error.message}",
            where=error.operation_name,
            remedy=_remedy(error),
        ) from error
    except (oci.exceptions.RequestException, oci.exceptions.ConnectTimeout) as error:
        raise CloudError(
            f"{action} got no answer from the cloud",
            remedy="check the network, or run make deploy to start the local cloud",
        ) from error


def _remedy(error: oci.exceptions.ServiceError) -> str | None:
    remedies = {
        401: "check the key, the user and the clock of this machine",
        404: "check the OCIDs and that a policy lets this user see them",
        429: "wait a little and run again",
    }
    return remedies.get(error.status)


def read_config(settings: CloudSettings) -> dict[str, Any]:
    """A profile's configuration file as the SDK takes it.

    Raises:
        CloudError: it is missing or not valid.
    """
    try:
        config: dict[str, Any] = oci.config.from_file(
            str(settings.config_file.expanduser()), settings.config_profile
        )
        oci.config.validate_config(config)
    except (oci.exceptions.ClientError, ValueError) as error:
        raise CloudError(
            f"cannot be used: {error}",
            where=settings.config_file,
            remedy="see `oci setup config`, or choose another cloud.config_file",
        ) from None
    return config
