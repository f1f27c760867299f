"""engine/build.py run as a process, with stand-in tools in the place of NVIDIA's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from falconry.engine.toolchain import load_toolchains
from tests.engine.imports import imported_packages
from tests.stand_in_toolchain.image import install_stand_ins

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "engine" / "build.py"
CHECKPOINT = ROOT / "checkpoints" / "tiny-falcon"
ROW = load_toolchains().row("25.10")
A10 = "NVIDIA A10, 575.57.08, 8.6"
VERSIONS = {"tensorrt_llm": "1.0.0", "tensorrt": "10.11.0.33"}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """The stand-in tools of release 25.10: where they are, and the environment to use them."""
    root = tmp_path_factory.mktemp("image")
    return root, {**os.environ, **install_stand_ins(ROW.release, ROW, root), "STAND_IN_GPUS": A10}


class Build:
    """A build of the tiny Falcon for two ranks, ready to run."""

    def __init__(self, directory, stand_ins):
        root, self.environment = stand_ins
        self.environment = dict(self.environment)
        self.scratch = directory / "scratch"
        self.output = directory / "engine"
        self.scratch.mkdir()
        converted = self.scratch / "checkpoint"
        self.plan = {
            "phases": [
                {
                    "name": "convert",
                    "step": "converting the checkpoint",
                    "program": ["/nowhere/convert.py", f"{root}{ROW.converter.falcon[0]}"],
                    "arguments": _words(
                        model_dir=CHECKPOINT, output_dir=converted, dtype="bfloat16", tp_size=2
                    ),
                    "span": [0.0, 0.3],
                },
                {
                    "name": "build",
                    "step": "building the engine",
                    "program": ["trtllm-build"],
                    "arguments": _words(
                        checkpoint_dir=converted,
                        output_dir=self.output,
                        output_timing_cache=self.scratch / "model.cache",
                    ),
                    "span": [0.3, 1.0],
                },
            ],
            "expected": ["config.json", "rank0.engine", "rank1.engine"],
            "versions": VERSIONS,
        }

    def start(self):
        path = self.scratch / "plan.json"
        path.write_text(json.dumps(self.plan))
        return subprocess.Popen(
            [sys.executable, SCRIPT, path],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self):
        """Runs it to its end; gives the exit status, standard output and the control lines."""
        process = self.start()
        output, errors = process.communicate(timeout=30)
        assert errors == b""
        return process.returncode, output, _controls(output)

    def refusal(self):
        """Runs it; gives the sentence it fails with."""
        status, output, controls = self.run()
        assert status == 1
        assert output.splitlines()[-1].startswith(b"::falconry::")
        assert not (self.scratch / "report.json").exists()
        return controls[-1]["error"]

    def run_script(self, text):
        """Puts a script in the place of both tools."""
        script = self.scratch / "tool.py"
        script.write_text(text)
        self.plan["phases"] = [{**self.plan["phases"][1], "program": [str(script)]}]


@pytest.fixture
def build(tmp_path, stand_ins):
    return Build(tmp_path, stand_ins)


def _words(**flags):
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def _controls(output):
    lines = output.decode().splitlines()
    mark = "::falconry::"
    return [json.loads(line[len(mark) :]) for line in lines if line.startswith(mark)]


def test_leaves_an_engine_and_a_report_of_what_it_was_built_with(build):
    status, _, _ = build.run()
    assert status == 0
    assert sorted(path.name for path in build.output.iterdir()) == build.plan["expected"]
    report = json.loads((build.scratch / "report.json").read_text())
    assert report == {
        "tensorrt_llm": "1.0.0",
        "tensorrt": "10.11.0.33",
        "cuda": ROW.cuda,
        "python": ".".join(map(str, sys.version_info[:3])),
        "driver": "575.57.08",
        "gpu": "NVIDIA A10",
        "sm": 86,
        "gpus": 1,
    }


def test_a_real_gpus_line_says_what_nvml_says(build):
    recorded = json.loads((ROOT / "tests" / "data" / "gpus" / "h200.json").read_text())
    build.environment["STAND_IN_GPUS"] = recorded["nvidia_smi"]
    build.run()
    report = json.loads((build.scratch / "report.json").read_text())
    (gpu,) = recorded["probe"]["gpus"]
    assert (report["driver"], report["gpu"], report["sm"], report["gpus"]) == (
        recorded["probe"]["driver"],
        gpu["name"],
        gpu["sm"],
        1,
    )


def test_counts_the_gpus_it_sees(build):
    build.environment["STAND_IN_GPUS"] = f"{A10};{A10}"
    build.run()
    assert json.loads((build.scratch / "report.json").read_text())["gpus"] == 2


def test_tells_each_phase_and_a_fraction_that_never_goes_back(build):
    _, _, controls = build.run()
    fractions = [control["fraction"] for control in controls]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert [control["step"] for control in controls if control["fraction"] == 0.3] == [
        "converting the checkpoint",
        "building the engine",
    ]
    # Two ranks, three milestones each: the build's percent moves with every one of them.
    assert len({fraction for fraction in fractions if 0.3 < fraction < 1.0}) >= 5


def test_passes_on_what_the_tools_print_to_both_their_streams(build):
    build.run_script(
        "import sys\n"
        "print('to stdout', flush=True)\n"
        "sys.stderr.write('\\r 10%|#\\r 20%|##')\n"
        "sys.exit('the end')"
    )
    _, output, _ = build.run()
    assert b"to stdout\n\r 10%|#\r 20%|##the end\n::falconry::" in output


def test_a_control_line_begins_on_a_new_line_even_inside_a_progress_bar(build):
    build.run_script("import sys; sys.stderr.write(' 50%|##')")
    build.plan["phases"][0]["name"] = "convert"
    _, output, _ = build.run()
    assert b"50%|##\n::falconry::" in output


@pytest.mark.parametrize(
    ("package", "expected", "sentence"),
    [
        (
            "tensorrt_llm",
            "0.19.0",
            "the image holds TensorRT-LLM 1.0.0, the toolchain row says 0.19.0",
        ),
        (
            "tensorrt",
            "10.10.0.31",
            "the image holds TensorRT 10.11.0.33, the toolchain row says 10.10.0.31",
        ),
    ],
)
def test_refuses_an_image_of_another_version_before_any_tool_runs(
    build, package, expected, sentence
):
    build.plan["versions"] = {**VERSIONS, package: expected}
    assert build.refusal() == sentence
    assert not (build.scratch / "checkpoint").exists()


def test_the_fourth_part_of_tensorrts_version_does_not_matter(build):
    build.plan["versions"] = {**VERSIONS, "tensorrt": "10.11.0"}
    assert build.run()[0] == 0


def test_refuses_an_image_without_tensorrt_llm(build):
    build.environment["PYTHONPATH"] = ""
    assert build.refusal() == "the image holds no TensorRT-LLM; the toolchain row says 1.0.0"


@pytest.fixture
def library_path(build, tmp_path):
    """What a tool gets as LD_LIBRARY_PATH with a driver, and what the build says of it."""
    (tmp_path / "compat" / "lib.real").mkdir(parents=True)
    build.run_script("import os; print('path', os.environ['LD_LIBRARY_PATH'])")
    build.environment |= {
        "CUDA_DRIVER_VERSION": "575.57.08",
        "_CUDA_COMPAT_PATH": str(tmp_path / "compat"),
        "LD_LIBRARY_PATH": "/other",
    }

    def found(driver):
        build.environment["STAND_IN_GPUS"] = f"NVIDIA A10, {driver}, 8.6"
        lines = build.run()[1].decode().splitlines()
        (path,) = [line.removeprefix("path ") for line in lines if line.startswith("path ")]
        return path, [line for line in lines if line.startswith("the driver ")]

    return found


def test_an_old_driver_gets_the_images_libraries_before_others(library_path, tmp_path):
    compatible = f"{tmp_path}/compat/lib.real"
    path, remarks = library_path("535.161.08")
    assert path == f"{compatible}:/other"
    assert remarks == [
        "the driver 535.161.08 is older than 575.57.08, which the image's CUDA wants: "
        f"{compatible} comes first"
    ]


@pytest.mark.parametrize("driver", ["575.51.03", "580.65.06"])
def test_a_new_enough_driver_changes_nothing(library_path, driver):
    assert library_path(driver) == ("/other", [])


def test_an_image_without_the_libraries_is_left_as_it_is_and_says_so(library_path, tmp_path):
    (tmp_path / "compat" / "lib.real").rmdir()
    path, (remark,) = library_path("535.161.08")
    assert path == "/other"
    assert remark.endswith(f", and the image has no {tmp_path}/compat/lib.real")


def test_refuses_to_build_without_a_gpu(build):
    del build.environment["STAND_IN_GPUS"]
    assert build.refusal().startswith("no NVIDIA GPU is visible in the container")


def test_refuses_gpus_of_different_architectures(build):
    build.environment["STAND_IN_GPUS"] = f"{A10}; NVIDIA A100-SXM4-80GB, 575.57.08, 8.0"
    assert "SM 80, SM 86" in build.refusal()


@pytest.mark.parametrize(
    ("fault", "tool", "status"),
    [
        ("convert:oom", "convert.py", 1),
        ("build:unsupported", "trtllm-build", 1),
        ("build:killed", "trtllm-build", 137),
        ("build:flag", "trtllm-build", 2),
        ("convert:half", "trtllm-build", 1),
    ],
)
def test_names_the_tool_that_failed_and_its_status(build, fault, tool, status):
    build.environment["STAND_IN_FAULT"] = fault
    exit_status, _, controls = build.run()
    assert exit_status == 1
    expected = {"error": f"{tool} ended with status {status}", "status": status}
    assert controls[-1] == expected


@pytest.mark.parametrize(
    ("fault", "name"), [("build:half", "rank0.engine"), ("build:half@0.9", "rank1.engine")]
)
def test_says_which_file_is_empty(build, fault, name):
    build.environment["STAND_IN_FAULT"] = fault
    assert build.refusal() == f"the tools ended well but {name} is empty"


def test_says_which_file_did_not_come_out(build):
    build.plan["expected"].append("rank2.engine")
    assert build.refusal() == "the tools ended well but left no rank2.engine"


def test_says_which_tools_the_image_lacks(build):
    build.plan["phases"][0]["program"] = ["/nowhere/a.py", "/nowhere/b.py"]
    assert build.refusal().endswith("the image has no /nowhere/a.py and no /nowhere/b.py")


def test_workers_that_outlive_their_tool_are_ended_and_hold_nothing_up(build):
    build.run_script(
        "import os, signal, subprocess, sys\n"
        "sleeper = subprocess.Popen(['sleep', '60'])\n"
        "print('worker', sleeper.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = time.monotonic()
    _, output, _ = build.run()
    assert time.monotonic() - started < 20
    worker = next(line for line in output.splitlines() if line.startswith(b"worker")).split()[1]
    assert _ends(int(worker))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_running_tool_and_then_the_build(build, signum, status):
    build.run_script("import os, time; print('tool', os.getpid(), flush=True); time.sleep(60)")
    process = build.start()
    tool = next(line for line in process.stdout if line.startswith(b"tool")).split()[1]
    process.send_signal(signum)
    process.communicate(timeout=10)
    assert process.returncode == status
    assert _ends(int(tool))
    assert not (build.scratch / "report.json").exists()


@pytest.mark.parametrize("text", ["{", '{"phases": []}', "[]"])
def test_refuses_what_is_no_plan(tmp_path, text):
    plan = tmp_path / "plan.json"
    plan.write_text(text)
    ended = subprocess.run([sys.executable, SCRIPT, plan], stdout=subprocess.PIPE, check=False)
    assert ended.returncode == 1
    assert "is no build plan" in _controls(ended.stdout)[-1]["error"]


def test_explains_itself():
    told = subprocess.check_output([sys.executable, SCRIPT, "--help"], text=True)
    assert "plan.json" in told


def test_is_python_3_12_and_imports_only_the_standard_library():
    imported = imported_packages(SCRIPT)
    assert imported <= set(sys.stdlib_module_names)


def _ends(pid, deadline_s=5):
    """Whether a process ends; a zombie has."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
