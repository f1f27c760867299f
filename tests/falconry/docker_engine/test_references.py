"""How references are read; the cases are those of distribution/reference's own tests."""

import pytest

from falconry.docker_engine.images import ImageReference

DIGEST = f"sha256:{64 * 'a'}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("ubuntu", "", "ubuntu", None, None),
        ("dmcgowan/myapp:1", "", "dmcgowan/myapp", "1", None),
        ("localhost/myapp", "localhost", "myapp", None, None),
        ("127.0.0.1:5000/a/b:1.0", "127.0.0.1:5000", "a/b", "1.0", None),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000", "a/b", None, None),
        (f"iad.ocir.io/ns/a/b@{DIGEST}", "iad.ocir.io", "ns/a/b", None, DIGEST),
        (f"iad.ocir.io/ns/a/b:2@{DIGEST}", "iad.ocir.io", "ns/a/b", "2", DIGEST),
    ],
)
def test_a_reference_is_taken_apart_and_put_together(text, registry, repository, tag, digest):
    reference = ImageReference.parse(text)
    assert reference == ImageReference(registry, repository, tag, digest)
    assert str(reference) == text


def test_a_digest_decides_over_a_tag():
    assert ImageReference.parse(f"a:1@{DIGEST}").version == DIGEST
    assert ImageReference.parse("a:1").version == "1"
    assert ImageReference.parse("a").version == "latest"
