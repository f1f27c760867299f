"""Stands in for Triton inside the tests' deployments; a file of the model says how it behaves.

`model_repository/behaviour` holds a word: anything that is no word below is what it answers with.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = Path(os.environ.get("MODEL_DIRECTORY", "/opt/ds/model/deployed_model"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour = ""

    def do_GET(self):
        sick = self.behaviour == "sick"
        self._reply(503 if sick else 200, {"path": self.path})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        print("asked", flush=True)
        if self.behaviour == "mute":
            self._reply(500, {"error": "the model cannot answer"})
        else:
            # Long enough that a question is always under way when the container is replaced.
            time.sleep(float(os.environ.get("ANSWER_SECONDS", "0.02")))
            self._reply(200, {"text_output": self.behaviour, "path": self.path})

    def _reply(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    port = int(os.environ.get("LOCAL_OCI_SERVER_PORT", sys.argv[1]))
    # In plain isolation the path in the command is replaced by the unpacked directory.
    words = [word for word in sys.argv if word.startswith("--model-repository=")]
    repository = Path(words[0].partition("=")[2]) if words else MODEL / "model_repository"
    Handler.behaviour = (repository / "behaviour").read_text().strip()
    print(f"loading {Handler.behaviour}", flush=True)
    if Handler.behaviour == "exit":
        print("deserialization failed: the engine is for another GPU", file=sys.stderr, flush=True)
        sys.exit(3)
    while "START_WITH_FILE" in os.environ and not Path(os.environ["START_WITH_FILE"]).exists():
        time.sleep(0.02)
    address = os.environ.get("LISTEN_ADDRESS", "127.0.0.1")
    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    # The first process of a container ignores what it has not asked for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
