import pytest

from falconry.errors import ImageError
from falconry.image.preflight.findings import Finding, LayerSize, Preflight, check
from falconry.image.preflight.layers import LayerRecord, Suspicion
from falconry.image.preflight.rules import load_rules
from falconry.image.preflight.suspicions import suspicion_findings


def preflight(*findings):
    return Preflight("falcon:1", "sha256:1", (LayerSize("sha256:2", 30, 10, True),), findings)


def test_an_image_without_problems_is_let_pass():
    check(preflight(Finding("user", "10001")))


def test_all_problems_come_in_one_error_and_each_remedy_once():
    bad = [Finding("user", "none", "it runs as root", "add USER")] * 2
    result = preflight(*bad, Finding("size", "1 GB"), Finding("curl", "none", "no curl", "add it"))
    with pytest.raises(ImageError) as refused:
        check(result)
    assert str(refused.value) == (
        "falcon:1: the image must not be pushed: it runs as root; it runs as root; no curl;"
        " add USER; add it"
    )


def test_very_many_problems_are_counted():
    with pytest.raises(ImageError, match="and 80 more"):
        check(preflight(*[Finding("secret", "x", "a key", "y")] * 100))


def test_sizes_are_summed_and_called_an_estimate_when_one_is():
    known = LayerSize("sha256:3", 5, 4, False)
    result = Preflight("a", "b", (*preflight().layers, known), ())
    assert (result.uncompressed, result.compressed, result.estimated) == (35, 14, True)


def layer(*paths, whiteouts=(), more=0):
    suspicions = tuple(Suspicion(path, "a private key") for path in paths)
    return LayerRecord(1, 1, True, suspicions, more, whiteouts)


def told(*layers):
    return {finding.fact: finding.problem for finding in suspicion_findings(layers, load_rules())}


def test_a_finding_names_layer_path_and_rule():
    assert told(layer(), layer("app/key.pem"))["layer 2: /app/key.pem"] == (
        "layer 2: /app/key.pem (a private key)"
    )


def test_a_file_that_a_later_layer_removes_counts_and_is_said_to_stay():
    found = told(layer("app/key.pem"), layer(), layer(whiteouts=("app/.wh.key.pem",)))
    assert "a later layer removes it, and this one still holds it" in found["layer 1: /app/key.pem"]


def test_a_whiteout_of_an_earlier_layer_removes_nothing():
    found = told(layer(whiteouts=("app/.wh.key.pem",)), layer("app/key.pem"))
    assert "removes" not in found["layer 2: /app/key.pem"]


def test_what_is_more_than_can_be_told_is_still_a_problem():
    assert told(layer("a", more=7))["layer 1"] == "layer 1 holds 7 more such files"


def test_clean_layers_are_said_to_be_clean():
    findings = list(suspicion_findings([layer(), layer()], load_rules()))
    assert [(finding.check, finding.fact) for finding in findings] == [
        ("checkpoint", "none in 2 layers"),
        ("secret", "none in 2 layers"),
    ]


def test_a_hostile_name_cannot_write_on_the_terminal():
    (place, *_) = told(layer("a\x1b[2J\nb\udcff"))
    assert place == "layer 1: /a\\x1b[2J\\nb\\udcff"
