"""The report of a trial: what it says, and what it never says. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from requests.structures import CaseInsensitiveDict

from falconry.errors import SettingsError
from falconry.prove.answers import Answers
from falconry.prove.report import (
    REPORT,
    REPORT_JSON,
    Record,
    StepResult,
    redact,
    unknown_answers,
    write_report,
)
from falconry.prove.trial import Caps, caps_of, succeeded, trial_settings

RECORD = Record(
    run="falconry-prove-1",
    profile="oci",
    began="2026-11-27T06:00:00Z",
    region="us-ashburn-1",
    shape="VM.Standard.E4.Flex",
    limit_minutes=90,
    cost_limit=None,
    answers={"GET /20190101/models": {"statuses": ["200"], "fields": ["[].id", "[].new"]}},
    ended=True,
)
KNOWN = {"GET /20190101/models": {"statuses": ["200"], "fields": ["[].id", "[].old"]}}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            "ocid1.datasciencemodel.oc1.iad.aaaa and ocid1.datasciencemodel.oc1.iad.bbbb,"
            " ocid1.datasciencemodel.oc1.iad.aaaa",
            "<datasciencemodel 1> and <datasciencemodel 2>, <datasciencemodel 1>",
        ),
        ("ocid1.tenancy.oc1..aaaa_b-c", "<tenancy 1>"),
        ("iad.ocir.io/axabcd/falconry/x:1", "iad.ocir.io/<namespace>/falconry/x:1"),
        (
            "ocir.eu-frankfurt-2.oci.oraclecloud.eu/axabcd/x",
            "ocir.eu-frankfurt-2.oci.oraclecloud.eu/<namespace>/x",
        ),
        ("user jane.doe+x@example.com", "user <mail>"),
        (":".join(["a0"] * 16), "<fingerprint>"),
        ("10.0.0.7 and 127.0.0.1", "<address> and 127.0.0.1"),
        (f"{Path.cwd()}/build", "<project>/build"),
    ],
)
def test_identifiers_of_the_account_and_the_machine_are_replaced(text, clean):
    assert redact(text) == clean


def test_only_what_local_oci_does_not_answer_is_listed():
    assert unknown_answers(KNOWN, KNOWN) == []
    assert unknown_answers(RECORD.answers, KNOWN) == [
        "GET /20190101/models: fields that local_oci does not give: [].new",
        "GET /20190101/models: fields that only local_oci gives: [].old",
    ]
    assert unknown_answers(RECORD.answers, {}) == ["GET /20190101/models: unknown to local_oci"]


def test_a_report_has_rows_for_the_table_and_no_identifier(tmp_path):
    names = ("image", "deploy", "ask", "stream", "update", "roll back", "logs")
    steps = [StepResult(name, 1.0, "done", {"pieces": 3}) for name in names]
    failed = "ocid1.datasciencemodel.oc1..aaaa: refused | by iad.ocir.io/axabcd/x"
    replace(RECORD, steps=[*steps, StepResult("openai", 1.0, failed)]).write(tmp_path)
    removed = [
        {"kind": "model", "name": "m", "id": "ocid1.datasciencemodel.oc1..aaaa", "problem": None},
        {"kind": "log", "name": "l", "id": "ocid1.log.oc1..aaaa", "problem": "refused"},
    ]
    write_report(tmp_path, removed, KNOWN)
    text = (tmp_path / REPORT).read_text()
    found = json.loads((tmp_path / REPORT_JSON).read_text())
    assert "| catalog, artifact, deployment, rollback, logs, invocation | yes, 2026-11-27" in text
    assert "| | on Oracle's cloud |" in text
    assert "| OCIR: repository, login, push | yes, " in text
    assert "| OpenAI's API through the gateway | not shown: openai, " in text
    assert "Removed afterwards: 1 of 2.\n- log <log 1>: refused" in text
    assert "[].new" in text
    for secret in ("ocid1", "axabcd"):
        assert secret not in text + json.dumps(found)
    assert not succeeded(found)


def test_a_trial_that_was_cut_short_did_not_succeed(tmp_path):
    def reported(**changes):
        replace(RECORD, **changes).write(tmp_path)
        write_report(tmp_path, [], KNOWN)
        return json.loads((tmp_path / REPORT_JSON).read_text())

    assert succeeded(reported())
    assert not succeeded(reported(ended=False))
    assert "The trial was cut short." in (tmp_path / REPORT).read_text()
    reported(emulated=True)
    assert "| | local_oci, and so not Oracle's cloud |" in (tmp_path / REPORT).read_text()
    assert not succeeded(reported(steps=[StepResult("deploy", 1, "no capacity")]))


def answer(url, content, status=200, method="GET", **headers):
    text = json.dumps(content)
    given = {"content-type": "application/json", "content-length": str(len(text)), **headers}
    return SimpleNamespace(
        request=SimpleNamespace(url=url, method=method),
        status_code=status,
        headers=CaseInsensitiveDict(given),
        json=lambda: json.loads(text),
    )


def test_answers_are_noted_without_their_values():
    answers = Answers()
    base = "https://datascience.us-ashburn-1.oci.oraclecloud.com/20190101"
    model = {"id": "ocid1.datasciencemodel.oc1..a", "freeformTags": {"secret": "x"}}
    answers(answer(f"{base}/models?compartmentId=ocid1.compartment.oc1..a", [model], Date="now"))
    answers(answer(f"{base}/models/ocid1.datasciencemodel.oc1..a", {"code": "x"}, status=404))
    answers(answer("https://objectstorage/n/axabcd/b/bucket/o/secret", None, method="PUT"))
    answers(answer(f"{base}/models", "no JSON", **{"content-type": "text/plain"}))
    assert answers.facts() == {
        "GET /20190101/models": {
            "fields": ["[].freeformTags", "[].id"],
            "headers": ["content-length", "content-type"],
            "statuses": ["200"],
        },
        "GET /20190101/models/{id}": {
            "fields": ["code"],
            "headers": ["content-length", "content-type"],
            "statuses": ["404"],
        },
        "PUT /n/{}/b/{}/o/{}": {
            "fields": [],
            "headers": ["content-length", "content-type"],
            "statuses": ["200"],
        },
    }


def test_a_limited_cost_limits_the_minutes():
    assert caps_of(0, "") == Caps(90)
    assert caps_of(30, "2.5") == Caps(30, 2.5)
    assert Caps(90).within(None) == Caps(90)
    assert Caps(90, 1.0).within(2.0).minutes == 30
    assert Caps(90, 1.0).within(0.1).minutes == 90
    with pytest.raises(SettingsError, match=r"give PRICES=table\.toml"):
        Caps(90, 1.0).within(None)


@pytest.mark.parametrize("cost", ["much", "-1", "0", "nan", "inf"])
def test_a_cost_is_a_positive_number(cost):
    with pytest.raises(SettingsError, match="is not a positive number"):
        caps_of(0, cost)


@pytest.mark.parametrize("profile", ["local", "oci"])
def test_a_trial_has_names_and_a_model_of_its_own(profile):
    settings = trial_settings(profile, "falconry-prove-1", "deployment.ocpus=4")
    assert settings.deployment.name == settings.cloud.project == "falconry-prove-1"
    assert settings.cloud.log_group == settings.cloud.log == "falconry-prove-1"
    registry = settings.image.registry
    assert (registry.prefix, registry.host) == ("falconry-prove-1", None)
    assert settings.cloud.tags == ("falconry-prove=falconry-prove-1",)
    assert (settings.engine.builder, settings.engine.mirror) == ("openvino", None)
    assert (settings.deployment.shape, settings.deployment.ocpus) == ("VM.Standard.E4.Flex", 4)
    assert settings.build_directory == Path(f"build/{profile}-prove")
    assert settings.image.base
