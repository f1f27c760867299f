"""What a new engine is asked, what its answers are compared with, and what is made of them."""

import json
from pathlib import Path

import pytest

from falconry.digests import DigestCache
from falconry.engine.tensorrt_llm import job
from falconry.engine.tensorrt_llm.answers import (
    Reference,
    agreement,
    compare,
    load_answers,
    memory_of,
    not_compared,
    question,
    reference_for,
    with_questions,
)
from falconry.engine.tensorrt_llm.commands import phases, shell_lines
from falconry.engine.tensorrt_llm.machine import Gpu, HostGpus
from falconry.errors import EngineError
from falconry.settings import load_settings
from tests.falconry.engine.tensorrt_llm.specs import spec

ROOT = Path(__file__).parents[4]
TINY = ROOT / "checkpoints" / "tiny-falcon"
DATA = load_answers()
RIGHT = tuple(tuple(range(100 + number, 120 + number)) for number in range(len(DATA.prompts)))
GIB = 1 << 30


def compared(tmp_path, engine, reference=RIGHT, recorded=None, problem=None, **changes):
    """What is made of answers in a build's scratch directory."""
    (tmp_path / "engine_answers.json").write_text(json.dumps({"answers": engine}))
    said = {"problem": problem} if problem else {"answers": reference}
    (tmp_path / "reference_answers.json").write_text(json.dumps(said))
    asked = Reference(answers=recorded)
    return compare(spec(**changes), asked, TINY, tmp_path, tmp_path / "log", DATA)


@pytest.mark.parametrize(
    ("mine", "theirs", "share"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0),
        ([1, 2, 9, 4], [1, 2, 3, 4], 0.5),
        ([9, 2, 3, 4], [1, 2, 3, 4], 0.0),
        ([1, 2], [1, 2, 3, 4], 0.5),
        ([1, 2, 11], [1, 2], 1.0),
        ([11], [], 1.0),
        ([], [1], 0.0),
    ],
)
def test_answers_agree_up_to_their_first_difference(mine, theirs, share):
    assert agreement(mine, theirs, 11) == share


def test_every_quantization_has_its_threshold():
    from falconry.engine.tensorrt_llm.recipe import Quantization

    assert set(DATA.least_agreement) == set(Quantization.__args__)


def test_an_engine_that_answers_as_transformers_does_passes(tmp_path):
    assert compared(tmp_path, RIGHT) == "transformers"


def test_an_engine_that_answers_as_was_recorded_passes(tmp_path):
    assert compared(tmp_path, RIGHT, reference=(), recorded=RIGHT) == "recorded"


def test_an_engine_that_answers_otherwise_is_refused_with_both_texts(tmp_path):
    wrong = [[300, *answer[1:]] for answer in RIGHT]
    with pytest.raises(EngineError, match="0% agree and none needs 70%") as raised:
        compared(tmp_path, wrong)
    texts = [text for text in str(raised.value).split("'") if len(text) > 5]
    assert len(set(texts)) >= 2
    assert raised.value.where == str(tmp_path / "log")
    assert "engine.verify=off" in raised.value.remedy


def test_fewer_bits_may_differ_earlier(tmp_path):
    half = [[*answer[:10], *[300] * 10] for answer in RIGHT]
    with pytest.raises(EngineError):
        compared(tmp_path, half)
    assert compared(tmp_path, half, quantization="int8_weight_only") == "transformers"


def test_where_transformers_fails_nothing_was_compared_and_that_is_said(tmp_path):
    wrong = [[300] for _ in RIGHT]
    verified = compared(tmp_path, wrong, problem="ValueError: not recognized")
    assert verified.startswith("not possible: ")
    assert "not recognized" in verified
    assert "not recognized" in not_compared(verified)


def test_an_engine_without_answers_is_refused(tmp_path):
    with pytest.raises(EngineError, match="without engine_answers"):
        compare(spec(), Reference(), TINY, tmp_path, tmp_path / "log", DATA)


def test_transformers_is_asked_where_the_gpus_hold_the_unquantised_model():
    assert reference_for(spec(), None, 22 * GIB, DATA) == Reference()


def test_else_what_was_recorded_of_this_checkpoint_counts():
    name = f"hub:tiiuae/falcon-7b@{40 * 'a'}"
    data = DATA.model_copy(update={"recorded": {name: RIGHT}})
    assert reference_for(spec(), name, 8 * GIB, data).answers == RIGHT
    other = reference_for(spec(), f"{name[:-1]}b", 8 * GIB, data)
    assert "no answers of this checkpoint are recorded" in other.problem


def test_only_the_gpus_that_docker_gives_count():
    gpus = HostGpus("580", tuple(Gpu("NVIDIA A10", 86, 22 * GIB) for _ in range(4)))
    assert memory_of(gpus, 2) == 44 * GIB
    assert memory_of(None, 2) == 0


def test_the_question_fits_the_engine():
    small = spec(limits={"max_batch_size": 1, "max_input_len": 6, "max_seq_len": 12})
    asked = question(small, TINY, DATA)
    assert len(asked["prompts"]) == len(DATA.prompts)
    assert all(0 < len(prompt) <= 6 for prompt in asked["prompts"])
    assert asked["new_tokens"] == 6


@pytest.mark.parametrize("model", ["falcon-7b", "falcon-40b"])
def test_the_questions_follow_the_build_with_a_process_for_each_rank(model):
    asked = spec(model)
    ranks = asked.recipe.parallelism.world_size
    found = with_questions(phases(asked, ranks), asked, Reference())
    fractions = [fraction for phase in found for fraction in phase.span]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    *_, engine, reference = shell_lines(found)
    expected = "python3 /falconry/answer.py engine /falconry/scratch/question.json"
    assert engine == (f"mpirun --oversubscribe -n {ranks} {expected}" if ranks > 1 else expected)
    assert reference == "python3 /falconry/answer.py reference /falconry/scratch/question.json"


@pytest.mark.parametrize("reference", [Reference(answers=RIGHT), Reference(problem="too large")])
def test_transformers_is_not_asked_where_it_is_not_needed(reference):
    asked = spec()
    found = with_questions(phases(asked, 1), asked, reference)
    assert [phase.name for phase in found][2:] == ["ask engine"]
    assert found[-1].span[1] == 1.0


@pytest.mark.parametrize(
    ("verified", "said"),
    [("transformers", None), ("recorded", None), ("off", "engine.verify was off")],
)
def test_an_engine_that_was_not_compared_says_why(verified, said):
    found = not_compared(verified)
    assert found is None if said is None else said in found


@pytest.mark.parametrize(
    ("recipe", "overrides", "line", "asked"),
    [
        ("falcon-7b", "", "checked  answers: the engine's are compared with transformers'", 2),
        ("falcon-7b", "engine.verify=off", "warning  answers: not compared, engine.verify is", 0),
        ("falcon-40b", "deployment.shape=VM.GPU.A10.2", "warning  answers: cannot be compared", 1),
    ],
)
def test_a_plan_shows_the_questions_or_why_there_are_none(
    tmp_path, monkeypatch, recipe, overrides, line, asked
):
    monkeypatch.setattr(job, "spec_checks", lambda spec: [])
    settings = load_settings(ROOT, "oci", recipe=recipe, overrides=overrides)
    plan = job.TensorRtLlmJob(settings, tmp_path, DigestCache(tmp_path / "digests")).plan("0" * 64)
    assert sum("python3 /falconry/answer.py" in text for text in plan) == asked
    assert [text for text in plan if text.startswith(line)]


def test_whether_an_engine_is_asked_makes_no_other_key(tmp_path):
    keys = [
        job.TensorRtLlmJob(
            load_settings(ROOT, "oci", recipe="tiny", overrides=f"engine.verify={verify}"),
            tmp_path,
            DigestCache(tmp_path / "digests"),
        ).inputs()
        for verify in ("on", "off")
    ]
    assert keys[0] == keys[1]
