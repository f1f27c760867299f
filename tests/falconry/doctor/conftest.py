"""Subjects to examine: the shipped profiles, with what a test changes of them."""

import http.server
import socket
import threading
from pathlib import Path

import pytest

from falconry.doctor.subject import Subject
from falconry.settings import load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def subject():
    """Makes a subject of a shipped profile: the local one needs no containers, oci's does."""

    def make(profile="local", *, overrides=None, **changes):
        values = {
            "settings": load_settings(ROOT, profile, overrides=overrides),
            "base_images": ("falconry-base:bookworm",),
            "containers": profile == "oci",
            "registry": lambda: None,
        }
        return Subject(**{**values, **changes})

    return make


@pytest.fixture
def no_engine(monkeypatch):
    """No Docker engine answers."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


@pytest.fixture
def engine_host(docker_engine, monkeypatch):
    """A real Docker engine answers, where DOCKER_HOST says."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    return docker_engine.host


@pytest.fixture(scope="session")
def closed_port():
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def registry_host(open_registry):
    """A real registry without password, as `127.0.0.1:<port>`."""
    return open_registry.host


@pytest.fixture
def server():
    """Starts HTTP servers that give one answer to every request; gives their host and port."""
    running = []

    def start(status=200, headers=(), tls=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

            def log_message(self, *_):
                pass

        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            made.socket = tls.wrap_socket(made.socket, server_side=True)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        running.append(made)
        return f"127.0.0.1:{made.server_address[1]}"

    yield start
    for made in running:
        made.shutdown()
        made.server_close()
