"""OCIR, Oracle's container registry: name, repositories and login.

The emulator has one as well, which differs in its host alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.cloud import emulator
from falconry.docker_engine.configuration import Credentials
from falconry.docker_engine.registry_errors import TransientError
from falconry.documents import DocumentError, parse_json, read_document
from falconry.endpoint.errors import json_object
from falconry.errors import ImageError
from falconry.files import atomic_write_text
from falconry.library_errors import setting_error

if TYPE_CHECKING:
    from falconry.cloud.session import Session
    from falconry.settings import CloudSettings, RegistrySettings

# Public repositories of Oracle's users document both: a signed GET of this path gives a token
# (`oci raw-request`), which logs in as BEARER_TOKEN.
_TOKEN_PATH = "/20180419/docker/token"
_TOKEN_USER = "BEARER_TOKEN"
_TIMEOUT_S = 30.0
# Too many requests, and failures of the service: the next try may succeed.
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_CONFLICT = 409
_COMMERCIAL_REALM = "oc1"
_HOST_TEMPLATE = "https://ocir.{region}.oci.{secondLevelDomain}"


class OcirProvider:
    """Connects to a profile's OCIR, starting the emulator's where needed."""

    def __init__(self, cloud: CloudSettings, settings: RegistrySettings, namespaces: Path) -> None:
        self._cloud = cloud
        self._settings = settings
        self._namespaces = namespaces

    def is_available(self) -> bool:
        """Whether it can be used without a start; Oracle's own always can."""
        local = self._cloud.emulator
        return local is None or (
            emulator.answers(local) and emulator.registry_host(local) is not None
        )

    def connect(self) -> OcirRegistry:
        """The registry, with the emulator's started where needed."""
        from falconry.cloud.session import session_of

        if self._cloud.emulator and not self.is_available():
            emulator.start(self._cloud.emulator, registry=True)
        return OcirRegistry(session_of(self._cloud), self._settings, self._namespaces)


class OcirRegistry:
    """One tenancy's repositories in OCIR.

    Its namespace, which never changes, is remembered in the file `namespaces`.
    """

    def __init__(self, session: Session, settings: RegistrySettings, namespaces: Path) -> None:
        self._session = session
        self._settings = settings
        self._namespaces = namespaces
        local = session.settings.emulator
        self._emulated = emulator.registry_host(local) if local else None
        self._namespace: str | None = None

    @property
    def host(self) -> str:
        """OCIR's host in the profile's region, or the emulator's registry."""
        if self._emulated:
            return self._emulated
        region = os.environ.get("OCIR_REGION") or self._settings.region or self._session.region
        return ocir_host(region)

    @property
    def namespace(self) -> str:
        """The tenancy's Object Storage namespace, which its repositories are below."""
        given = None if self._emulated else os.environ.get("OCIR_NAMESPACE")
        self._namespace = self._namespace or given or self._settings.namespace
        if self._namespace is None:
            self._namespace = self._remembered_namespace()
        return self._namespace

    def _remembered_namespace(self) -> str:
        known = _read_namespaces(self._namespaces)
        tenancy = self._session.tenancy
        if tenancy not in known:
            known[tenancy] = self._ask_namespace()
            atomic_write_text(self._namespaces, json.dumps(known, indent=1))
        return known[tenancy]

    def _ask_namespace(self) -> str:
        from oci.object_storage import ObjectStorageClient

        from falconry.cloud.session import translate_cloud_errors

        client: Any = self._session.client(ObjectStorageClient)
        with translate_cloud_errors("asking for the tenancy's namespace"):
            return str(client.get_namespace().data)

    def repository(self, name: str) -> str:
        """`<namespace>/<prefix>/<name>`."""
        return f"{self.namespace}/{self._settings.prefix}/{name}"

    def credentials(self, repository: str) -> Credentials:
        """OCIR_AUTH_TOKEN, or else a token requested with the API key.

        Raises:
            ImageError: there is a token and no user, or the registry gives no token.
        """
        token = None if self._emulated else os.environ.get("OCIR_AUTH_TOKEN")
        if token is None:
            return Credentials(_TOKEN_USER, self._signed_token(repository), bearer=True)
        user = os.environ.get("OCIR_USERNAME") or self._settings.username
        if not user:
            raise ImageError(
                "OCIR_AUTH_TOKEN is set, but its user is not known",
                where=self.host,
                remedy="set OCIR_USERNAME, or leave OCIR_AUTH_TOKEN out",
            )
        return Credentials(self._full_user(user), token)

    def prepare(self, repository: str) -> None:
        """Makes a repository in the profile's compartment unless it exists.

        Without this OCIR would make it in the root compartment on the first push, or refuse. Its
        name is unique in the tenancy, so one in another compartment is used as it is.
        """
        import oci
        from oci.artifacts import ArtifactsClient
        from oci.artifacts import models as oci_models

        from falconry.cloud.retries import all_records
        from falconry.cloud.session import translate_cloud_errors

        name = repository.removeprefix(f"{self.namespace}/")
        client: Any = self._session.client(ArtifactsClient)
        compartment = self._settings.compartment_id or self._session.compartment_id
        with translate_cloud_errors(f"looking for the repository '{name}'"):
            found = all_records(client.list_container_repositories, compartment, display_name=name)
        if found:
            return
        details = oci_models.CreateContainerRepositoryDetails(
            compartment_id=compartment,
            display_name=name,
            is_public=False,
            freeform_tags=self._session.tags,
        )
        with translate_cloud_errors(f"making the repository '{name}'"):
            try:
                client.create_container_repository(details)
            except oci.exceptions.ServiceError as error:
                if error.status != _CONFLICT:
                    raise

    def _full_user(self, user: str) -> str:
        """`<namespace>/<user>`, the form that OCIR requires."""
        begins = f"{self.namespace}/"
        return user if user.startswith(begins) else f"{begins}{user}"

    def _signed_token(self, repository: str) -> str:
        """A token to read this repository; as a login, with all rights.

        That OCIR heeds the scope is inferred: it is distribution's. A request for a push as well
        could make the repository, in the root compartment.
        """
        import requests

        scope = {"service": self.host, "scope": f"repository:{repository}:pull"}
        try:
            with requests.Session() as session:
                session.trust_env = self._emulated is None
                signer = self._session.signer()
                answer = session.get(
                    self._token_url(), params=scope, auth=signer, timeout=_TIMEOUT_S
                )
        except requests.RequestException as error:
            raise setting_error(error) or TransientError(
                f"the registry's token service cannot be reached ({error})",
                where=self.host,
                remedy="check the network, and image.registry.region",
            ) from None
        if not answer.ok:
            kind = TransientError if answer.status_code in _TRANSIENT else ImageError
            raise kind(
                f"the registry gives no token: status {answer.status_code} {answer.text[:300]}",
                where=self.host,
                remedy="check the API key of cloud.config_file, or set OCIR_AUTH_TOKEN and"
                " OCIR_USERNAME",
            )
        token = (json_object(answer.content) or {}).get("token")
        if not isinstance(token, str):
            raise ImageError("the registry's token service returned no token", where=self.host)
        return token

    def _token_url(self) -> str:
        local = self._session.settings.emulator
        base = emulator.require_endpoint(local) if local else f"https://{self.host}"
        return f"{base}{_TOKEN_PATH}"


def _read_namespaces(path: Path) -> dict[str, str]:
    """The namespaces by tenancy; none where the file is missing or damaged."""
    try:
        found = parse_json(read_document(path))
    except DocumentError:
        return {}
    texts = found.items() if isinstance(found, dict) else ()
    return {name: each for name, each in texts if isinstance(each, str)}


def ocir_host(region: str) -> str:
    """Returns the host of OCIR in a region, given by its name or its key.

    `<key>.ocir.io` in Oracle's commercial realm (OC1; Oracle, "Availability by Region" of Container
    Registry), and `ocir.<region>.oci.<domain of the realm>` in all others, such as
    ocir.eu-frankfurt-2.oci.oraclecloud.eu. The latter was seen in OC1 too, so it is the name for
    its regions whose key the SDK does not know. Regions that are newer than the SDK come from
    where it looks for them: OCI_REGION_METADATA, ~/.oci/regions-config.json, OCI_DEFAULT_REALM.
    """
    from oci import regions

    name = regions.get_region_from_short_name(region.strip())
    keys = {known: key for key, known in regions.REGIONS_SHORT_NAMES.items()}
    if name in keys and regions.get_realm_from_region(name) == _COMMERCIAL_REALM:
        return f"{keys[name]}.ocir.io"
    url = regions.endpoint_for("ocir", name, service_endpoint_template=_HOST_TEMPLATE)
    return str(url).removeprefix("https://")
