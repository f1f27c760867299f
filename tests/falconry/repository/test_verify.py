import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from falconry.errors import RepositoryError
from falconry.repository.config import verify_repository

SOURCES = Path(__file__).parents[3] / "model_repository"


@pytest.fixture
def repository(tmp_path):
    shutil.copytree(SOURCES, tmp_path / "models")
    return tmp_path / "models"


def edit(repository, model, old, new):
    path = repository / model / "config.pbtxt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "path", sorted(SOURCES.glob("*/config.pbtxt")), ids=lambda p: p.parent.name
)
def test_every_committed_configuration_is_valid_as_it_stands(path):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert config.name == path.parent.name


def test_the_committed_models_fit_together(repository):
    assert set(verify_repository(repository)) == {
        "ensemble",
        "preprocessing",
        "tensorrt_llm",
        "postprocessing",
        "tensorrt_llm_bls",
    }


@pytest.mark.parametrize(
    ("model", "old", "new", "words"),
    [
        ("ensemble", "max_batch_size: 32", "max_batch_size: ${size}", "placeholder"),
        ("ensemble", "max_batch_size: 32", "max_batch_sise: 32", "max_batch_sise"),
        ("ensemble", "max_batch_size: 32", "max_batch_size: 64", "larger than that of its step"),
        ("ensemble", 'model_name: "postprocessing"', 'model_name: "post"', "unknown model 'post'"),
        ("ensemble", 'key: "QUERY"', 'key: "QUESTION"', "no input 'QUESTION'"),
        ("ensemble", 'key: "OUTPUT"', 'key: "TEXT"', "no output 'TEXT'"),
        ("ensemble", 'value: "text_input"', 'value: "text"', "nothing makes tensor 'text'"),
        (
            "ensemble",
            'input_map { key: "input_lengths" value: "_REQUEST_INPUT_LEN" }',
            "",
            "'input_lengths' of 'tensorrt_llm' is required",
        ),
        ("ensemble", 'value: "_STOP_WORDS_IDS"', 'value: "_INPUT_ID"', "'_INPUT_ID' is made twice"),
        (
            "postprocessing",
            'name: "TOKENS_BATCH" data_type: TYPE_INT32',
            'name: "TOKENS_BATCH" data_type: TYPE_INT64',
            "'_TOKENS_BATCH' is TYPE_INT32",
        ),
        (
            "ensemble",
            'name: "cum_log_probs" data_type: TYPE_FP32',
            'name: "cum_log_probs" data_type: TYPE_FP16',
            "'cum_log_probs' is TYPE_FP32",
        ),
        ("preprocessing", 'name: "preprocessing"', 'name: "pre"', "names its model 'pre'"),
        ("preprocessing", 'name: "END_ID"', 'name: "PAD_ID"', "declares a tensor twice"),
    ],
)
def test_what_triton_would_stumble_over_is_found(repository, model, old, new, words):
    edit(repository, model, old, new)
    with pytest.raises(RepositoryError) as failure:
        verify_repository(repository)
    assert words in str(failure.value)


def test_a_python_model_without_its_code_is_found(repository):
    (repository / "preprocessing/1/model.py").unlink()
    with pytest.raises(RepositoryError, match=r"model\.py"):
        verify_repository(repository)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "is not UTF-8 (byte 0)"),
        (b'name: "\xc3\x28"', "is not UTF-8"),
        (b"name: " * 10_000, "is not a Triton model configuration"),
        (b"instance_group { " * 20_000, "config.pbtxt"),
        (b"#" * ((1 << 20) + 1), "at most 1,048,576 are read"),
        (b"max_batch_size: 99999999999999999999", "is not a Triton model configuration"),
    ],
    ids=["a byte", "half a character", "words", "deep", "long", "a large number"],
)
def test_a_damaged_configuration_is_refused_in_one_line(repository, content, problem):
    (repository / "preprocessing" / "config.pbtxt").write_bytes(content)
    with pytest.raises(RepositoryError) as raised:
        verify_repository(repository)
    assert problem in str(raised.value) and "\n" not in str(raised.value)


def test_a_data_type_that_is_not_known_is_named_by_its_number(repository):
    path = repository / "ensemble" / "config.pbtxt"
    path.write_text(path.read_text().replace("TYPE_STRING", "99"))
    with pytest.raises(RepositoryError, match="99"):
        verify_repository(repository)
