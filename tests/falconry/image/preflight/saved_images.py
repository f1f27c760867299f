"""Layers and `docker save` archives made by Python's tarfile, in both layouts of Docker's."""

import hashlib
import io
import json
import tarfile

PIECE = 1 << 20


def tar(files=(), *, format=tarfile.GNU_FORMAT):
    """An archive of (name, content) pairs; content may be bytes, a str for a link, or None."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=format) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return output.getvalue()


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def legacy(layers, *, shared=()):
    """What Docker to 24 saves, with ids of no meaning.

    `shared` holds the numbers of layers that are links to the first one.
    """
    ids = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(len(layers))]
    files = []
    for number, layer in enumerate(layers):
        content = f"../{ids[0]}/layer.tar" if number in shared else layer
        described = json.dumps({"id": ids[number]}).encode()
        files += [
            (f"{ids[number]}/", None),
            (f"{ids[number]}/VERSION", b"1.0"),
            (f"{ids[number]}/json", described),
            (f"{ids[number]}/layer.tar", content),
        ]
    manifest = [{"Config": "config.json", "Layers": [f"{id_}/layer.tar" for id_ in ids]}]
    return tar([*files, ("config.json", b"{}"), ("manifest.json", json.dumps(manifest).encode())])


def oci(layers, *, blobs=None):
    """What Docker from 25 on saves; `blobs` in place of the layers themselves if compressed."""
    blobs = blobs or layers
    names = [f"blobs/sha256/{digest(blob).removeprefix('sha256:')}" for blob in blobs]
    configuration = b'{"architecture": "amd64"}'
    files = dict(zip(names, blobs, strict=True))
    files[f"blobs/sha256/{digest(configuration).removeprefix('sha256:')}"] = configuration
    manifest = json.dumps([{"Config": list(files)[-1], "Layers": names}]).encode()
    return tar(
        [
            ("blobs/", None),
            ("blobs/sha256/", None),
            *sorted(files.items()),
            ("index.json", b"{}"),
            ("manifest.json", manifest),
            ("oci-layout", b"{}"),
        ]
    )


def chunks(data, size=32 << 10):
    """Data as an engine sends it."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
