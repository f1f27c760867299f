"""An inference server that keeps the container contract, or breaks it as its variables say.

MUST_WRITE=PATH: it ends if it cannot write there. NEEDS_ROOT, SICK, SAYS=TEXT, EXIT_STATUS=N,
IGNORE_SIGTERM, LISTEN_TO=ADDRESS, ALSO_PORT=N: another port that it listens on.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = Path("/opt/ds/model/deployed_model")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if os.environ.get("SICK") else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def main() -> None:
    ignores = os.environ.get("IGNORE_SIGTERM")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores else lambda *_: os._exit(0))
    if not (MODEL / "weights.txt").read_text():
        sys.exit("the artifact is empty")
    print(os.environ.get("SAYS", "starting"), flush=True)
    for path in os.environ.get("MUST_WRITE", "").split():
        Path(path).write_text("here")
    if os.environ.get("NEEDS_ROOT") and os.getuid() != 0:
        sys.exit("only root may do this")
    if status := os.environ.get("EXIT_STATUS"):
        sys.exit(int(status))
    other = None
    if port := os.environ.get("ALSO_PORT"):
        other = socket.create_server(("0.0.0.0", int(port)))
    address = os.environ.get("LISTEN_TO", "0.0.0.0")
    with ThreadingHTTPServer((address, int(os.environ.get("OWN_PORT", "8000"))), Handler) as server:
        server.serve_forever()
    del other


if __name__ == "__main__":
    main()
