"""A short soak in the suite; `make soak` is the long one. And that it can fail."""

from collections import Counter
from dataclasses import replace

import pytest

from scripts.soak.exchange import References, WrongError
from scripts.soak.load import CHECKPOINT, EXCHANGES, Tally
from scripts.soak.soak import CONCURRENCY, MORE_FILES, Holdings, Soaked, soak


@pytest.mark.long  # in test_front_model.py and test_openai_serving.py 200 are answered right
def test_200_mixed_requests_at_a_time_are_answered_right_and_leave_nothing(
    make_repository, tmp_path
):
    phases = []
    soaked = soak(make_repository(), tmp_path, 6, lambda *told: phases.append(told))
    assert soaked.faults() == []
    assert soaked.free_slots == soaked.slots == 16
    assert soaked.tally.requests >= CONCURRENCY
    asked = {each.name for each in EXCHANGES}
    assert set(soaked.tally.ended) == asked
    assert phases[-1][0] == "load"
    streamed = sum(soaked.tally.ended[each.name] for each in EXCHANGES if "stream" in each.name)
    assert 0 < len(soaked.tally.first_token_s) <= streamed
    assert soaked.generated > soaked.tally.requests


HELD = Holdings(memory_mib=200.0, threads=200, files=100, processes=6)
GOOD = Soaked(
    Tally(seconds=2.0, ended=Counter(chat=3), first_token_s=[0.3, 0.1, 0.2]),
    generated=120,
    before=HELD,
    after=HELD,
    busy=[],
    slots=16,
    free_slots=16,
)


@pytest.mark.parametrize(
    ("soaked", "fault"),
    [
        (replace(GOOD, after=replace(HELD, memory_mib=221)), "memory_mib: 200 before the load"),
        (replace(GOOD, after=replace(HELD, files=101 + MORE_FILES)), "files: 100 before"),
        (replace(GOOD, after=replace(HELD, threads=300)), "threads: 200 before"),
        (replace(GOOD, after=replace(HELD, processes=7)), "processes: 6 before"),
        (replace(GOOD, free_slots=15), "15 of the engine's 16 slots are free"),
        (replace(GOOD, busy=["x is 1"]), "after the load x is 1"),
        (replace(GOOD, tally=Tally(wrong=["chat: no"], wrong_count=1)), "chat: no"),
        (replace(GOOD, tally=Tally(wrong=["a"], wrong_count=8)), "7 more wrong answers"),
    ],
)
def test_what_is_kept_or_wrong_is_a_fault(soaked, fault):
    assert GOOD.faults() == []
    assert any(each.startswith(fault) for each in soaked.faults())


def test_the_report_has_the_speed_and_the_time_to_the_first_text():
    speed = "60 tokens/s generated; first text after 0.20 s (median), 0.30 s (99 %)"
    assert speed in GOOD.report().splitlines()


def test_without_streams_there_is_no_time_to_a_first_text():
    tally = Tally(seconds=2.0, ended=Counter(generate=3))
    assert "60 tokens/s generated; no stream had any text" in replace(GOOD, tally=tally).report()


def test_a_tally_comes_through_as_it_was():
    tally = Tally(1.5, Counter({"chat": 3}), ["no"], 1, [0.25])
    assert Tally.from_json(tally.to_json()) == tally


def test_an_answer_is_right_only_as_transformers_gave_it(sentences):
    references = References(CHECKPOINT)
    prompt, answer = next(iter(sentences.items()))
    references.require(prompt, answer)
    assert answer.startswith(references.answer(prompt, 3))
    for wrong in (answer[:-1], answer + " ", ""):
        with pytest.raises(WrongError):
            references.require(prompt, wrong)
    with pytest.raises(WrongError):
        references.require_begun(prompt, "something else")
