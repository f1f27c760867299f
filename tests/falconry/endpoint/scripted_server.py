"""An inference server for deployments of the tests: it answers as each request tells it to.

A request may hold `status`, `type` (content-type), `chunks` (base64, each a chunk of the answer),
`pause` seconds before each, and `then`: what follows them, "die" or "silence".
It runs inside a deployment, on the standard library alone.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._whole({"path": self.path, "method": "GET"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "chunks" in body:
            self._chunks(body)
        else:
            if seconds := body.get("seconds"):
                time.sleep(seconds)
            self._whole({"path": self.path, "headers": dict(self.headers), "body": body})

    def _chunks(self, wanted: dict[str, object]) -> None:
        self.send_response(int(str(wanted.get("status", 200))))
        self.send_header("content-type", str(wanted.get("type", "text/event-stream")))
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for chunk in wanted["chunks"]:  # type: ignore[attr-defined]
            time.sleep(float(str(wanted.get("pause", 0))))
            content = base64.b64decode(chunk)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            self.wfile.flush()
        if wanted.get("then") == "die":
            os._exit(7)
        if wanted.get("then") == "silence":
            time.sleep(30)
        self.wfile.write(b"0\r\n\r\n")

    def _whole(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


if __name__ == "__main__":
    port = int(os.environ.get("LOCAL_OCI_SERVER_PORT", sys.argv[1]))
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
