"""A way to the Docker engine on which a kind of request stops, so that its client can be killed."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit

import pytest

_PIECE = 65536


@contextlib.contextmanager
def stopping_at(engine, words):
    """Gives a DOCKER_HOST, and an event that is set when a request with these bytes came.

    That request does not reach the engine; all others do, and so do its answers.
    """
    place = urlsplit(engine.host)
    if place.scheme != "unix":
        pytest.skip("the relay knows engines at a socket of this machine alone")
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, place.path, words, came), daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}", came


def _serve(server, path, words, came):
    with contextlib.suppress(OSError):  # closed
        while True:
            client, _ = server.accept()
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(path)
            for source, sink, stop in ((client, engine, words), (engine, client, None)):
                copy = threading.Thread(target=_copy, args=(source, sink, stop, came), daemon=True)
                copy.start()


def _copy(source, sink, stop, came):
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            if stop and stop in piece:
                came.set()
                return
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
