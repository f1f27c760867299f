"""The archive that `docker save` writes, read as a stream: which of its entries is which layer.

Up to Docker 24 a layer is `<id>/layer.tar`, beside `<id>/json`; from 25 on it is
`blobs/sha256/<hex>`, named by what it is, and compressed already if the engine keeps its images in
containerd (moby/moby, image/tarexport/save.go). manifest.json, near the end, lists them in order.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

from falconry.errors import ImageError
from falconry.image.preflight.layers import LayerRecord
from falconry.image.preflight.tar import PIECE, ByteSource, DamagedError, Entry, Kind, entries

# pieces of the uncompressed layer, its size or 0, its compressed size if known
Examine = Callable[[Iterator[bytes], int, int | None], LayerRecord]

_BLOBS = "blobs/"
_LAYER = "/layer.tar"
_MANIFEST = "manifest.json"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LARGEST_JSON = 4 << 20


def examine_archive(
    chunks: Iterator[bytes], diff_ids: Sequence[str], wanted: Set[str], examine: Examine
) -> dict[str, LayerRecord]:
    """Examines layers of a saved image; stops reading when it has them all.

    Args:
        chunks: the archive.
        diff_ids: of the image's layers, lowest first.
        wanted: those to examine.
        examine: called for each of them, and for those whose identity is not known in time.

    Returns:
        What `examine` returned, by diff_id; all of `wanted`.

    Raises:
        DamagedError: the archive cannot be read or lacks a layer.
        ImageError: a layer is compressed in a way that is not read here.
    """
    archive = _Archive(diff_ids, wanted, examine)
    for entry in entries(ByteSource(chunks)):
        archive.take(entry)
        if archive.found.keys() >= wanted:
            break
    archive.place_unidentified()
    if missing := wanted - archive.found.keys():
        raise DamagedError(f"it lacks {len(missing)} of {len(diff_ids)} layers")
    return archive.found


class _Archive:
    def __init__(self, diff_ids: Sequence[str], wanted: Set[str], examine: Examine) -> None:
        self.found: dict[str, LayerRecord] = {}
        self._diff_ids = diff_ids
        self._wanted = wanted
        self._examine = examine
        self._names = _LayerNames(diff_ids)
        self._unidentified: dict[str, LayerRecord] = {}
        self._links: dict[str, str] = {}
        self._order: Sequence[str] = ()

    def take(self, entry: Entry) -> None:
        path = posixpath.normpath(entry.path)
        if entry.kind is Kind.SYMBOLIC_LINK:
            self._links[path] = posixpath.normpath(posixpath.join(path, "..", entry.target))
        elif entry.kind is not Kind.FILE:
            return
        elif path == _MANIFEST:
            self._order = _layers_of(_json(entry))
        elif path.endswith("/json"):
            self._names.learn(posixpath.dirname(path), _json(entry))
        elif path.endswith(_LAYER) or (path.startswith(_BLOBS) and entry.peek(1) != b"{"):
            self._take_layer(path, entry)

    def place_unidentified(self) -> None:
        """Gives the layers that only the manifest identifies their places."""
        if self._order and len(self._order) != len(self._diff_ids):
            raise DamagedError(f"it has {len(self._order)} layers and not {len(self._diff_ids)}")
        for diff_id, path in zip(self._diff_ids, self._order, strict=False):
            path = posixpath.normpath(path)
            record = self._unidentified.get(self._links.get(path, path))
            if record is not None:
                self.found.setdefault(diff_id, record)

    def _take_layer(self, path: str, entry: Entry) -> None:
        diff_id = self._names.diff_id(path)
        if diff_id in self.found or (diff_id is not None and diff_id not in self._wanted):
            return
        record = self._examine_entry(entry)
        if diff_id is None:
            self._unidentified[path] = record
        else:
            self.found[diff_id] = record

    def _examine_entry(self, entry: Entry) -> LayerRecord:
        start = entry.peek(len(_ZSTD))
        if start == _ZSTD:
            raise ImageError(
                "a layer is compressed with zstd, which cannot be looked into here",
                remedy="build the image with gzip's compression, Docker's default",
            )
        if start.startswith(_GZIP):
            return self._examine(_unzipped(entry), 0, entry.size)
        return self._examine(entry.pieces(), entry.size, None)


class _LayerNames:
    """Which layer an entry's name means, as far as that can be told before the manifest comes."""

    def __init__(self, diff_ids: Sequence[str]) -> None:
        self._named = {_BLOBS + diff_id.replace(":", "/"): diff_id for diff_id in diff_ids}
        self._chains = _chain_ids(diff_ids)

    def diff_id(self, path: str) -> str | None:
        return self._named.get(path)

    def learn(self, directory: str, described: Mapping[str, Any]) -> None:
        """Takes in `<id>/json`: the id is the digest of it together with the layer's chain id.

        Source: moby/moby, image/v1/imagev1.go, CreateID; the system is added after it. Go writes
        some characters of commands differently, so the uppermost layer may stay unidentified.
        """
        for chain_id, diff_id in self._chains.items():
            if directory in (_v1_id(described, chain_id, os) for os in (False, True)):
                self._named[directory + _LAYER] = diff_id


def _chain_ids(diff_ids: Sequence[str]) -> dict[str, str]:
    """The diff_ids by chain id (opencontainers/image-spec, config.md, Layer ChainID)."""
    chains: dict[str, str] = {}
    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{_sha256(f'{chain} {diff_id}')}" if chain else diff_id
        chains[chain] = diff_id
    return chains


def _v1_id(described: Mapping[str, Any], chain_id: str, with_os: bool) -> str:
    left_out = {"id"} if with_os else {"id", "os"}
    fields = {name: value for name, value in described.items() if name not in left_out}
    fields["layer_id"] = chain_id
    if "parent" in fields:
        fields["parent"] = f"sha256:{fields['parent']}"
    # Not canonical JSON: only the first level is sorted.
    ordered = {name: fields[name] for name in sorted(fields)}
    return _sha256(json.dumps(ordered, separators=(",", ":"), ensure_ascii=False))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _unzipped(entry: Entry) -> Iterator[bytes]:
    """A compressed layer's bytes, never more than a piece at once; it may have several members."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for piece in entry.pieces():
            rest = piece
            while rest:
                if inflate.eof:
                    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
                yield inflate.decompress(rest, PIECE)
                rest = inflate.unconsumed_tail or inflate.unused_data
    except zlib.error:
        raise DamagedError("a layer's compression is damaged") from None
    if not inflate.eof:
        raise DamagedError("a layer's compression ends early")


def _json(entry: Entry) -> Any:
    if entry.size > _LARGEST_JSON:
        raise DamagedError(f"its {posixpath.basename(entry.path)} has {entry.size} bytes")
    try:
        return json.loads(b"".join(entry.pieces()))
    except ValueError:
        raise DamagedError(f"its {posixpath.basename(entry.path)} is no JSON") from None


def _layers_of(manifest: Any) -> Sequence[str]:
    try:
        return [str(path) for path in manifest[0]["Layers"]]
    except (LookupError, TypeError):
        raise DamagedError("its manifest lists no layers") from None
