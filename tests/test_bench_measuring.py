"""How benchmarks judge what they measured, and how they measure; no times are asserted."""

import sys

import pytest

from scripts.bench.draw_results import groups, page
from scripts.bench.image import layers
from scripts.bench.processes import BenchError, peak_anonymous_mib, run
from scripts.bench.prompts import BATCHES, NEW_TOKENS, Load
from scripts.bench.results import LessThan, Point, Result, TimesAsLong, TimesBetter
from scripts.bench.served import read_profile

MIB = 1 << 20


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.mark.parametrize(
    ("unit", "ours", "peer", "ratio"),
    [
        ("s", [3.0, 2.0, 1.0], [40.0, 30.0, 10.0], 15.0),
        ("tokens/s", [60.0, 75.0, 99.0], [30.0, 25.0, 20.0], 3.0),
    ],
)
def test_medians_are_compared(unit, ours, peer, ratio):
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


def profile(answers=3, shortest=NEW_TOKENS, longest=NEW_TOKENS):
    """What aiperf 0.13.0 exports, as far as it is read."""
    return {
        "request_count": {"unit": "requests", "avg": float(answers)},
        "output_sequence_length": {"unit": "tokens", "min": shortest, "max": longest},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 120.5},
        "time_to_first_token": {"unit": "ms", "avg": 90.0, "p50": 80.0},
        "inter_token_latency": {"unit": "ms", "avg": 12.0, "p50": 11.0},
    }


def test_medians_and_the_rate_are_taken_from_aiperfs_export():
    assert read_profile(profile(), requests=3) == {
        "output_token_throughput": 120.5,
        "time_to_first_token": 80.0,
        "inter_token_latency": 11.0,
    }


@pytest.mark.parametrize(
    "other", [{"answers": 2}, {"shortest": NEW_TOKENS - 1}, {"longest": NEW_TOKENS + 1}]
)
def test_missing_answers_and_other_lengths_are_no_measurement(other):
    with pytest.raises(BenchError, match="aiperf got"):
        read_profile(profile(**other), requests=3)


def test_no_text_of_any_load_begins_like_another():
    loads = [Load(streams) for streams in BATCHES]
    beginnings = [text[:20] for load in loads for text in (*load.warm_up, *load.prompts)]
    assert len(set(beginnings)) == len(beginnings)
    assert [len(load.warm_up) for load in loads] == list(BATCHES)


class CountingPipeline:
    """Passes on to a real pipeline, and keeps the most requests that were under way at once."""

    def __init__(self, pipeline):
        self._pipeline = pipeline
        self._handles = []
        self.most = 0

    def add_request(self, *arguments):
        self._handles.append(self._pipeline.add_request(*arguments))
        running = [each for each in self._handles if each.get_status().name == "RUNNING"]
        self.most = max(self.most, len(running))
        return self._handles[-1]

    def step(self):
        self._pipeline.step()


def test_the_bare_pipeline_keeps_its_streams_and_answers_in_full(make_repository):
    import openvino_genai as genai

    from scripts.bench.generate_with_genai import generate, measure

    engine = make_repository() / "tensorrt_llm" / "1"
    pipeline = CountingPipeline(
        genai.ContinuousBatchingPipeline(str(engine), genai.SchedulerConfig(), "CPU")
    )
    load = Load(2)
    streams = generate(pipeline, load.prompts, 2, 6)
    assert [each.tokens for each in streams] == [6] * len(load.prompts)
    assert all(each.started < each.first < each.last for each in streams)
    assert pipeline.most == 2
    figures = measure(pipeline, load, 6)
    assert list(figures) == list(read_profile(profile(), requests=3))
    assert all(value > 0 for value in figures.values())


def test_a_page_shows_what_was_measured_by_its_unit_and_what_was_missed():
    results = [
        Result("fast", "s", {"we": [2.0, 1.0, 1.0]}, {"they": [4.0]}, TimesBetter(2)),
        Result("slow", "s", {"we": [3.0]}, {"they": [4.0]}, TimesBetter(2)),
        Result("<odd>", "tokens/s", problem="no peer"),
        Result("small", "MiB", {"we": [9.0]}, target=LessThan(10)),
    ]
    report = {
        "date": "2026-11-27",
        "quick": True,
        "machine": {"cpu": "a CPU", "cores": 2, "load_average": 0.5},
        "versions": {"falconry": {"openvino": "1"}},
        "results": [each.as_json() for each in results],
    }
    assert [(name, [row["what"] for row in rows]) for name, _, rows in groups(report)] == [
        ("time", ["fast", "slow"]),
        ("memory", ["small"]),
    ]
    text = page(report, {"time": "<svg>T</svg>"})
    assert "2026-11-27, quick: a CPU, 2 cores, load 0.5." in text
    assert "<td>fast</td><td>4.00×</td><td>&gt;= 2x</td><td>reached</td>" in text
    assert '<tr class="missed"><td>slow</td><td>1.33×</td>' in text
    assert '<tr class="missed"><td>&lt;odd&gt;</td><td></td><td></td><td>no peer</td>' in text
    assert "<svg>T</svg>" in text


def test_points_of_curves_have_a_plot_of_their_own():
    results = [
        Result("alone", "s", {"we": [1.0]}, {"they": [2.0]}),
        *(
            Result(f"{at} at a time", "s", {"we": [1.0]}, point=Point("it", "at a time", at))
            for at in BATCHES
        ),
    ]
    report = {"results": [each.as_json() for each in results]}
    assert [(name, [row["what"] for row in rows]) for name, _, rows in groups(report)] == [
        ("time", ["alone"]),
        ("time-curves", [f"{at} at a time" for at in BATCHES]),
    ]


def test_layers_are_read_from_dockers_history_with_the_base_first():
    # As Docker 20.10 (classic builder) and 27 (BuildKit) print it, with --human=false.
    history = (
        '0 /bin/sh -c #(nop)  CMD ["tritonserver"]\n'
        "512000000 /bin/sh -c #(nop) COPY dir:1ab2 in /opt/falconry/venv/ \n"
        "56000000 RUN |1 BASE=x /bin/sh -c apt-get update     && apt-get install --yes curl\n"
        "76500000 \n"
    )
    found = [(each.what, each.ours["unpacked"]) for each in layers(history)]
    assert found == [
        ("the base", [76.5]),
        ("apt-get update && apt-get install --yes curl", [56.0]),
        ("COPY /opt/falconry/venv/", [512.0]),
    ]
