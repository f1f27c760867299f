"""A proxy in front of a registry that fails as it is told, and remembers what it was asked."""

import contextlib
import http.client
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length"}
_HOLD_DEADLINE_S = 60


@dataclass(frozen=True)
class Refusal:
    """An answer as registries give it (distribution, docs/spec/api.md, "Errors")."""

    status: int
    code: str
    message: str = ""

    @property
    def body(self):
        return json.dumps({"errors": [{"code": self.code, "message": self.message}]}).encode()


@dataclass
class Fault:
    """What happens to some requests instead of their being passed on.

    Attributes:
        method, path: which requests; the path is a regular expression.
        refusal: the answer; None for a connection that is cut.
        times: how often.
        held: set when it happens the first time; it then waits for `release`, where that is given.
    """

    method: str
    path: str
    refusal: Refusal | None
    times: int = 1
    release: threading.Event | None = None
    held: threading.Event = field(default_factory=threading.Event)

    def meets(self, method, path):
        return self.times > 0 and method == self.method and re.search(self.path, path) is not None


class RegistryProxy:
    """The proxy; `host` is what images are named after."""

    def __init__(self, upstream):
        self.asked = []
        self._upstream = upstream
        self._faults = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def fail(self, method, path, refusal, times=1):
        """Refuses the next requests of a kind, or cuts their connections for None."""
        self._faults.append(Fault(method, path, refusal, times))

    def hold(self, method, path):
        """Holds the next request of a kind and then cuts it; gives what is set when it came."""
        fault = Fault(method, path, None, release=threading.Event())
        self._faults.append(fault)
        return fault

    def uploads(self):
        """The digests of the blobs that arrived, in their order."""
        found = (
            re.search(r"digest=([^&]+)", path)
            for method, path, status in self.asked
            if method == "PUT" and "/blobs/uploads/" in path and status == 201
        )
        return [match[1].replace("%3A", ":") for match in found]

    def fault_for(self, method, path):
        """The fault that this request meets, which is then used up once more."""
        with self._lock:
            for fault in self._faults:
                if fault.meets(method, path):
                    fault.times -= 1
                    return fault
        return None

    def pass_on(self, method, path, headers, body):
        """The registry's answer: status, headers and body."""
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client; `server.proxy` is the proxy."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        proxy, body = self.server.proxy, self._body()
        fault = proxy.fault_for(self.command, self.path)
        if fault is None:
            status, headers, content = proxy.pass_on(self.command, self.path, self.headers, body)
            length = headers.get("Content-Length", str(len(content)))
            kept = [
                (name, text) for name, text in headers.items() if name.lower() not in _HOP_BY_HOP
            ]
            self._send(status, [*kept, ("Content-Length", length)], content)
        else:
            self._fail(fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *_):
        pass

    def _fail(self, fault):
        fault.held.set()
        if fault.release:
            fault.release.wait(_HOLD_DEADLINE_S)
        if fault.refusal is None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        content = fault.refusal.body
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        self._send(fault.refusal.status, headers.items(), content)

    def _send(self, status, headers, content):
        self.server.proxy.asked.append((self.command, self.path, status))
        self.send_response_only(status)
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)


@contextlib.contextmanager
def proxy_of(registry):
    """A proxy in front of a running registry."""
    proxy = RegistryProxy(registry.host)
    try:
        yield proxy
    finally:
        proxy.close()
