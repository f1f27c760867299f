from falconry.image.image_checks import ImageSize, size_findings
from falconry.oci_facts import load_limits

GB = 10**9


def findings(*, base=0, own, layers=3, **limits):
    found = size_findings(
        ImageSize(own, base, layers), load_limits().image.model_copy(update=limits)
    )
    return {finding.check: finding for finding in found}


def test_oracles_limits_are_those_of_its_document():
    # docs.oracle.com, data-science/using/tshoot-model-deploy-byoc.htm
    assert load_limits().image.compressed_bytes == 16 * GB
    assert load_limits().image.pull_minutes == 20


def test_an_image_at_the_limit_is_taken_with_its_numbers():
    found = findings(base=15 * GB, own=1 * GB, layers=2)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["size"].text == (
        "at most 16.0 GB compressed (15.0 GB of its base, 1.0 GB unpacked of its own)"
    )
    assert found["pull time"].text.startswith("at most 6.7 minutes at 40.0 MB a second")
    assert found["layers"].text == "2 of 125 layers"


def test_an_image_between_the_two_readings_of_the_limit_is_warned_of_with_the_row_to_take():
    size = findings(base=16_200_000_000, own=100_000_000)["size"]
    assert size.state == "warning"
    assert "up to 16.3 GB compressed" in size.text
    assert "the deployment may be refused" in size.text
    assert "engine.toolchain 26.07 (14.2 GB)" in size.remedy
    assert findings(base=16 << 30, own=0)["size"].state == "warning"
    assert findings(base=(16 << 30) + 1, own=0)["size"].state == "failed"


def test_a_base_beyond_the_limit_is_a_failure_with_the_numbers():
    size = findings(base=20 * GB, own=1 * GB)["size"]
    assert size.state == "failed"
    assert size.text == "it has more than OCI's 16.0 GB compressed: 20.0 GB of its base"
    assert "a smaller base image" in size.remedy


def test_what_is_known_only_unpacked_may_be_smaller_and_is_warned_of():
    size = findings(own=30 * GB)["size"]
    assert size.state == "warning"
    assert "up to 30.0 GB compressed (30.0 GB unpacked)" in size.text
    assert findings(own=30 * GB, pull_bytes_per_second=1)["pull time"].state == "ok"


def test_a_base_that_takes_too_long_to_pull_is_a_failure():
    found = findings(base=15 * GB, own=0, pull_bytes_per_second=10_000_000)
    assert found["pull time"].state == "failed"
    assert "25.0 minutes" in found["pull time"].text
    assert "20 minutes" in found["pull time"].text


def test_more_layers_than_docker_stacks_are_a_failure():
    # moby/moby, layer/layer_store.go: maxLayerDepth = 125
    assert findings(own=1, layers=125)["layers"].state == "ok"
    assert "126 layers" in findings(own=1, layers=126)["layers"].text
    assert findings(own=1, layers=126)["layers"].state == "failed"
