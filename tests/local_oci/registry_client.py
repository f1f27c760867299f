"""A client of a container registry, as Docker is one: HTTP, and tokens got as the registry says.

(Docker distribution 2.8: docs/spec/api.md and docs/spec/auth/token.md.)
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import requests
from requests.auth import AuthBase

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"

Credentials = tuple[str, str] | AuthBase | None


class Denied(Exception):  # noqa: N818
    """The registry, or whoever gives its tokens, refused."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"{response.url}: {response.status_code} {response.text}")
        self.status = response.status_code
        self.body = response.json()


def digest_of(content: bytes) -> str:
    """The digest that content has in a registry."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest(config: bytes, *layers: bytes) -> bytes:
    """An image manifest, version 2, schema 2."""

    def described(kind: str, content: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "size": len(content), "digest": digest_of(content)}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": described(_CONFIG_TYPE, config),
            "layers": [described(_LAYER_TYPE, layer) for layer in layers],
        }
    ).encode()


class RegistryClient:
    """Speaks to one registry with one kind of credentials."""

    def __init__(self, host: str, credentials: Credentials) -> None:
        self._url = f"http://{host}"
        self._credentials = credentials

    def push(self, path: str, tag: str, *layers: bytes) -> str:
        """Push an image of some layers; its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
        for blob in (config, *layers):
            begun = self.request("POST", f"/v2/{path}/blobs/uploads/")
            location = begun.headers["location"].removeprefix(self._url)
            self.request("PUT", location, params={"digest": digest_of(blob)}, data=blob)
        answer = self.request(
            "PUT",
            f"/v2/{path}/manifests/{tag}",
            data=manifest(config, *layers),
            headers={"content-type": MANIFEST_TYPE},
        )
        return answer.headers["docker-content-digest"]

    def pull(self, path: str, reference: str) -> bytes:
        """The manifest of a tag or a digest."""
        return self.request(
            "GET", f"/v2/{path}/manifests/{reference}", headers={"accept": MANIFEST_TYPE}
        ).content

    def request(self, method: str, target: str, **options: Any) -> requests.Response:
        """A request with a token for just this, if the registry asks for one."""
        url = f"{self._url}{target}"
        answer = requests.request(method, url, timeout=10, **options)
        if answer.status_code == 401:
            challenge = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers["www-authenticate"]))
            token = self.token(challenge.pop("realm"), challenge)
            headers = {**options.pop("headers", {}), "authorization": f"Bearer {token}"}
            answer = requests.request(method, url, timeout=10, headers=headers, **options)
        if not answer.ok:
            raise Denied(answer)
        return answer

    def token(self, realm: str, query: Any) -> str:
        """A token, as the credentials allow."""
        answer = requests.get(realm, params=query, auth=self._credentials, timeout=10)
        if not answer.ok:
            raise Denied(answer)
        return str(answer.json()["token"])
