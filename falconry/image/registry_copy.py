"""Copies an image from one registry to another, with a layer added on the way; no Docker needed.

Layers go as they are, each compared with its digest, and those that the target has already do not
go (OCI distribution specification: blobs are pushed before the manifest that names them).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.digests import bytes_digest
from falconry.docker_engine.images import ImageReference
from falconry.docker_engine.registry_errors import TransientError, explain
from falconry.documents import DocumentError, parse_json
from falconry.errors import FalconryError, ImageError
from falconry.image.registry import RegistryClient

if TYPE_CHECKING:
    from requests import Response

PLATFORM = "linux/amd64"
_CHUNK = 1 << 20
_ATTEMPTS = 4
_AT_ONCE = 3
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that is added on top.

    Attributes:
        path: gzipped tar.
        digest: of the file.
        diff_id: of the tar in it.
        comment: what it is, for the image's history.
    """

    path: Path
    digest: str
    diff_id: str
    comment: str


@dataclass(frozen=True, slots=True)
class Source:
    """An image where it comes from, for one platform.

    Attributes:
        digest: of its manifest.
        manifest: with `config` and `layers`, as JSON values.
    """

    client: RegistryClient
    repository: str
    digest: str
    manifest: Mapping[str, Any]

    @property
    def size(self) -> int:
        """What all layers have, compressed; in bytes."""
        return sum(int(layer["size"]) for layer in self.manifest["layers"])


def find_source(client: RegistryClient, reference: ImageReference) -> Source:
    """Looks an image up; of several platforms takes that which the cloud runs.

    Raises:
        ImageError: there is no such image, or not for the platform.
    """
    repository, version = reference.repository, reference.version
    for _ in range(2):
        answer = client.request("GET", repository, f"manifests/{version}")
        if answer is None:
            raise ImageError(
                "the registry has no such image, or this login may not see it",
                where=str(reference),
            )
        content = answer.content
        manifest = _json_object(content, reference)
        if "layers" in manifest:
            return Source(client, repository, bytes_digest(content), manifest)
        version = _of_platform(manifest, reference)
    raise ImageError("is a list of lists of images", where=str(reference))


def copy_image(
    source: Source,
    target: RegistryClient,
    repository: str,
    tag: str,
    layer: Layer,
    report: Callable[[float], None],
) -> str:
    """Copies an image with a layer more; gives the digest of the new manifest."""
    blobs = source.manifest["layers"]
    counter = _Counter(source.size, report)

    def copy(blob: Mapping[str, Any]) -> None:
        digest, size = str(blob["digest"]), int(blob["size"])
        own_target, own_source = target.another(), replace(source, client=source.client.another())
        if own_target.request("HEAD", repository, f"blobs/{digest}") is None:
            _copy_blob(own_source, own_target, repository, digest, counter)
        else:
            counter.add(size)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(copy, blob) for blob in blobs]:
            done.result()
    if target.request("HEAD", repository, f"blobs/{layer.digest}") is None:
        _put_blob(target, repository, layer.digest, lambda: _read(layer.path))
    configuration = _configuration(source, layer)
    configuration_digest = bytes_digest(configuration)
    _put_blob(target, repository, configuration_digest, lambda: iter([configuration]))
    manifest = _manifest(source, layer, configuration_digest, len(configuration))
    headers = {"Content-Type": str(source.manifest.get("mediaType") or _DOCKER_MANIFEST)}
    put = target.request("PUT", repository, f"manifests/{tag}", headers=headers, data=manifest)
    _require(put, target, repository)
    return bytes_digest(manifest)


def _copy_blob(
    source: Source, target: RegistryClient, repository: str, digest: str, counter: _Counter
) -> None:
    def content() -> Iterator[bytes]:
        answer = source.client.request("GET", source.repository, f"blobs/{digest}", stream=True)
        with contextlib.closing(_require(answer, source.client, source.repository)) as blob:
            known = hashlib.sha256()
            for data in blob.iter_content(_CHUNK):
                known.update(data)
                counter.add(len(data))
                yield data
        if f"sha256:{known.hexdigest()}" != digest:
            raise TransientError("arrived with another digest", where=digest)

    _put_blob(target, repository, digest, content)


def _put_blob(
    target: RegistryClient, repository: str, digest: str, content: Callable[[], Iterator[bytes]]
) -> None:
    """Pushes a blob as Docker does: one stream, then its digest; begins anew after a failure."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            begun = target.request("POST", repository, "blobs/uploads/")
            url = _require(begun, target, repository).headers["Location"]
            headers = {"Content-Type": "application/octet-stream"}
            sent = target.request("PATCH", repository, url, headers=headers, data=content())
            url = _require(sent, target, repository).headers["Location"]
            joint = "&" if "?" in url else "?"
            done = target.request("PUT", repository, f"{url}{joint}digest={digest}")
            _require(done, target, repository)
            return
        except FalconryError:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(attempt)


def _require(answer: Response | None, client: RegistryClient, repository: str) -> Response:
    if answer is None:
        raise explain(f"{client.host}/{repository}", "status 404: no such image or no right to it")
    return answer


def _configuration(source: Source, layer: Layer) -> bytes:
    """The image's configuration with the layer in it (OCI image specification, config.md)."""
    digest = source.manifest["config"]["digest"]
    answer = source.client.request("GET", source.repository, f"blobs/{digest}")
    content = _require(answer, source.client, source.repository).content
    if bytes_digest(content) != digest:
        raise ImageError("the image's configuration has another digest", where=digest)
    values = _json_object(content, digest)
    root = values.setdefault("rootfs", {"type": "layers"})
    root.setdefault("diff_ids", []).append(layer.diff_id)
    values.setdefault("history", []).append({"created_by": layer.comment})
    return json.dumps(values, separators=(",", ":")).encode()


def _manifest(source: Source, layer: Layer, digest: str, size: int) -> bytes:
    values = dict(source.manifest)
    docker = str(values.get("mediaType") or _DOCKER_MANIFEST) == _DOCKER_MANIFEST
    added = {
        "mediaType": _DOCKER_LAYER if docker else _OCI_LAYER,
        "size": layer.path.stat().st_size,
        "digest": layer.digest,
    }
    values["layers"] = [*values["layers"], added]
    values["config"] = {**values["config"], "digest": digest, "size": size}
    return json.dumps(values, separators=(",", ":")).encode()


def _of_platform(listed: Mapping[str, Any], reference: ImageReference) -> str:
    for each in listed.get("manifests", ()):
        platform = each.get("platform") or {}
        if f"{platform.get('os')}/{platform.get('architecture')}" == PLATFORM:
            return str(each["digest"])
    raise ImageError(f"has no image for {PLATFORM}", where=str(reference))


def _json_object(content: bytes, where: object) -> dict[str, Any]:
    try:
        value = parse_json(content)
    except DocumentError as error:
        raise ImageError(f"the registry's answer cannot be read ({error})", where=str(where)) from (
            error
        )
    if not isinstance(value, dict):
        raise ImageError("the registry's answer is not a JSON object", where=str(where))
    return value


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK):
            yield data


class _Counter:
    """Counts bytes for several threads."""

    def __init__(self, total: int, report: Callable[[float], None]) -> None:
        self._total = max(total, 1)
        self._report = report
        self._count = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._count += size
            self._report(min(self._count / self._total, 1.0))
