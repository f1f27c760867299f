"""What the front makes of Content-Encoding and Accept-Encoding."""

import gzip
import importlib
import zlib

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.docker.front_support import front_module

TEXT = b'{"text_input": "Explain Cloud Computing"}' * 20
BARE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
RAW_DEFLATE = BARE.compress(TEXT) + BARE.flush()


@pytest.fixture(scope="module")
def compression():
    return front_module("compression")


def decoded(compression, encoding, body, size=7):
    decoder = compression.Decoder(encoding)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    content = b"".join(piece for part in parts for piece in decoder.decode(part))
    decoder.finish()
    return content


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT),
        (" Identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("X-GZIP", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", RAW_DEFLATE),
    ],
    ids=["none", "identity", "gzip", "x-gzip", "members", "deflate", "bare"],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_body_is_decoded_however_it_arrives(compression, encoding, body, size):
    assert decoded(compression, encoding, body, size) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", TEXT),
        ("deflate", TEXT),
        ("gzip", b""),
        ("gzip", gzip.compress(TEXT)[:-9]),
        ("gzip", gzip.compress(TEXT) + b"more"),
        ("gzip", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT) + b"more"),
        ("deflate", gzip.compress(TEXT)),
        ("gzip", gzip.compress(b"x") * 65),
        ("br", TEXT),
        ("zstd", TEXT),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
    ],
    ids=[
        *("plain-gzip", "plain-deflate", "empty", "cut", "rest", "zlib", "rest-deflate"),
        *("gzip-deflate", "members", "br", "zstd", "twice"),
    ],
)
def test_what_cannot_be_decoded_is_400(compression, encoding, body):
    with pytest.raises(importlib.import_module("errors").ApiError) as refused:
        decoded(compression, encoding, body)
    assert refused.value.status == 400
    assert "Content-Encoding" in str(refused.value)


def test_what_unpacks_to_much_comes_in_small_pieces(compression):
    pieces = compression.Decoder("gzip").decode(gzip.compress(bytes(20 << 20)))
    sizes = [len(next(pieces)) for _ in range(4)]
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", None),
        ("identity", None),
        ("*", None),
        ("br", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip;q=1.0", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        ("identity;q=0.5, gzip;q=0.2", None),
    ],
)
def test_the_client_chooses_the_coding_of_answers_as_with_triton(compression, accepted, expected):
    assert compression.chosen_encoding(accepted) == expected


@pytest.mark.parametrize(("status", "is_encoded"), [(200, True), (400, False), (503, False)])
def test_errors_stay_as_they_are_since_tritonclient_does_not_decode_them(
    compression, status, is_encoded
):
    request = make_mocked_request("POST", "/", headers={"Accept-Encoding": "gzip"})
    response = web.Response(status=status)
    sent = compression.encode_answer(request, response, TEXT)
    assert (response.headers.get("Content-Encoding") == "gzip") is is_encoded
    assert (gzip.decompress(sent) if is_encoded else sent) == TEXT
