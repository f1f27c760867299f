"""The Docker command's configuration: where its engine is, and the logins that it has.

The SDK takes a file that it cannot read, and a context that does not exist, for none at all. So
both are checked before the SDK reads them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from falconry.data_files import validation_problem
from falconry.documents import DocumentError, parse_json, read_document
from falconry.errors import MachineError

_DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_DEFAULT_CONTEXT = "default"
# As a user's name: the password is a token for the registry's token service (docker/cli,
# cli/config/credentials/native_store.go).
_TOKEN_USER = "<token>"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password or token.

    Attributes:
        bearer: whether the password is a token that the registry takes as it is.
        identity: whether it is a token that the registry's token service exchanges for another.
    """

    username: str
    password: str = field(repr=False)
    bearer: bool = False
    identity: bool = False

    def auth_config(self) -> dict[str, str]:
        """As the Docker SDK takes it for one push or pull."""
        if self.identity:
            return {"identitytoken": self.password}
        return {"username": self.username, "password": self.password}


def _login_word(word: str) -> str:
    if ":" not in base64.b64decode(word, validate=True).decode():
        raise ValueError("has to be USER:PASSWORD in Base64")
    return word


class _Login(BaseModel):
    model_config = ConfigDict(frozen=True)

    auth: Annotated[str, AfterValidator(_login_word)] | None = None
    identitytoken: str | None = None


class _Configuration(BaseModel):
    """What is used of config.json (docker/cli, cli/config/configfile/file.go)."""

    model_config = ConfigDict(frozen=True)

    auths: Mapping[str, _Login] | None = None
    stored_in: str | None = Field(None, alias="credsStore")
    helpers: Mapping[str, str] | None = Field(None, alias="credHelpers")
    headers: Mapping[str, str] | None = Field(None, alias="HttpHeaders")
    proxies: Mapping[str, Mapping[str, str]] | None = None
    context: str | None = Field(None, alias="currentContext")


def engine_address(environment: Mapping[str, str] = os.environ) -> str:
    """Where the engine is, by DOCKER_HOST or the context in use.

    Raises:
        MachineError: the configuration cannot be used, or there is no such context.
    """
    if address := environment.get("DOCKER_HOST"):
        return address
    path = _config_file()
    named = environment.get("DOCKER_CONTEXT")
    context = named or _read(path).context or _DEFAULT_CONTEXT
    if context == _DEFAULT_CONTEXT:
        return _DEFAULT_ADDRESS
    digest = hashlib.sha256(context.encode()).hexdigest()
    metadata = path.parent / "contexts" / "meta" / digest / "meta.json"
    if not metadata.is_file():
        raise MachineError(
            f"there is no Docker context '{context}'",
            where="DOCKER_CONTEXT" if named else path,
            remedy="choose one of `docker context ls`, or name the engine in DOCKER_HOST",
        )
    try:
        host = str(parse_json(read_document(metadata))["Endpoints"]["docker"]["Host"])
    except (DocumentError, LookupError, TypeError) as error:
        raise MachineError(
            f"the Docker context '{context}' is damaged ({error})",
            where=metadata,
            remedy="make it again: docker context rm, docker context create",
        ) from None
    return host.removeprefix("http+")  # as the SDK keeps it


def check_configuration(environment: Mapping[str, str] = os.environ) -> None:
    """Checks what the SDK reads before it connects.

    Raises:
        MachineError: a file of the Docker command, a context or a TLS file cannot be used.
    """
    _read(_config_file())
    engine_address(environment)
    verify = bool(environment.get("DOCKER_TLS_VERIFY"))
    directory = environment.get("DOCKER_CERT_PATH")
    if not (verify or directory):
        return
    variable = "DOCKER_CERT_PATH" if directory else "DOCKER_TLS_VERIFY"
    certificates = Path(directory) if directory else _at_home()
    for name in ("cert.pem", "key.pem", *(["ca.pem"] if verify else [])):
        if not (certificates / name).is_file():
            raise MachineError(
                f"the engine's TLS needs {certificates / name}, which does not exist",
                where=variable,
                remedy="name the directory of ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH",
            )


def docker_login(registry: str) -> Credentials | None:
    """The login for a registry in the user's Docker configuration, if any.

    Raises:
        MachineError: the configuration or a credential helper in it cannot be used.
    """
    from docker.auth import load_config
    from docker.errors import DockerException

    path = _config_file()
    _read(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing helper, which is an error here
            found = load_config().resolve_authconfig(registry)
    except DockerException as error:
        reason = str(error.__cause__ or error).strip()
        raise _helper_error(f"fails ({reason})", registry, path) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        kind = type(error).__name__
        raise _helper_error(f"answers no login ({kind})", registry, path) from None
    # In small letters out of the file, in large ones from a credential helper.
    login = {name.lower(): text for name, text in (found or {}).items()}
    if token := login.get("identitytoken"):
        return Credentials(_TOKEN_USER, token, identity=True)
    if not login.get("username"):
        return None
    return Credentials(login["username"], login.get("password") or "")


def _helper_error(problem: str, registry: str, path: Path) -> MachineError:
    return MachineError(
        f"the credential helper for {registry} {problem}",
        where=path,
        remedy="install the helper, or remove credsStore or credHelpers and run docker login",
    )


def _read(path: Path) -> _Configuration:
    """Reads config.json; an empty one where there is none."""
    if not path.exists():
        return _Configuration.model_validate({})
    try:
        return _Configuration.model_validate(parse_json(read_document(path)))
    except DocumentError as error:
        problem = str(error)
    except ValidationError as error:
        problem = validation_problem(error)
    raise MachineError(
        f"the Docker command's configuration cannot be used: {problem}",
        where=path,
        remedy="repair it, or move it away and run docker login",
    )


def _config_file() -> Path:
    """Where config.json is, or would be; the SDK looks into the home directory as well."""
    at_home = _at_home() / "config.json"
    named = os.environ.get("DOCKER_CONFIG")
    path = Path(named) / "config.json" if named else at_home
    return path if path.exists() or not at_home.exists() else at_home


def _at_home() -> Path:
    return Path("~/.docker").expanduser()
