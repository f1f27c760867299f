"""How benchmarks judge what they measured, and how they measure memory; no times are asserted."""

import sys

import pytest

from scripts.bench.processes import BenchError, peak_anonymous_mib, run
from scripts.bench.results import LessThan, Result, TimesAsLong, TimesBetter

MIB = 1 << 20


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.mark.parametrize(
    ("unit", "ours", "peer", "ratio"),
    [("s", [3.0, 2.0], [40.0, 30.0], 15.0), ("tokens/s", [60.0, 90.0], [30.0, 20.0], 3.0)],
)
def test_the_best_samples_are_compared(unit, ours, peer, ratio):
    result = Result("it", unit, {"we": ours}, {"they": peer}, TimesBetter(2))
    assert result.ratio == ratio
    assert result.reached


def test_the_fastest_of_several_peers_is_the_one_to_beat():
    peers = {"slow": [10.0], "fast": [50.0]}
    assert not Result("it", "tokens/s", {"we": [90.0]}, peers, TimesBetter(2)).reached


@pytest.mark.parametrize(("seconds", "reached"), [(0.25, True), (0.26, False)])
def test_doing_nothing_may_take_a_multiple_of_an_empty_task(seconds, reached):
    result = Result("it", "s", {"we": [seconds]}, {"empty": [0.1]}, TimesAsLong(2.5))
    assert result.reached is reached


def test_memory_at_its_limit_is_too_much():
    assert not Result("it", "MiB", {"we": [256.0]}, target=LessThan(256)).reached


def test_what_could_not_be_measured_is_a_missed_target():
    result = Result("it", "s", target=TimesAsLong(7), problem="make failed")
    assert result.reached is False
    assert "not measured" in result.row()


def test_memory_that_is_written_counts(tmp_path):
    code = "import sys, time; held = b'x' * int(sys.argv[1]); time.sleep(0.1)"
    assert 96 <= peak_anonymous_mib(python(code, 96 * MIB), tmp_path) < 160


def test_a_childs_memory_counts_together_with_its_parents(tmp_path):
    code = (
        "import subprocess, sys;"
        "held = b'x' * int(sys.argv[1]);"
        "child = 'import time; held = b\"x\" * ' + sys.argv[1] + '; time.sleep(0.1)';"
        "subprocess.run([sys.executable, '-c', child])"
    )
    assert 128 <= peak_anonymous_mib(python(code, 64 * MIB), tmp_path) < 192


def test_a_mapped_file_does_not_count(tmp_path):
    (tmp_path / "weights").write_bytes(b"x" * 96 * MIB)
    code = (
        "import mmap, time; file = open('weights', 'rb');"
        "mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY);"
        "sum(mapped[::4096]); time.sleep(0.1)"
    )
    assert peak_anonymous_mib(python(code), tmp_path) < 64


def test_a_failing_program_is_told_with_its_last_line(tmp_path):
    with pytest.raises(BenchError, match="disk on fire"):
        run(python("import sys; print('fine'); sys.exit('disk on fire')"), tmp_path)
