"""TLS, its authorities, and proxies, against servers of the test's own on loopback."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from falconry.endpoint import Endpoint
from falconry.endpoint import transport as proxies
from falconry.errors import EndpointError

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{"text_output": "hi"}'


def signed(request: Any) -> Any:
    request.headers["authorization"] = "Signature test"
    return request


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, with its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


@contextlib.contextmanager
def listening(handle: Any) -> Iterator[int]:
    """The port of a server that handles one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    handle(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def answering(authority: Path) -> Any:
    """Handles a connection with TLS and an answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            received = b""
            while not received.endswith(b"}"):
                received += secure.recv(65536)
            secure.sendall(ANSWER)

    return handle


def tunnel(port: int, heads: list[bytes], refusal: bytes = b"") -> Any:
    """Handles a connection as a proxy does that is asked to connect to a port."""

    def handle(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        heads.append(head)
        if refusal:
            connection.sendall(refusal)
            return
        with socket.create_connection(("127.0.0.1", port)) as server:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(server, connection))
            back.start()
            copy(connection, server)
            back.join(10)

    return handle


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def trusting(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))


def asked(port: int) -> str:
    endpoint = Endpoint(f"https://127.0.0.1:{port}/ocid1.x", signed)
    try:
        return endpoint.answer("hello", 5)
    finally:
        endpoint.close()


@pytest.mark.usefixtures("trusting")
def test_an_authority_that_the_environment_names_is_trusted(authority: Path) -> None:
    with listening(answering(authority)) as port:
        assert asked(port) == "hi"


def test_an_unknown_authority_is_one_sentence(authority: Path) -> None:
    with (
        listening(answering(authority)) as port,
        pytest.raises(EndpointError, match=r"cannot connect .*certificate"),
    ):
        asked(port)


@pytest.mark.usefixtures("trusting")
def test_a_proxy_that_the_environment_names_is_taken(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "_LOOPBACK", frozenset())
    heads: list[bytes] = []
    with listening(answering(authority)) as port, listening(tunnel(port, heads)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://jane:s%40crt@127.0.0.1:{proxy}")
        monkeypatch.setenv("NO_PROXY", "")
        assert asked(port) == "hi"
    (head,) = heads
    assert head.startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())
    assert b"Basic amFuZTpzQGNydA==" in head  # jane:s@crt
    assert b"Signature" not in head


def test_a_proxy_that_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "_LOOPBACK", frozenset())
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    with listening(tunnel(9, [], refusal)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(EndpointError, match="the proxy answers 407"):
            asked(443)


def test_hosts_without_proxy_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", ".oraclecloud.com")
    assert proxies.proxy_for("a.oraclecloud.com") is None
    assert proxies.proxy_for("127.0.0.1") is None
    assert proxies.proxy_for("oci.example") == proxies.Proxy("proxy", 3128, ())
