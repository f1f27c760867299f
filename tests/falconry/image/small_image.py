"""Small images for the engine: this machine's shell, `id` and `rm`, and two stand-ins."""

import contextlib
import functools
import io
import re
import secrets
import subprocess
import tarfile
from pathlib import Path

import docker

_PROGRAMS = ("/bin/sh", "/bin/rm", "/usr/bin/id")
# STAND-IN: no curl, but says what one would.
_CURL = b'#!/bin/sh\necho "curl 0.0.0 (stand-in)"\n'
# STAND-IN: no Python, but says what falconry/image/installed.py would print.
_PYTHON = b"""#!/bin/sh
echo '{"distribution": {"name": "debian", "version": "12"}, "debian": [{"name": "libc6",\
 "version": "2.36-9", "architecture": "amd64", "licences": ["GPL-2+", "LGPL-2.1"]}],\
 "python": [{"name": "aiohttp", "version": "3.14.5", "licences": ["Apache-2.0 AND MIT"]}]}'
"""


class SmallImages:
    """Builds images on a base of its own, and removes them all."""

    def __init__(self, client):
        self._client = client
        self._base = f"falconry-test/preflight-base:{secrets.token_hex(4)}"
        self._built = []
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w") as archive:
            for path in _base_files():
                _add(archive, path.lstrip("/"), Path(path).read_bytes(), mode=0o755)
            _add(archive, "usr/bin/curl", _CURL, mode=0o755)
            _add(archive, "opt/falconry/venv/bin/python", _PYTHON, mode=0o755)
        repository, _, tag = self._base.partition(":")
        client.api.import_image_from_data(
            output.getvalue(), repository, tag, changes=["ENV PATH=/bin:/usr/bin"]
        )

    def build(self, dockerfile, files=(), base=None, **options):
        """Builds an image from a Dockerfile's text and (name, content) pairs; gives its id."""
        context = io.BytesIO()
        whole = f"FROM {base or self._base}\n{dockerfile}".encode()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, content in [("Dockerfile", whole), *files]:
                _add(archive, name, content)
        context.seek(0)
        events = self._client.api.build(
            fileobj=context,
            custom_context=True,
            rm=True,
            forcerm=True,
            network_mode="none",
            decode=True,
            **options,
        )
        told = list(events)
        for event in told:
            assert "error" not in event, event
        self._built.append(next(event["aux"]["ID"] for event in told if "aux" in event))
        return self._built[-1]

    def remove(self):
        for image in [*reversed(self._built), self._base]:
            with contextlib.suppress(docker.errors.ImageNotFound):
                self._client.images.remove(image, force=True)


@functools.cache
def _base_files():
    """The programs and the libraries that `ldd` names, the loader's among them."""
    said = subprocess.run(["ldd", *_PROGRAMS], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {*_PROGRAMS, *re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said, re.MULTILINE)}


def _add(archive, name, content, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
