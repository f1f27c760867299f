"""The inference server of the tests' images: answers, streams and misbehaves on demand.

It runs inside a deployment, on the standard library alone. Its behaviour is chosen by environment
variables at the start and by paths and bodies afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = Path(os.environ.get("MODEL_DIRECTORY", "/opt/ds/model/deployed_model"))

SICK = threading.Event()
if os.environ.get("SICK"):
    SICK.set()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path in ("/health", "/v2/health/ready"):
            self._reply(503 if SICK.is_set() else 200, {})
        else:
            self._echo(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        print(f"asked for {self.path}", flush=True)
        if self.path.endswith("stream"):
            self._stream(json.loads(body))
        elif self.path == "/teapot":
            self._reply(418, {"error": "short and stout"})
        elif self.path == "/slow":
            time.sleep(json.loads(body)["seconds"])
            self._reply(200, {})
        elif self.path == "/write":
            self._write()
        elif self.path == "/sicken":
            SICK.set()
            self._reply(200, {})
        elif self.path == "/die":
            os._exit(7)
        else:
            self._echo(body)

    def _echo(self, body: bytes) -> None:
        self._reply(
            200,
            {
                "path": self.path,
                "body": body.decode(),
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "environment": dict(os.environ),
                "files": sorted(str(p.relative_to(MODEL)) for p in MODEL.rglob("*")),
                "uid": os.getuid(),
                "pid": os.getpid(),
            },
        )

    def _stream(self, wanted: dict[str, object]) -> None:
        """Send `parts` events, as `type`; then end, die, or fall silent, as `then` says."""
        self.send_response(200)
        self.send_header("content-type", str(wanted.get("type", "text/event-stream")))
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(int(str(wanted.get("parts", 3)))):
            event = f"data: {number}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(float(str(wanted.get("pause", 0))))
        if wanted.get("then") == "die":
            os._exit(7)
        if wanted.get("then") == "silence":
            time.sleep(30)
        self.wfile.write(b"0\r\n\r\n")

    def _write(self) -> None:
        """Try to write beside the model, in /tmp and in /dev/shm."""
        outcome = {}
        for directory in (MODEL, Path("/tmp"), Path("/dev/shm")):
            path = directory / f"written-by-{os.environ['MODEL_DEPLOYMENT_OCID'][-8:]}"
            try:
                path.write_text("here")
                path.unlink()
                outcome[str(directory)] = "written"
            except OSError as error:
                outcome[str(directory)] = type(error).__name__
        self._reply(200, outcome)

    def _reply(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-from-container", "yes")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def main() -> None:
    port = int(os.environ.get("LOCAL_OCI_SERVER_PORT", sys.argv[1]))
    print("about to start", flush=True)
    if text := os.environ.get("EXIT_EARLY"):
        print("the engine file is damaged", file=sys.stderr, flush=True)
        sys.exit(int(text))
    if os.environ.get("LEAVE_CHILD"):
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    # Process 1 of a container ignores signals that it has no handler for.
    ignores = os.environ.get("IGNORE_SIGTERM")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores else lambda *_: os._exit(0))
    time.sleep(float(os.environ.get("START_SECONDS", "0")))
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    ThreadingHTTPServer((address, port), Handler).serve_forever()


if __name__ == "__main__":
    main()
