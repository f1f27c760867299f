"""The fuzzer's part for the local cloud, with a few requests of each kind."""

from __future__ import annotations

from scripts.fuzz import local_cloud

EXAMPLES = 300


def test_a_cloud_answers_any_request_and_fails_at_none() -> None:
    outcome = local_cloud.run(seed=14, examples=EXAMPLES)
    assert not outcome.failures, "\n".join(
        f"{each.surface}: {each.problem}\n{each.example}" for each in outcome.failures
    )
    assert set(outcome.inputs.values()) == {EXAMPLES}
