import json

import pytest

from falconry.image.preflight import records
from falconry.image.preflight.layers import LayerRecord, Suspicion
from falconry.image.preflight.records import LayerRecords

RECORD = LayerRecord(3, 2, True, (Suspicion("a/b", "a private key"),), 1, ("a/.wh.c",))
SECRET = "kT9)q[Wd}s2;Xv"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records" / "layers.json"


def saved(path, *secrets):
    known = LayerRecords(path)
    known.remember("sha256:1", RECORD, secrets)
    known.remember_run("sha256:image")
    known.save()
    return LayerRecords(path)


def test_a_later_run_knows_what_an_earlier_one_learned(path):
    known = saved(path)
    assert known.layer("sha256:1", []) == RECORD
    assert known.layer("sha256:2", []) is None
    assert known.ran_well("sha256:image")
    assert not known.ran_well("sha256:other")


def test_a_layer_is_not_known_for_a_secret_that_was_not_looked_for(path):
    known = saved(path, SECRET)
    assert known.layer("sha256:1", [SECRET]) == RECORD
    assert known.layer("sha256:1", []) == RECORD
    assert known.layer("sha256:1", [SECRET, "another secret"]) is None


def test_the_file_gives_no_secret_away(path):
    saved(path, SECRET)
    assert SECRET not in path.read_text()
    other = path.with_name("other.json")
    saved(other, SECRET)
    stored = [json.loads(file.read_text())["layers"]["sha256:1"] for file in (path, other)]
    hashes = [layer["searched"] for layer in stored]
    assert hashes[0] != hashes[1]  # salted


def test_other_rules_make_every_layer_unknown(path, tmp_path, monkeypatch):
    saved(path)
    rules = tmp_path / "rules.toml"
    rules.write_text("# other rules\n")
    monkeypatch.setattr(records, "RULES", rules)
    assert LayerRecords(path).layer("sha256:1", []) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"version": 1}'])
def test_a_damaged_file_is_as_good_as_none(path, damage):
    saved(path)
    path.write_text(damage)
    assert LayerRecords(path).layer("sha256:1", []) is None
    assert saved(path).layer("sha256:1", []) == RECORD


def test_damaged_layers_in_a_whole_file_are_as_good_as_none(path):
    saved(path)
    stored = json.loads(path.read_text())
    del stored["layers"]["sha256:1"]["record"]["whiteouts"]
    path.write_text(json.dumps(stored))
    assert LayerRecords(path).layer("sha256:1", []) is None


def test_nothing_is_written_when_nothing_was_learned(path):
    LayerRecords(path).save()
    assert not path.exists()
