"""Repositories of TensorRT-LLM engines, against NVIDIA's own tables of the release."""

import json

import pytest
from tritonclient.grpc import model_config_pb2

from falconry.engine.toolchain import load_toolchains
from falconry.errors import EngineError, RepositoryError
from falconry.repository.config import read_config
from tests.stand_in_backend.engine import stand_in_engine
from tests.stand_in_backend.repository import gpu_repository, gpu_settings
from tests.stand_in_backend.surface import nvidia_table, row_of

SERVED = [row.release for row in load_toolchains().rows]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes the repository of a stand-in engine; gives both directories."""

    def run(release="25.10", *overrides, **engine):
        directory = tmp_path_factory.mktemp("gpu")
        built = stand_in_engine(directory / "engine", release, **engine)
        return built, gpu_repository(built, release, directory / "build", *overrides)

    return run


@pytest.fixture(scope="module", params=SERVED)
def served(request, make):
    """A release with its repository."""
    return load_toolchains().row(request.param), make(request.param)[1]


def core(repository):
    return read_config(repository / "tensorrt_llm/config.pbtxt")


def parameters(repository):
    return {name: each.string_value for name, each in core(repository).parameters.items()}


def test_every_tensor_is_nvidias_of_that_release(served):
    toolchain, repository = served
    config, nvidia = core(repository), nvidia_table(toolchain.tensor_names)
    assert {each.name: row_of(each) for each in config.input} == {
        each.name: nvidia["input"][each.name] for each in config.input
    }
    for each in config.output:
        assert row_of(each) == nvidia["output"][each.name]


def test_nothing_is_taken_that_the_backend_reads_as_another_type_or_the_engine_lacks(served):
    # NVIDIA/TensorRT-LLM: early_stopping is declared BOOL and read as INT32 (utils.cc); context
    # logits need an engine that was built with --gather_context_logits.
    names = {each.name for each in [*core(served[1]).input, *core(served[1]).output]}
    assert not [name for name in names if "logits" in name or name == "early_stopping"]


def test_what_the_ensemble_takes_reaches_the_engine_under_that_releases_names(served):
    toolchain, repository = served
    new = toolchain.tensor_names == "seed"
    names = ("seed", "min_tokens") if new else ("random_seed", "min_length")
    others = ("random_seed", "min_length") if new else ("seed", "min_tokens")
    ensemble = read_config(repository / "ensemble/config.pbtxt")
    taken = {each.name for each in ensemble.input}
    step = ensemble.ensemble_scheduling.step[1]
    for name in names:
        assert name in taken
        assert step.input_map[name] == name
    assert not taken.intersection(others)


def test_no_required_input_of_nvidias_is_missing(served):
    toolchain, repository = served
    required = {
        name
        for name, each in nvidia_table(toolchain.tensor_names)["input"].items()
        if not each.optional
    }
    assert required <= {each.name for each in core(repository).input}


def test_every_parameter_is_one_that_the_release_has(served):
    toolchain, repository = served
    known = set(nvidia_table(toolchain.tensor_names)["parameter"])
    assert set(parameters(repository)) <= known


def test_the_backend_is_told_what_it_must_be_told(served):
    _, repository = served
    config, told = core(repository), parameters(repository)
    assert config.backend == "tensorrtllm"
    assert config.instance_group[0].count == 1
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert told["gpt_model_type"] == "inflight_fused_batching"
    # Where OCI mounts the artifact, whose root is model_repository.
    mounted = "/opt/ds/model/deployed_model/model_repository/tensorrt_llm/1"
    assert told["gpt_model_path"] == mounted
    assert told["FORCE_CPU_ONLY_INPUT_TENSORS"] == "no"
    assert not any("${" in value for value in told.values())


def test_the_sizes_are_the_engines_own(make):
    engine, repository = make(beams=3)
    build = json.loads((engine / "config.json").read_text())["build_config"]
    assert core(repository).max_batch_size == build["max_batch_size"]
    assert parameters(repository)["max_beam_width"] == "3"
    told = read_config(repository / "preprocessing/config.pbtxt").parameters
    assert int(told["max_seq_len"].string_value) == build["max_seq_len"]
    assert (told["end_ids"].string_value, told["pad_id"].string_value) == ("[11]", "11")


@pytest.mark.parametrize(
    ("engine", "override", "longest"),
    [
        # trtGptModel.h: max_seq_len 512 less one; max_num_tokens 300; max_input_len 256.
        ({}, "chunked_context=true", 511),
        ({"num_tokens": 300}, "chunked_context=false", 300),
        ({}, "chunked_context=false", 511),
        ({"context_fmha": False, "paged_context_fmha": False}, "chunked_context=true", 256),
    ],
)
def test_the_longest_prompt_is_the_one_that_the_backend_takes(make, engine, override, longest):
    _, repository = make("25.10", f"serving.tensorrt_llm.{override}", **engine)
    for model in ("preprocessing", "tensorrt_llm_bls"):
        told = read_config(repository / model / "config.pbtxt").parameters
        assert told["max_input_len"].string_value == str(longest)


def test_the_engines_files_are_hard_links_and_no_cpu_code_is_served(make):
    engine, repository = make(tensor=2)
    for name in ("config.json", "rank0.engine", "rank1.engine", "tokenizer.json"):
        assert (repository / "tensorrt_llm/1" / name).samefile(engine / name)
    assert not list((repository / "tensorrt_llm").rglob("*.py"))
    assert not list(repository.rglob("manifest.json"))
    assert (repository / "preprocessing/1/chat.json").samefile(engine / "chat.json")


def test_each_rank_has_a_gpu_of_its_own(make):
    assert parameters(make(tensor=2, pipeline=2)[1])["gpu_device_ids"] == "0,1,2,3"
    assert "gpu_device_ids" not in parameters(make()[1])


@pytest.mark.parametrize(("paged", "said"), [(True, "true"), (False, "false")])
def test_long_prompts_are_chunked_only_where_the_engine_can(make, paged, said):
    told = parameters(make(paged_context_fmha=paged)[1])
    assert told["enable_chunked_context"] == said
    assert told["enable_kv_cache_reuse"] == said


def test_the_profile_decides_what_an_engine_leaves_open(make):
    overrides = {
        "kv_cache_free_gpu_mem_fraction": "0.5",
        "max_tokens_in_kv_cache": "4096",
        "scheduler_policy": "max_utilization",
        "chunked_context": "false",
        "kv_cache_reuse": "false",
        "cancellation_check_period_ms": "7",
        "max_queue_size": "64",
    }
    words = [f"serving.tensorrt_llm.{name}={value}" for name, value in overrides.items()]
    _, repository = make("25.10", *words)
    told, config = parameters(repository), core(repository)
    assert told["kv_cache_free_gpu_mem_fraction"] == "0.5"
    assert told["max_tokens_in_paged_kv_cache"] == "4096"
    assert told["batch_scheduler_policy"] == "max_utilization"
    assert told["enable_chunked_context"] == told["enable_kv_cache_reuse"] == "false"
    assert told["cancellation_check_period_ms"] == "7"
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 64
    assert config.model_transaction_policy.decoupled


def test_words_are_given_to_the_backend_as_it_compares_them(make, make_repository):
    def compared(repository):
        told = read_config(repository / "preprocessing/config.pbtxt").parameters
        return told["words_are_compared_as"].string_value

    assert compared(make()[1]) == "tokens"
    assert compared(make_repository()) == "text"


def rewrite(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", lambda it: it["build_config"].update(max_batch_size=4), "max_batch_size 4"),
        ("config.json", lambda it: it["build_config"].update(max_seq_len=600), "max_seq_len 600"),
        ("engine.json", lambda it: it.update(max_input_len=7), "engine.json has 7"),
        ("config.json", lambda it: it.update(version="1.1.0"), "TensorRT-LLM 1.1.0"),
        (
            "config.json",
            lambda it: it["pretrained_config"]["mapping"].update(tp_size=2),
            "2 ranks (tensor 2 times pipeline 1) and there are 1 engine files",
        ),
        ("config.json", lambda it: it.pop("build_config"), "build_config"),
    ],
)
def test_an_engine_whose_papers_disagree_is_refused(tmp_path, file, change, said):
    engine = stand_in_engine(tmp_path / "engine", "25.10")
    rewrite(engine / file, change)
    with pytest.raises((RepositoryError, EngineError)) as refused:
        gpu_repository(engine, "25.10", tmp_path / "build")
    assert said in str(refused.value)


def test_an_engine_of_another_release_than_the_image_is_refused(tmp_path):
    engine = stand_in_engine(tmp_path / "engine", "25.05")
    with pytest.raises(EngineError, match=r"TensorRT-LLM 0\.19\.0 and the image has 1\.0\.0"):
        gpu_repository(engine, "25.10", tmp_path / "build")


def test_an_engine_for_another_gpu_than_the_shapes_is_refused(tmp_path):
    engine = stand_in_engine(tmp_path / "engine", "25.10")
    with pytest.raises(EngineError, match=r"SM 86 \(NVIDIA A10\) and BM\.GPU\.H100\.8 has SM 90"):
        gpu_repository(engine, "25.10", tmp_path / "build", "deployment.shape=BM.GPU.H100.8")


def test_a_value_that_the_backend_would_not_take_is_refused_with_its_name():
    from falconry.errors import SettingsError

    with pytest.raises(SettingsError, match=r"serving\.tensorrt_llm\.scheduler_policy"):
        gpu_settings("25.10", "serving.tensorrt_llm.scheduler_policy=static")
