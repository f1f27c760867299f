from falconry.image.limits import load_limits
from falconry.image.preflight.findings import LayerSize
from falconry.image.preflight.sizes import size_findings

GB = 10**9


def layers(*sizes, estimated=False):
    return [LayerSize(f"sha256:{n}", 3 * size, size, estimated) for n, size in enumerate(sizes)]


def findings(sizes, **limits):
    found = size_findings(sizes, load_limits().model_copy(update=limits))
    return {finding.check: finding for finding in found}


def test_oracles_limits_are_those_of_its_document():
    # docs.oracle.com, data-science/using/tshoot-model-deploy-byoc.htm
    assert load_limits().compressed_bytes == 16 * GB
    assert load_limits().pull_minutes == 20


def test_an_image_at_the_limit_is_taken_with_its_numbers_told():
    found = findings(layers(10 * GB, 6 * GB))
    assert all(finding.ok for finding in found.values())
    assert found["size"].fact == "16.0 GB compressed, 48.0 GB unpacked"
    assert found["pull time"].fact.startswith("6.7 minutes at 40.0 MB a second")
    assert found["layers"].fact == "2 of 125 layers"


def test_an_image_between_the_two_readings_of_the_limit_is_warned_of_with_the_row_to_take():
    size = findings(layers(9 * GB, 7_210_000_000))["size"]
    assert size.ok
    assert "the deployment may be refused" in size.warning
    assert "engine.toolchain 26.07 (14.2 GB)" in size.remedy
    assert not findings(layers(16 << 30))["size"].problem
    assert findings(layers((16 << 30) + 1))["size"].problem


def test_a_larger_image_is_a_problem_with_the_numbers_and_the_largest_layers():
    found = findings(layers(1 * GB, 9 * GB, 2 * GB, 8 * GB, estimated=True))
    assert found["size"].problem == (
        "it has about 20.0 GB compressed, and OCI takes 16.0 GB; its largest are"
        " layer 2 with 9.0 GB, layer 4 with 8.0 GB, layer 3 with 2.0 GB"
    )


def test_a_pull_that_takes_too_long_is_a_problem():
    found = findings(layers(15 * GB), pull_bytes_per_second=10_000_000)
    assert "25.0 minutes" in found["pull time"].problem
    assert "20 minutes" in found["pull time"].problem


def test_more_layers_than_docker_stacks_are_a_problem():
    # moby/moby, layer/layer_store.go: maxLayerDepth = 125
    assert findings(layers(*[1] * 125))["layers"].ok
    assert "126 layers" in findings(layers(*[1] * 126))["layers"].problem
