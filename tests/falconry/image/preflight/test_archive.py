import gzip
import hashlib
import json
import tracemalloc

import pytest

from falconry.errors import ImageError
from falconry.image.preflight.archive import examine_archive
from falconry.image.preflight.layers import LayerRecord, examine_layer
from falconry.image.preflight.rules import load_rules
from falconry.image.preflight.scan import Scanner
from falconry.image.preflight.tar import DamagedError
from tests.falconry.image.preflight.saved_images import chunks, digest, legacy, oci, tar

LAYERS = [tar([("base", b"b" * 3000)]), tar([("middle", b"m")]), tar([("top", b"t")])]


def examined(data, layers, wanted=None, seen=None):
    """The digest of each layer's bytes in place of an examination."""
    diff_ids = [digest(layer) for layer in layers]

    def examine(pieces, size, compressed):
        content = b"".join(pieces)
        if seen is not None:
            seen.append(digest(content))
        return LayerRecord(len(content), compressed or 0, False, whiteouts=(digest(content),))

    wanted = set(diff_ids) if wanted is None else wanted
    found = examine_archive(chunks(data), diff_ids, wanted, examine)
    return {diff_id: record.whiteouts[0] for diff_id, record in found.items()}


@pytest.mark.parametrize("save", [legacy, oci])
def test_each_layer_is_examined_as_what_it_is_in_both_layouts(save):
    found = examined(save(LAYERS), LAYERS)
    assert found == {digest(layer): digest(layer) for layer in LAYERS}


def test_a_layer_that_is_a_link_to_another_is_that_one():
    layers = [LAYERS[0], LAYERS[1], LAYERS[0]]
    found = examined(legacy(layers, shared={2}), layers)
    assert found == {digest(layer): digest(layer) for layer in layers}


def test_a_compressed_layer_is_unpacked_and_its_size_is_known():
    blobs = [gzip.compress(layer) for layer in LAYERS]
    # A layer may have several members, as eStargz's do.
    blobs[1] = gzip.compress(LAYERS[1][:700]) + gzip.compress(LAYERS[1][700:])
    diff_ids = [digest(layer) for layer in LAYERS]
    found = examine_archive(
        chunks(oci(LAYERS, blobs=blobs)),
        diff_ids,
        set(diff_ids),
        lambda pieces, size, compressed: LayerRecord(sum(map(len, pieces)), compressed, False),
    )
    assert [found[diff_id].uncompressed for diff_id in diff_ids] == list(map(len, LAYERS))
    assert [found[diff_id].compressed for diff_id in diff_ids] == list(map(len, blobs))


def test_a_layer_compressed_with_zstd_is_refused_and_not_taken_for_empty():
    blob = b"\x28\xb5\x2f\xfd" + bytes(100)
    with pytest.raises(ImageError, match="zstd"):
        examined(oci(LAYERS[:1], blobs=[blob]), LAYERS[:1])


@pytest.mark.parametrize("cut", [10, -10])
def test_a_compressed_layer_that_is_damaged_is_an_error(cut):
    with pytest.raises(DamagedError):
        examined(oci(LAYERS[:1], blobs=[gzip.compress(LAYERS[0])[:cut]]), LAYERS[:1])


def v1_names(layers):
    """The ids of Docker's legacy layout, as 20.10.24 made them for an image of two layers."""
    described = {
        "container_config": {"Hostname": "", "Env": None},
        "created": "1970-01-01T00:00:00Z",
    }
    names, parent, chain = [], None, ""
    for layer in layers:
        chain = digest(f"{chain} {digest(layer)}".encode()) if chain else digest(layer)
        hashed = {**described, "layer_id": chain}
        if parent:
            hashed["parent"] = f"sha256:{parent}"
        text = json.dumps(dict(sorted(hashed.items())), separators=(",", ":"))
        name = hashlib.sha256(text.encode()).hexdigest()
        names.append((name, {"id": name, **({"parent": parent} if parent else {}), **described}))
        parent = name
    return names


def legacy_with_real_names(layers):
    files = []
    for layer, (name, described) in zip(layers, v1_names(layers), strict=True):
        described = json.dumps({**described, "os": "linux"}).encode()
        files += [(f"{name}/json", described), (f"{name}/layer.tar", layer)]
    paths = [name for name, _ in files if name.endswith("layer.tar")]
    manifest = json.dumps([{"Layers": paths}]).encode()
    return tar([*files, ("manifest.json", manifest)])


@pytest.mark.parametrize("save", [oci, legacy_with_real_names])
def test_a_known_layer_is_not_examined_again(save):
    seen = []
    examined(save(LAYERS), LAYERS, wanted={digest(LAYERS[1])}, seen=seen)
    assert seen == [digest(LAYERS[1])]


def test_reading_stops_when_the_wanted_layers_have_been_seen():
    layers = [*LAYERS, tar([("large", bytes(1 << 20))])]
    data = legacy_with_real_names(layers)
    read = []

    def counted():
        for chunk in chunks(data):
            read.append(len(chunk))
            yield chunk

    def examine(pieces, size, compressed):
        return LayerRecord(sum(map(len, pieces)), 0, False)

    examine_archive(counted(), list(map(digest, layers)), {digest(LAYERS[0])}, examine)
    assert sum(read) < 100_000 < len(data)


def test_a_layer_that_is_missing_is_an_error():
    for save in (legacy, oci):
        with pytest.raises(DamagedError, match="2 layers and not 3"):
            examined(save(LAYERS[:2]), LAYERS)
    with pytest.raises(DamagedError, match="lacks 3 of 3 layers"):
        examined(tar([("id/layer.tar", LAYERS[0])]), LAYERS)


@pytest.mark.parametrize("save", [legacy, oci])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.7])
def test_an_archive_that_ends_early_is_an_error_wherever_it_ends(save, kept):
    data = save(LAYERS).rstrip(b"\0")
    with pytest.raises(DamagedError):
        examined(data[: int(len(data) * kept)], LAYERS)


@pytest.mark.parametrize("manifest", [b"[]", b"{}", b"[{}]", b"nothing", b"null"])
def test_a_manifest_that_is_none_is_damage(manifest):
    with pytest.raises(DamagedError, match=r"manifest"):
        examined(tar([("id/layer.tar", LAYERS[0]), ("manifest.json", manifest)]), LAYERS[:1])


def test_a_large_layer_needs_little_memory():
    size = 300 << 20

    def layer():
        header = tar([("weights", b"")])[:512]
        header = bytearray(header)
        header[124:136] = b"%011o\0" % size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        yield bytes(header)
        piece = b"falcon%26d" % 7 * (1 << 15)
        for _ in range(size // len(piece)):
            yield piece
        yield bytes(1024)

    tracemalloc.start()
    scanner = Scanner(load_rules(), ["a secret that is known"])
    record = examine_layer(layer(), size + 1536, None, scanner)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert record.uncompressed == size + 1536
    assert peak < 20 << 20
