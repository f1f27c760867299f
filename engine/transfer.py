#!/usr/bin/env python3
"""Builds an engine in a Data Science Job: fetches the files, runs build.py, leaves what it made.

Everything is in one bucket, and the variable FALCONRY_JOB says where: JSON with "namespace",
"bucket", "request", which is the name of an object, and "image", the toolchain's by digest. The
request names the files of the build with their digests, and the command. All its paths are relative
to a directory that is chosen here, the one with the most free space. The engine's files are put to
`<engine>/<SHA-256>/<name>`, and last the result, which names them and holds the documents that the
build wrote. Objects are read and written as the job run itself (a resource principal); a token for
the hub comes from an OCI Vault secret.

It needs Python 3.10 and the `oci` package. What it says of itself is lines of build.py's form. Its
exit status is build.py's, or 1 where a transfer failed.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

CONTROL = "::falconry::"
ROOT = "/falconry/"  # what the paths in the build's documents begin with

# The image's layer has `oci` beside this program, and the toolchain has other versions of what that
# needs.
_PACKAGES = Path(__file__).with_name("packages")
_CHUNK = 1 << 20
_ATTEMPTS = 5
_FILES_AT_ONCE = 4
_WORK_DIRECTORIES = ("/home/datascience", "/falconry", "/tmp")
# The build has no use for the job's own rights.
_KEPT_FROM_BUILD = ("OCI_", "FALCONRY_JOB")


class TransferError(Exception):
    """A failure, as one sentence for the user."""


def main() -> int:
    """Runs the job; gives its exit status."""
    sys.path.insert(0, str(_PACKAGES))
    try:
        where = json.loads(os.environ["FALCONRY_JOB"])
        status = run(where, Bucket(where))
    except (KeyError, ValueError) as error:
        status = fail(f"FALCONRY_JOB or the request is not valid ({error})")
    except TransferError as error:
        status = fail(str(error))
    except ImportError as error:
        status = fail(f"the image's oci package cannot be used: {error}")
    except OSError as error:
        status = fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    say({"end": status})
    return status


def run(where: Mapping[str, Any], bucket: Bucket) -> int:
    """Fetches, builds and leaves the result; gives the build's exit status."""
    content = bucket.read(where["request"])
    request = json.loads(content)
    token = hub_token(where)
    with tempfile.TemporaryDirectory(prefix="falconry-", dir=work_directory()) as name:
        root = Path(name)
        fetch_all(request["files"], root, bucket, token)
        for path in request["relocate"]:
            relocate(root / path, f"{root}/")
        status = build(request, root, token)
        if status == 0:
            leave(request, hashlib.sha256(content).hexdigest(), where["image"], root, bucket)
    return status


def say(fields: Mapping[str, Any]) -> None:
    """Prints a line for Falconry."""
    print(f"{CONTROL}{json.dumps(fields)}", flush=True)


def step(text: str, fraction: float) -> None:
    """Says what is being done."""
    say({"phase": "transfer", "step": text, "fraction": fraction})


def fail(reason: str) -> int:
    """Says why the job fails; gives its exit status."""
    say({"error": reason})
    return 1


def work_directory() -> str:
    """The writable directory with the most free space."""
    given = os.environ.get("FALCONRY_JOB_DIRECTORY")
    candidates = [given] if given else [os.environ.get("HOME", ""), *_WORK_DIRECTORIES]
    usable = [path for path in candidates if os.access(path, os.W_OK | os.X_OK)]
    if not usable:
        raise TransferError(f"none of these directories can be written to: {', '.join(candidates)}")
    return max(usable, key=lambda path: shutil.disk_usage(path).free)


# --- the bucket -------------------------------------------------------------------------------


class Bucket:
    """The bucket, used as the job run."""

    def __init__(self, where: Mapping[str, Any]) -> None:
        import oci

        self._oci = oci
        self._location = (where["namespace"], where["bucket"])
        options = {"retry_strategy": oci.retry.DEFAULT_RETRY_STRATEGY, "timeout": (10, 120)}
        if where.get("endpoint"):
            options["service_endpoint"] = where["endpoint"]
        signer = oci.auth.signers.get_resource_principals_signer()
        self._client = oci.object_storage.ObjectStorageClient({}, signer=signer, **options)

    def read(self, name: str) -> bytes:
        """The content of a small object."""
        return b"".join(self.stream(name, 0))

    def stream(self, name: str, start: int) -> Iterator[bytes]:
        """The content of an object from a byte on."""
        wanted = {"range": f"bytes={start}-"} if start else {}
        with self._translated(f"reading {name}"):
            answer = self._client.get_object(*self._location, name, **wanted)
            yield from answer.data.raw.stream(_CHUNK, decode_content=False)

    def has(self, name: str, size: int) -> bool:
        """Whether there is an object of this size."""
        with self._translated(f"looking for {name}"):
            try:
                head = self._client.head_object(*self._location, name)
            except self._oci.exceptions.ServiceError as error:
                if error.status == 404:
                    return False
                raise
        return int(head.headers["content-length"]) == size

    def upload(self, path: Path, name: str) -> None:
        """Puts a file, in parts if it is large."""
        manager = self._oci.object_storage.UploadManager(self._client, allow_parallel_uploads=True)
        with self._translated(f"putting {name}"):
            manager.upload_file(*self._location, name, str(path))

    def put(self, name: str, content: bytes) -> None:
        """Puts a small object."""
        with self._translated(f"putting {name}"):
            self._client.put_object(*self._location, name, content, content_type="application/json")

    @contextlib.contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        errors = self._oci.exceptions
        lost = (errors.RequestException, errors.ConnectTimeout, errors.MultipartUploadError)
        try:
            yield
        except errors.ServiceError as error:
            raise TransferError(
                f"{action} was refused: {error.status} {error.code} {error.message}; see that a"
                " policy lets the dynamic group of job runs manage objects of the bucket"
            ) from error
        except lost as error:
            raise ConnectionError(f"{action}: {error}") from error


# --- fetching ---------------------------------------------------------------------------------


def fetch_all(files: list[dict[str, Any]], root: Path, bucket: Bucket, token: str | None) -> None:
    """Fetches the files, some at a time, and compares each with its digest."""
    total, done = sum(file["size"] for file in files), 0
    step("fetching the checkpoint", 0.0)

    def one(file: dict[str, Any]) -> int:
        def source(start: int) -> Iterator[bytes]:
            if "url" in file:
                return download(file["url"], start, token)
            return bucket.stream(file["object"], start)

        fetch(file, root / file["path"], source)
        return int(file["size"])

    with concurrent.futures.ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        for future in concurrent.futures.as_completed([pool.submit(one, file) for file in files]):
            done += future.result()
            print(f"fetched {done} of {total} bytes", flush=True)


def fetch(file: Mapping[str, Any], path: Path, source: Callable[[int], Iterator[bytes]]) -> None:
    """Fetches one file, continuing where a connection broke."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = new_digest(file)
    with path.open("wb") as output:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                for data in source(output.tell()):
                    output.write(data)
                    digest.update(data)
            except TransferError:
                raise
            except Exception as error:  # every library on the way has errors of its own
                if attempt == _ATTEMPTS or isinstance(error, MemoryError):
                    raise TransferError(f"{file['path']} does not arrive: {error}") from error
                print(f"{file['path']}: {error}; once more", flush=True)
                time.sleep(2**attempt)
            if output.tell() >= file["size"]:
                break
    if digest.hexdigest() != file.get("sha256", file.get("git_sha1")):
        raise TransferError(f"{file['path']} arrived with another digest than the request's")


def new_digest(file: Mapping[str, Any]) -> Any:
    """SHA-256, or git's SHA-1 of a blob for small files of the hub."""
    if "sha256" in file:
        return hashlib.sha256()
    header = b"blob %d\0" % file["size"]
    return hashlib.sha1(header, usedforsecurity=False)


class _TokenForOneHost(urllib.request.HTTPRedirectHandler):
    """Does not hand the token on to where the hub redirects to."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        request = super().redirect_request(*arguments)
        if request is not None:
            request.remove_header("Authorization")
        return request


def download(url: str, start: int, token: str | None) -> Iterator[bytes]:
    """A file of the hub from a byte on."""
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.build_opener(_TokenForOneHost).open(request, timeout=60) as answer:
            if start and answer.status != 206:
                raise TransferError(f"{url} cannot be continued")
            while data := answer.read(_CHUNK):
                yield data
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            said = "with the secret's token" if token else "without a token"
            raise TransferError(
                f"the hub refuses {url} {said} ({error.code}); engine.job.hub_token_secret names"
                " the Vault secret with one"
            ) from error
        raise


def hub_token(where: Mapping[str, Any]) -> str | None:
    """The token for the hub out of the Vault's secret, if one is named."""
    secret = where.get("token_secret")
    if not secret:
        return None
    import oci

    options = {"service_endpoint": where["endpoint"]} if where.get("endpoint") else {}
    signer = oci.auth.signers.get_resource_principals_signer()
    client = oci.secrets.SecretsClient({}, signer=signer, **options)
    try:
        bundle = client.get_secret_bundle(secret).data
        return base64.b64decode(bundle.secret_bundle_content.content).decode().strip()
    except oci.exceptions.ServiceError as error:
        raise TransferError(
            f"the secret {secret} cannot be read: {error.status} {error.code}; a policy has to let"
            " the dynamic group of job runs read secret-bundles"
        ) from error


# --- building ---------------------------------------------------------------------------------


def relocate(path: Path, root: str) -> None:
    """Lets the paths in a JSON document begin with the chosen directory."""

    def moved(value: Any) -> Any:
        if isinstance(value, str):
            return root + value.removeprefix(ROOT) if value.startswith(ROOT) else value
        if isinstance(value, list):
            return [moved(each) for each in value]
        if isinstance(value, dict):
            return {name: moved(each) for name, each in value.items()}
        return value

    path.write_text(json.dumps(moved(json.loads(path.read_text()))))


def build(request: Mapping[str, Any], root: Path, token: str | None) -> int:
    """Runs build.py; passes on what ends this program."""
    for name in request["directories"]:
        (root / name).mkdir(parents=True, exist_ok=True)
    variables = {
        name: text for name, text in os.environ.items() if not name.startswith(_KEPT_FROM_BUILD)
    }
    variables |= request["environment"]
    variables["HOME"] = str(root / "scratch")
    if token:
        variables["HF_TOKEN"] = token  # calibration data may be closed as well
    words = [str(root / word) for word in request["command"]]
    process = subprocess.Popen(["python3", *words], env=variables, cwd=root)

    def forward(number: int, _frame: object) -> None:
        process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    status = process.wait()
    return 128 - status if status < 0 else status


# --- leaving ----------------------------------------------------------------------------------


def leave(request: Mapping[str, Any], digest: str, image: str, root: Path, bucket: Bucket) -> None:
    """Puts the engine's files, and last the result that names them."""
    output = root / request["output"]
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    step("leaving the engine in the bucket", 1.0)
    files = {}
    for path in paths:
        name = path.relative_to(output).as_posix()
        sha256, size = file_digest(path), path.stat().st_size
        files[name] = {"size": size, "sha256": f"sha256:{sha256}"}
        target = f"{request['engine']}/{sha256}/{name}"
        if not bucket.has(target, size):
            bucket.upload(path, target)
        print(f"left {name}, {size} bytes", flush=True)
    documents = {
        Path(name).name: json.loads((root / name).read_text())
        for name in request["documents"]
        if (root / name).is_file()
    }
    result = {
        "format": 1,
        "key": request["key"],
        "image": image,
        "files": files,
        "documents": documents,
    }
    bucket.put(f"{request['engine']}/job/{digest}.result.json", json.dumps(result).encode())


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
