"""Registries: logins, the HTTP API V2 (distribution, docs/spec/api.md), and any host's.

A login is kept in memory and given to the Docker engine's API with each push and pull; no Docker
configuration is needed or changed.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urljoin

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from falconry.data_files import validation_problem
from falconry.docker_engine.configuration import Credentials, docker_login
from falconry.docker_engine.images import is_loopback
from falconry.docker_engine.registry_errors import explain
from falconry.errors import ImageError
from falconry.library_errors import setting_error
from falconry.settings import RegistrySettings

if TYPE_CHECKING:
    from requests import Response, Session

_ACCEPTED = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "*/*;q=0.1",  # a configuration, which comes as it is
    )
)
_DIGEST_HEADER = "Docker-Content-Digest"
# No match begins within a word, and nothing is given back: a registry's header may be long.
_PARAMETER = re.compile(r'(?<!\w)(\w++)="([^"]*+)"')
_BEARER = "Bearer "
_TIMEOUT_S = (5.0, 30.0)
_REFRESH = {"grant_type": "refresh_token", "client_id": "falconry"}


def challenge_fields(text: str) -> dict[str, str]:
    """The quoted parameters of a WWW-Authenticate header."""
    return dict(_PARAMETER.findall(text))


# What is read of the OCI distribution and image specifications' documents.
class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Blob(_Part):
    size: NonNegativeInt = 0
    digest: str = ""


class _Platform(_Part):
    os: str = ""
    architecture: str = ""

    @property
    def name(self) -> str:
        return f"{self.os}/{self.architecture}"


class _Listed(_Part):
    digest: str
    platform: _Platform | None = None


class _Manifest(_Part):
    layers: tuple[_Blob, ...] = ()
    config: _Blob | None = None
    manifests: tuple[_Listed, ...] = ()


class _Container(_Part):
    labels: Mapping[str, str] | None = Field(default=None, alias="Labels")


class _Configuration(_Part):
    config: _Container | None = None


class _Token(_Part):
    token: str | None = None
    access_token: str | None = None


_Kind = TypeVar("_Kind", bound=_Part)


class ImageRegistry(Protocol):
    """A registry and our names in it."""

    @property
    def host(self) -> str:
        """The registry's host, with a port where it has one."""

    def repository(self, name: str) -> str:
        """The repository's path in the registry for an image's name."""

    def credentials(self, repository: str) -> Credentials | None:
        """The login for a repository, with a new token; None without."""

    def prepare(self, repository: str) -> None:
        """Makes a repository if the registry needs that before a push."""


class RegistryProvider(Protocol):
    """Connects to a registry, which may not be running yet."""

    def is_available(self) -> bool:
        """Whether it can be used without starting anything."""

    def connect(self) -> ImageRegistry:
        """The registry, started first where it is the emulator's."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as a registry keeps it; sizes in bytes, compressed.

    Attributes:
        layers: each layer's size.
        configuration: digest of its configuration; empty for an image of several platforms.
    """

    digest: str
    layers: tuple[int, ...]
    configuration: str

    @property
    def size(self) -> int:
        """What a pull without any cached layer transfers."""
        return sum(self.layers)


class RegistryClient:
    """One registry, used as one user or, without credentials, anonymously.

    Every method gives None or nothing for an image that the user may not see.
    """

    def __init__(self, host: str, credentials: Credentials | None) -> None:
        self._host = host
        self._credentials = credentials
        # Saves the challenge and its answer; a registry that wants another token challenges.
        self._authorization = (
            f"{_BEARER}{credentials.password}" if credentials and credentials.bearer else ""
        )

    @property
    def host(self) -> str:
        """The registry's host, with a port where it has one."""
        return self._host

    def another(self) -> RegistryClient:
        """Makes a client with the same login, for another thread: tokens differ by request."""
        return RegistryClient(self._host, self._credentials)

    def request(self, method: str, repository: str, what: str, **options: Any) -> Response | None:
        """Sends a request of the HTTP API V2; None for what the user may not see.

        `what` is a path below the repository's, or a complete URL, as uploads have; the options are
        those of `requests`: headers, data, stream.

        Raises:
            ImageError: the registry refuses.
        """
        return self._ask(method, repository, what, **options)

    def digest(self, repository: str, version: str) -> str | None:
        """The digest of a tag's manifest, or a digest that exists."""
        response = self._ask("HEAD", repository, f"manifests/{version}")
        return response.headers.get(_DIGEST_HEADER) if response is not None else None

    def image(self, repository: str, version: str) -> StoredImage | None:
        """What the registry holds of an image for one platform."""
        response = self._ask("GET", repository, f"manifests/{version}")
        if response is None:
            return None
        manifest = self._read(response, _Manifest)
        return StoredImage(
            response.headers.get(_DIGEST_HEADER, ""),
            tuple(layer.size for layer in manifest.layers),
            manifest.config.digest if manifest.config else "",
        )

    def layer_sizes(self, repository: str, version: str, platform: str) -> tuple[int, ...]:
        """The compressed size of each layer, lowest first.

        `version` is a tag or a digest; `platform`, such as `linux/amd64`, chooses from a list of
        manifests.
        """
        manifest = self._manifest(repository, version)
        for listed in manifest.manifests:
            if listed.platform and listed.platform.name == platform:
                manifest = self._manifest(repository, listed.digest)
                break
        return tuple(layer.size for layer in manifest.layers)

    def labels(self, repository: str, image: StoredImage) -> dict[str, str]:
        """An image's labels (OCI image specification, config.md, `config.Labels`).

        None for an image of several platforms, or without its configuration.
        """
        if not image.configuration:
            return {}
        response = self._ask("GET", repository, f"blobs/{image.configuration}")
        if response is None:
            return {}
        container = self._read(response, _Configuration).config
        return dict(container.labels or {}) if container else {}

    def _manifest(self, repository: str, version: str) -> _Manifest:
        response = self._ask("GET", repository, f"manifests/{version}")
        return _Manifest() if response is None else self._read(response, _Manifest)

    def _read(self, response: Response, kind: type[_Kind]) -> _Kind:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            problem = f"the registry's answer cannot be read ({validation_problem(error)})"
            raise ImageError(problem, where=self._host) from None

    def _ask(self, method: str, repository: str, what: str, **options: Any) -> Response | None:
        import requests

        url = urljoin(f"{self._base}/v2/{repository}/", what)
        where = f"{self._host}/{repository}"
        try:
            with requests.Session() as session:
                session.trust_env = not is_loopback(self._host)
                response = self._authorized(session, method, url, options)
        except requests.RequestException as error:
            raise setting_error(error) or explain(where, str(error)) from None
        if response.status_code == 404 or self._may_not_see(response):
            return None
        if not response.ok:
            raise explain(where, f"status {response.status_code} {response.text[:300]}")
        return response

    def _may_not_see(self, response: Response) -> bool:
        """Whether an accepted login has no right here.

        Registries with tokens answer the same for repositories that do not exist (distribution,
        docs/spec/auth/token.md: `insufficient_scope`).
        """
        refused = response.status_code in (401, 403)
        return refused and self._authorization.startswith(_BEARER)

    def _authorized(
        self, session: Session, method: str, url: str, options: Mapping[str, Any]
    ) -> Response:
        """Sends a request, and once more after answering a challenge."""

        def send() -> Response:
            # A function for `auth`, so that no entry of ~/.netrc is used instead.
            headers = {"Accept": _ACCEPTED, **options.get("headers", {})}
            return session.request(
                method,
                url,
                **{"timeout": _TIMEOUT_S, **options, "headers": headers, "auth": self._authorize},
            )

        response = send()
        if response.status_code != 401 or not _repeatable(options.get("data")):
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        self._authorization = self._answer(session, challenge)
        return send()

    def _authorize(self, request: Any) -> Any:
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        return request

    def _answer(self, session: Session, challenge: str) -> str:
        """The authorization that a challenge asks for (distribution, docs/spec/auth/token.md)."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return self._basic()
        fields = challenge_fields(rest)
        if scheme.lower() != "bearer" or "realm" not in fields:
            return ""
        names = ("service", "scope")
        query: dict[str, str] = {name: fields[name] for name in names if name in fields}
        self._authorization = self._basic()
        login = self._credentials
        if login and login.identity:  # OAuth 2, docs/spec/auth/oauth.md
            form = {**query, **_REFRESH, "refresh_token": login.password}
            answer = session.post(
                fields["realm"], data=form, auth=self._authorize, timeout=_TIMEOUT_S
            )
        else:
            answer = session.get(
                fields["realm"], params=query, auth=self._authorize, timeout=_TIMEOUT_S
            )
        if not answer.ok:
            raise explain(self._host, f"status {answer.status_code} {answer.text[:300]}")
        body = self._read(answer, _Token)
        return f"{_BEARER}{body.token or body.access_token}"

    def _basic(self) -> str:
        login = self._credentials
        if login is None or login.identity:
            return ""
        word = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        return f"Basic {word}"

    @property
    def _base(self) -> str:
        return f"{'http' if is_loopback(self._host) else 'https'}://{self._host}"


def _repeatable(data: object) -> bool:
    """Whether a body can be sent a second time: a stream cannot."""
    return data is None or isinstance(data, bytes)


@dataclass(frozen=True, slots=True)
class HostRegistry:
    """A registry by its host, which makes repositories with the first push.

    It is its own provider, since it is never started here.
    """

    settings: RegistrySettings

    @property
    def host(self) -> str:
        """As the profile has it."""
        return self.settings.host or ""

    def is_available(self) -> bool:
        """Always: it is not started here."""
        return True

    def connect(self) -> HostRegistry:
        """Itself."""
        return self

    def repository(self, name: str) -> str:
        """`<namespace>/<prefix>/<name>`, or without namespace where none is set."""
        parts = (self.settings.namespace, self.settings.prefix, name)
        return "/".join(part for part in parts if part)

    def credentials(self, repository: str) -> Credentials | None:
        """The token of the environment, or the login of Docker's configuration."""
        token = os.environ.get("OCIR_AUTH_TOKEN")
        user = os.environ.get("OCIR_USERNAME") or self.settings.username
        return Credentials(user, token) if token and user else docker_login(self.host)

    def prepare(self, repository: str) -> None:
        """Nothing: the first push makes it."""
