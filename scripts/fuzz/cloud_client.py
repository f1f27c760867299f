"""Sends any bytes to a local cloud as a request, signed by its user where that is wanted."""

from __future__ import annotations

import base64
import configparser
import contextlib
import hashlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

ANSWER_S = 8.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it goes over the wire.

    Attributes:
        target: of the request line, escaped.
        headers: besides those that every request has.
        signed: by the user; otherwise it has the Authorization of its headers, if any.
    """

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


class Cloud:
    """A running local cloud, and who may speak to it.

    Args:
        directory: its directory.
        log: where it writes its log.

    Attributes:
        identifiers: values for the parameters of paths, by the parameter's name.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        url = urlsplit((directory / "endpoint").read_text())
        self.address = (str(url.hostname), int(url.port or 0))
        self.host = url.netloc.encode()
        self.token = (directory / "local-token").read_bytes()
        self.log = log
        self._log_bytes = log.stat().st_size
        config = configparser.ConfigParser(interpolation=None)
        config.read(directory / "config")
        user = config["DEFAULT"]
        self.tenancy = user["tenancy"]
        self._key_id = f"{user['tenancy']}/{user['user']}/{user['fingerprint']}"
        pem = (directory / "api_key.pem").read_bytes()
        self._key = cast(rsa.RSAPrivateKey, load_pem_private_key(pem, password=None))
        self.identifiers: dict[str, str] = {
            "namespace": "localoci",
            "bucket": "fuzz",
            "user_id": user["user"],
            "tenancy_id": self.tenancy,
            "compartment_id": self.tenancy,
        }

    def send(self, request: Request) -> Answer | None:
        """Sends a request; None where the connection ends without an answer."""
        with socket.create_connection(self.address, timeout=ANSWER_S) as connection:
            with contextlib.suppress(ConnectionError):  # it may answer before all is sent
                connection.sendall(self._bytes(request))
            response = HTTPResponse(connection, method=request.method.decode("latin-1"))
            try:
                response.begin()
                return Answer(response.status, response.read())
            except (HTTPException, ConnectionError):
                return None

    def new_log(self) -> str:
        """What was written into the log since the last call."""
        with self.log.open("rb") as log:
            log.seek(self._log_bytes)
            text = log.read()
        self._log_bytes += len(text)
        return text.decode(errors="replace")

    def _bytes(self, request: Request) -> bytes:
        headers = list(request.headers)
        if request.body is not None and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"content-length", str(len(request.body)).encode()))
        headers = [(b"host", self.host), *headers] if not _names(headers, b"host") else headers
        if request.signed:
            headers = self._signed(request, headers)
        lines = [b"%s %s HTTP/1.1" % (request.method, request.target)]
        lines += [name + b": " + value for name, value in headers]
        lines += [b"connection: close", b"", request.body or b""]
        return b"\r\n".join(lines)

    def _signed(
        self, request: Request, headers: list[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        if not _names(headers, b"date"):
            headers = [*headers, (b"date", formatdate(usegmt=True).encode())]
        names = [b"date", b"(request-target)", b"host"]
        if request.body is not None:
            digest = base64.b64encode(hashlib.sha256(request.body).digest())
            if not _names(headers, b"content-type"):
                headers = [*headers, (b"content-type", b"application/json")]
            headers = [*headers, (b"x-content-sha256", digest)]
            names += [b"content-length", b"content-type", b"x-content-sha256"]
        values = {name: value.strip(b" \t") for name, value in headers}
        values[b"(request-target)"] = request.method.lower() + b" " + request.target
        text = b"\n".join(name + b": " + values[name] for name in names)
        signature = base64.b64encode(self._key.sign(text, padding.PKCS1v15(), SHA256()))
        value = (
            f'Signature algorithm="rsa-sha256",headers="{b" ".join(names).decode()}",'
            f'keyId="{self._key_id}",signature="{signature.decode()}",version="1"'
        )
        return [*headers, (b"authorization", value.encode())]

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a resource."""
        answer = self.send(Request(b"POST", path.encode(), body=json.dumps(body).encode()))
        assert answer is not None and answer.status < 300, answer
        return cast(dict[str, Any], json.loads(answer.body or b"{}"))


def _names(headers: list[tuple[bytes, bytes]], name: bytes) -> bool:
    return any(known.lower() == name for known, _ in headers)
