"""Signers of requests: a user, an instance or a resource."""

from __future__ import annotations

import configparser
import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oci

from falconry.errors import CloudError
from falconry.settings import CloudSettings

# As the SDK has them in DataScienceClient, which wants a key as well (oci 2.189.0).
_SERVICE = "data_science"
_ENDPOINT = "https://datascience.{region}.oci.{secondLevelDomain}"
_SDK_CONFIG_FILE = Path("~/.oci/config")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends requests, and where to.

    Attributes:
        config: for the SDK's clients, beside the signer.
        signer: signs a request, as an authentication of `requests`.
        tenancy: its OCID.
        region: such as `us-ashburn-1`.
    """

    config: dict[str, Any]
    signer: Any
    tenancy: str
    region: str


def identity_of(settings: CloudSettings) -> Identity:
    """Returns the profile's identity, read again if its file changes.

    Raises:
        CloudError: the configuration, the key or the token cannot be used, or this machine is
            neither an instance nor a resource of Oracle's cloud.
    """
    if settings.auth == "instance_principal":
        return _instance()
    if settings.auth == "resource_principal":
        return _resource()
    file = config_file_of(settings)
    stamp = file.stat().st_mtime_ns if file.is_file() else 0
    return _configured(settings.auth, file, settings.config_profile, stamp)


def config_file_of(settings: CloudSettings) -> Path:
    """The configuration file's path; OCI_CONFIG_FILE replaces the SDK's own, as it does there."""
    named = os.environ.get("OCI_CONFIG_FILE")
    replaced = Path(named) if named and settings.config_file == _SDK_CONFIG_FILE else None
    return (replaced or settings.config_file).expanduser()


def read_config(settings: CloudSettings) -> dict[str, Any]:
    """Reads a profile's configuration file.

    Raises:
        CloudError: it is missing or not valid.
    """
    token = settings.auth == "session_token"
    return _read(config_file_of(settings), settings.config_profile, token=token)


@functools.cache
def _configured(auth: str, file: Path, profile: str, stamp: int) -> Identity:
    if auth == "session_token":
        config = _read(file, profile, token=True)
        signer: Any = _SessionTokenSigner(config)
    else:
        config = _read(file, profile, token=False)
        signer = _key_signer(config)
    return Identity(config, signer, str(config["tenancy"]), str(config["region"]))


@functools.cache
def _instance() -> Identity:
    signer = _principal(
        oci.auth.signers.InstancePrincipalsSecurityTokenSigner,
        "instance_principal works only on an instance of Oracle's cloud",
    )
    return Identity({"region": signer.region}, signer, str(signer.tenancy_id), str(signer.region))


@functools.cache
def _resource() -> Identity:
    signer = _principal(
        oci.auth.signers.get_resource_principals_signer,
        "resource_principal works in a resource of Oracle's cloud, such as a job or a function",
    )
    # The claim of resource principals' tokens (oci 2.189.0,
    # auth/signers/ephemeral_resource_principals_signer.py).
    tenancy = signer.get_claim("res_tenant")
    return Identity({"region": signer.region}, signer, str(tenancy), str(signer.region))


def _principal(make: Callable[[], Any], hint: str) -> Any:
    """Makes a signer that gets this machine's identity from the cloud."""
    try:
        return make()
    except Exception as error:  # of many kinds: the environment's, the network's, the service's
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CloudError(
            f"this machine has no such identity ({reason})", where="cloud.auth", remedy=hint
        ) from error


class _SessionTokenSigner(oci.auth.signers.SecurityTokenSigner):  # type: ignore[misc]
    """Signs with a session token, which `oci session refresh` may renew.

    Args:
        config: with `security_token_file` and `key_file`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._file = Path(config["security_token_file"]).expanduser()
        self._stamp = 0
        self._renew()

    def __call__(self, request: Any, enforce_content_headers: bool = True) -> Any:
        self._renew()
        return super().__call__(request, enforce_content_headers)

    def _renew(self) -> None:
        try:
            stamp = self._file.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            token = self._file.read_bytes().decode("ascii").strip()
        except OSError as error:
            raise _unusable_session(f"cannot be read ({error.strerror})", self._file) from None
        except UnicodeDecodeError:
            raise _unusable_session(
                "holds characters that a token cannot have", self._file
            ) from None
        key = _load_key(str(self._config["key_file"]), self._config.get("pass_phrase"))
        super().__init__(token, key)
        self._stamp = stamp


def _unusable_session(problem: str, file: Path) -> CloudError:
    return CloudError(problem, where=file, remedy="run: oci session authenticate")


def _key_signer(config: dict[str, Any]) -> oci.signer.Signer:
    with _translate_key_errors(str(config["key_file"])):
        return oci.signer.Signer.from_config(config)


def _read(file: Path, profile: str, *, token: bool) -> dict[str, Any]:
    try:
        config: dict[str, Any] = oci.config.from_file(str(file), profile)
        if token:
            _check_session(config)
        elif config.get("security_token_file") and not config.get("user"):
            raise CloudError(
                f"the profile '{profile}' is that of a session token, and cloud.auth is api_key",
                where=file,
                remedy='set auth = "session_token" in [cloud], or SET=cloud.auth=session_token',
            )
        else:
            oci.config.validate_config(config)
    except (oci.exceptions.ClientError, configparser.Error, ValueError, TypeError) as error:
        raise CloudError(
            f"cannot be used: {_fault(error, file)}",
            where=file,
            remedy="see `oci setup config`, or choose another cloud.config_file",
        ) from None
    return config


def _fault(error: Exception, file: Path) -> str:
    """What is wrong with a configuration file, without its lines: they may hold a pass phrase."""
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno} begins the section [{error.section}] again"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno} sets '{error.option}' again in [{error.section}]"
    if isinstance(error, configparser.MissingSectionHeaderError):
        if file.read_bytes().startswith(_BYTE_ORDER_MARK):
            return "it begins with a byte-order mark; save it as UTF-8 without one"
        return f"line {error.lineno} comes before any section, such as [DEFAULT]"
    if isinstance(error, configparser.ParsingError):
        return f"line {error.errors[0][0]} is not a setting"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not {error.encoding}"
    return str(error)


def _check_session(config: dict[str, Any]) -> None:
    """Checks the keys of a session's profile, which has a token."""
    needed = ("security_token_file", "key_file", "tenancy", "region")
    missing = [name for name in needed if not config.get(name)]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} missing, see `oci session authenticate`, or set cloud.auth to"
            " api_key if it is the profile of a user's key"
        )


def account_of(settings: CloudSettings) -> str:
    """Checks an account's configuration and key; returns its region and user.

    Raises:
        CloudError: the configuration or the key cannot be used.
    """
    if settings.auth.endswith("principal"):
        return f"{settings.auth}, checked by the first request"
    config = read_config(settings)
    if key_file := config.get("key_file"):
        _load_key(str(key_file), config.get("pass_phrase"))
    return f"{config['region']}, user {str(config.get('user', ''))[-6:] or 'by token'}"


def endpoint_of(settings: CloudSettings) -> str:
    """Returns the URL of the Data Science service in the profile's region.

    Raises:
        CloudError: the configuration cannot be used.
    """
    region = identity_of(settings).region
    return str(oci.regions.endpoint_for(_SERVICE, region, service_endpoint_template=_ENDPOINT))


def _load_key(path: str, pass_phrase: str | None) -> Any:
    with _translate_key_errors(path):
        return oci.signer.load_private_key_from_file(path, pass_phrase)


@contextlib.contextmanager
def _translate_key_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CloudError(
            f"the key cannot be read ({error.strerror})",
            where=path,
            remedy="make it readable for this user only",
        ) from None
    except UnicodeEncodeError:
        raise CloudError(
            "the key's pass_phrase has characters that the SDK does not take",
            where=path,
            remedy="give the key a pass phrase in ASCII",
        ) from None
    except oci.exceptions.ClientError as error:
        raise CloudError(
            f"the key cannot be used ({str(error).rstrip('.')})",
            where=path,
            remedy="name the private key of the API key in PEM form, and its pass_phrase if any",
        ) from None
