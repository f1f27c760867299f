"""A stand-in for the Hugging Face hub: what huggingface_hub 1.33 requests, on loopback.

Paths and headers are those that its `hf_api.py` and `file_download.py` send and read.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPOSITORY = "tiny/falcon"
REVISION = "0123456789abcdef0123456789abcdef01234567"


class HubStandIn:
    """One repository at one commit; files whose name ends in `.safetensors` are kept in LFS.

    Attributes:
        files: content by name.
        corrupt: content that is sent in a file's place, of the same length.
        cut_after: bytes of a file's content after which its connection is cut, once.
        refusal: status and `X-Error-Code` of every answer below `refused_path`.
        requests: method, path and headers of what was asked.
    """

    def __init__(self, files):
        self.files = dict(files)
        self.corrupt = {}
        self.cut_after = {}
        self.refusal = None
        self.refused_path = "/"
        self.requests = []
        stand_in = self

        class Handler(_Handler):
            hub = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def asked(self, method, name):
        """The headers of each request for a file's content."""
        path = f"/{REPOSITORY}/resolve/{REVISION}/{name}"
        return [
            headers for verb, asked, headers in self.requests if (verb, asked) == (method, path)
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def log_message(self, *arguments):
        pass

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, dict(self.headers)))
        if self.hub.refusal and path.startswith(self.hub.refused_path):
            status, code = self.hub.refusal
            self._send(status, b"{}", {"X-Error-Code": code} if code else {})
        elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            self._tree(path.rpartition("/")[2])
        elif path.startswith(f"/{REPOSITORY}/resolve/"):
            self._resolve(*path.removeprefix(f"/{REPOSITORY}/resolve/").split("/", 1))
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _tree(self, revision):
        if revision != REVISION:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        entries = []
        for name, content in self.hub.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"type": "file", "path": name, "size": len(content), "oid": blob}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
            entries.append(entry)
        self._send(200, json.dumps(entries).encode())

    def _resolve(self, revision, name):
        if revision != REVISION or name not in self.hub.files:
            code = "EntryNotFound" if revision == REVISION else "RevisionNotFound"
            self._send(404, b"", {"X-Error-Code": code})
            return
        content = self.hub.files[name]
        headers = {
            "X-Repo-Commit": revision,
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        sent, status = self.hub.corrupt.get(name, content), 200
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            sent, status = sent[start:], 206
        cut = self.hub.cut_after.pop(name, None) if self.command == "GET" else None
        self._send(status, sent, headers, cut)

    def _send(self, status, content, headers=None, cut=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True
