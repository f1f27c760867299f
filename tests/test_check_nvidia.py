"""The check beside NVIDIA's code, as far as it needs none of that: sources, flags, the table."""

import subprocess

import pytest

from falconry.engine.tensorrt_llm.commands import Phase
from scripts.check_nvidia.__main__ import main
from scripts.check_nvidia.conversions import answer_differences
from scripts.check_nvidia.environment import CheckError
from scripts.check_nvidia.lines import kept_rows, read_lines, recorded_faults
from scripts.check_nvidia.sources import take
from scripts.check_nvidia.table import Row, table


def test_without_a_source_it_says_in_one_sentence_what_to_pass(capsys):
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--source" in said.err


def test_a_source_that_is_nvidias_not_is_refused(capsys, tmp_path):
    assert main(["--source", str(tmp_path)]) == 2
    assert "has neither tensorrt_llm nor models" in capsys.readouterr().err


@pytest.fixture
def checkout(tmp_path):
    """A directory like a checkout of two commits, of which the second is another release."""
    place = tmp_path / "checkout"
    package = place / "tensorrt_llm"
    package.mkdir(parents=True)
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for release in ("0.1", "0.2"):
        (package / "version.py").write_text(f'__version__ = "{release}"\n')
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", release], check=True)
    return place


def test_a_source_is_of_the_release_that_its_files_say(checkout, tmp_path):
    assert take(str(checkout), tmp_path / "files").release == "0.2"
    assert take(f"{checkout}@HEAD~1", tmp_path / "older").release == "0.1"
    assert take(f"{checkout}/.git", tmp_path / "bare").release == "0.2"


def test_an_unknown_revision_is_named(checkout, tmp_path):
    with pytest.raises(CheckError, match="no revision nowhere"):
        take(f"{checkout}@nowhere", tmp_path / "copy")


def test_flags_and_choices_that_a_release_lacks_are_listed():
    known = {
        "build": {"--output_dir": "value", "--gemm_plugin": "value", "--fast": "switch"},
        "choices": {"build": {"--gemm_plugin": ["auto"]}},
    }
    arguments = ("--output_dir", "x", "--fast", "--gemm_plugin", "fp8", "--new", "1")
    phase = Phase("build", "building", ("trtllm-build",), arguments, (0.0, 1.0))
    assert list(recorded_faults(phase, known)) == [
        "build --gemm_plugin takes no fp8",
        "build lacks --new",
    ]


def test_every_kept_toolchain_was_read_and_knows_our_lines():
    rows = [row for toolchain in kept_rows() for row in read_lines(toolchain)]
    assert {"0.19.0", "1.0.0", "1.2.1"} <= {row.release for row in rows}
    assert {row.how for row in rows} == {"read"}
    assert all(row.equal for row in rows), table(rows)


def test_conversions_differ_by_error_key_and_tensor():
    one = {"config": {"rotary_base": 10000.0}, "tensors": {"rank0 lm_head.weight": ["a"]}}
    other = {"config": {"rotary_base": 500042.0}, "tensors": {}}
    assert answer_differences(one, one) == []
    assert answer_differences(one, other) == [
        "rotary_base is other",
        "rank0 lm_head.weight is other",
    ]
    assert answer_differences(one, {"error": "no such file"}) == ["no such file"]


def test_the_table_says_run_or_read_and_what_differs():
    rows = [
        Row("parsers", "1.0.0", "read", True, "recorded"),
        Row("converter", "0.16.0 (abc)", "run", False, "lm_head is other"),
    ]
    assert table(rows).splitlines()[1:] == [
        "parsers    1.0.0         read  equal      recorded",
        "converter  0.16.0 (abc)  run   DIFFERENT  lm_head is other",
    ]
