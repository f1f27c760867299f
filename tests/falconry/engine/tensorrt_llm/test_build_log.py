"""The lines are what NVIDIA's tools print, as the issues named beside them record it."""

import json

import pytest

from falconry.engine.tensorrt_llm.build_log import NOT_STARTED, BuildLog, BuildStep


def control(**said):
    return f"::falconry::{json.dumps(said)}\n".encode()


def building():
    log = BuildLog()
    log.read(control(phase="build", step="building the engine", fraction=0.3))
    return log


def test_control_lines_tell_the_progress():
    steps = BuildLog().read(
        b"loading\n" + control(phase="convert", step="converting the checkpoint", fraction=0.12)
    )
    assert steps == [BuildStep("converting the checkpoint", 0.12)]


def test_a_line_of_a_progress_bar_ends_with_a_carriage_return():
    line = control(phase="convert", step="converting", fraction=0.5)
    assert BuildLog().read(b" 10%|#   | 1/10\r" + line) == [BuildStep("converting", 0.5)]


@pytest.mark.parametrize(
    "line", [b"::falconry::\n", b"::falconry::[1]\n", b"::falconry::{}\n", b"::falconry::3\n"]
)
def test_a_line_that_only_looks_like_a_control_line_is_passed_over(line):
    assert BuildLog().read(line) == []


@pytest.mark.parametrize(
    ("line", "problem", "remedy"),
    [
        (  # TensorRT-LLM#7818, a PyTorch message
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 40.00 MiB. GPU 0 has",
            "the GPU's memory ran out (CUDA out of memory) while building the engine",
            "lower max_batch_size or max_num_tokens",
        ),
        (  # TensorRT-LLM#1060
            "RuntimeError: [TensorRT-LLM][ERROR] CUDA runtime error in error: out of memory (/h",
            "the GPU's memory ran out",
            "a larger GPU",
        ),
        (  # TensorRT-LLM#346
            "[11/10/2023-06:30:40] [TRT] [E] 2: [globWriter.cpp::makeResizableGpuMemory::423] "
            "Error Code 2: OutOfMemory (no further information)",
            "the GPU's memory ran out",
            "a larger GPU",
        ),
        (  # TensorRT-LLM#489
            "Killed",
            "the host's memory ran out while building the engine",
            "build on a machine with more memory",
        ),
        (  # TensorRT-LLM#2049
            "trtllm-build: error: unrecognized arguments: --max_output_len",
            "this release does not know --max_output_len",
            "choose another toolchain",
        ),
        (  # Python's argparse
            "trtllm-build: error: argument --gemm_plugin: invalid choice: 'x' (choose from 'auto')",
            "this release refuses a flag: argument --gemm_plugin: invalid choice: 'x'",
            "correct the recipe",
        ),
        (  # TensorRT-LLM#2400
            "[TRT-LLM] [E] Unsupported SM: 70",
            "this release does not support the GPU's architecture (Unsupported SM: 70)",
            "engine/toolchains.toml",
        ),
        (  # TensorRT-LLM#222
            "[TensorRT-LLM][ERROR] 6: The engine plan file is generated on an incompatible device, "
            "expecting compute 8.6 got compute 8.0, please rebuild.",
            "engine plan file is generated on an incompatible device, expecting compute 8",
            "remove the timing cache",
        ),
        (  # NVIDIA/nvidia-docker#1034
            'could not select device driver "" with capabilities: [[gpu]]',
            "Docker cannot give the build an NVIDIA GPU",
            "NVIDIA Container Toolkit",
        ),
        (  # ENOSPC's text
            "OSError: [Errno 28] No space left on device: '/falconry/scratch/checkpoint'",
            "the disk is full",
            "free some disk space",
        ),
    ],
)
def test_a_known_line_becomes_a_problem_with_a_remedy(line, problem, remedy):
    log = building()
    log.read(f"[TRT-LLM] [I] Build TensorRT engine\n{line}\nmore words\n".encode())
    found = log.cause(1, False)
    assert problem in found[0]
    assert remedy in found[1]


def test_memory_that_only_a_skipped_tactic_lacked_is_no_cause():
    """NVIDIA/TensorRT#2643 and TensorRT-LLM#493."""
    log = building()
    log.read(
        b"[E] 2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no )\n"
        b"[W] Skipping tactic 3 due to insufficient memory on requested size of 68719476736\n"
        b"ValueError: Shouldn't reach here.\n"
    )
    assert log.cause(1, False)[0] == "Shouldn't reach here while building the engine"


def test_what_went_wrong_in_an_earlier_phase_is_no_cause():
    log = BuildLog()
    log.read(control(phase="convert", step="converting", fraction=0.0) + b"CUDA out of memory\n")
    log.read(control(phase="build", step="building", fraction=0.3))
    assert log.cause(3, False)[0] == "the build ended with 3 while building"


def test_a_warning_is_no_cause():
    log = building()
    log.read(b"[TRT] [W] Error Code 2: OutOfMemory may follow\nUserWarning: no CUDA-capable device")
    assert log.cause(1, False)[0] == "the build ended with 1 while building the engine"


def test_the_exception_at_the_end_of_a_traceback_is_the_cause():
    log = building()
    log.read(
        b"Traceback (most recent call last):\n"
        b'  File "convert_checkpoint.py", line 9, in <module>\n'
        b"    main()\n"
        b"ValueError: Shouldn't reach here.\n"
        b"[TRT-LLM] [I] bye\n"
    )
    problem, remedy = log.cause(1, False)
    assert problem == "Shouldn't reach here while building the engine"
    assert remedy == "read the log's end"


def test_an_exception_without_a_text_is_named():
    log = building()
    log.read(b"Traceback (most recent call last):\n  File 'x'\nAssertionError\n")
    assert log.cause(1, False)[0] == "AssertionError while building the engine"


def test_the_time_and_the_colours_of_an_error_line_are_left_out():
    log = building()
    log.read(b"\x1b[31m[11/10/2023-06:30:40] [TRT-LLM] [E] Engine building failed\x1b[0m\n")
    assert log.cause(1, False)[0] == "Engine building failed while building the engine"


def test_the_script_s_own_words_count_where_no_line_is_known():
    log = building()
    log.read(b"[TRT] [E] something\n" + control(error="the tools ended well but left no rank1"))
    assert log.cause(1, False) == ("the tools ended well but left no rank1", "read the log's end")


def test_the_script_s_own_words_may_be_known_too():
    log = BuildLog()
    log.read(
        control(error="the image holds TensorRT-LLM 0.9.0, the toolchain row says 1.0.0"),
    )
    assert log.cause(1, False) == (
        "the image holds TensorRT-LLM 0.9.0, the toolchain row says 1.0.0",
        "name the image of this toolchain, or the toolchain of this image",
    )


@pytest.mark.parametrize(("status", "oom_killed"), [(137, False), (137, True), (1, True)])
def test_a_kill_from_outside_is_the_host_s_memory(status, oom_killed):
    problem, remedy = building().cause(status, oom_killed)
    assert problem == "the host's memory ran out and the build was killed while building the engine"
    assert remedy == "build on a machine with more memory"


def test_loading_by_shard_is_proposed_only_where_it_can_be_done():
    log = BuildLog(may_load_by_shard=True)
    log.read(b"Killed\n")
    assert log.cause(1, False)[1].endswith("or set load_by_shard = true in the recipe")


def test_a_tool_that_was_killed_inside_the_container_ran_out_of_the_host_s_memory():
    log = building()
    log.read(b"[TRT-LLM] [E] bye\n" + control(error="x ended with status 137", status=137))
    assert log.cause(1, False)[0] == "the host's memory ran out while building the engine"


def test_of_a_failed_tool_its_own_error_counts_and_else_its_status():
    end = control(error="trtllm-build ended with status 3", status=3)
    silent, outspoken = building(), building()
    silent.read(b"bye\n" + end)
    outspoken.read(b"[TRT] [E] something\n" + end)
    assert silent.cause(1, False)[0] == (
        "trtllm-build ended with status 3 while building the engine"
    )
    assert outspoken.cause(1, False)[0] == "something while building the engine"


def test_an_error_of_the_gpu_s_architecture_is_known_in_tensorrt_s_words():
    log = building()
    log.read(b"[TRT] [E] (Target GPU SM 70 is not supported by this TensorRT release.)\n")
    assert "does not support the GPU's architecture" in log.cause(1, False)[0]


def test_the_kernel_s_word_counts_more_than_a_line_s():
    log = building()
    log.read(b"trtllm-build: error: unrecognized arguments: --x\n")
    assert "host's memory" in log.cause(1, True)[0]


def test_the_last_line_counts_without_its_end():
    log = building()
    log.read(b"Killed")
    assert "host's memory" in log.cause(1, False)[0]


def test_an_engine_s_refusal_is_the_cause():
    log = BuildLog()
    log.note("OCI runtime create failed: container_linux.go:380")
    assert log.cause(NOT_STARTED, False) == (
        "OCI runtime create failed: container_linux.go:380",
        "read the log's end",
    )


def test_a_long_line_is_cut():
    log = building()
    log.read(b"[TRT] [E] " + b"x" * 5000 + b"\n")
    assert len(log.cause(1, False)[0]) < 400
