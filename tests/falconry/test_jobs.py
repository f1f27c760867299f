"""What a plan says of a build by a job, and profiles that no job can build for."""

import io
import os
from pathlib import Path

import pytest

from falconry.errors import SettingsError
from falconry.progress import Progress
from falconry.project import Project
from falconry.settings import load_settings

ROOT = Path(__file__).parents[2]
BASE = "engine.run=job engine.mirror.bucket=b cloud.config_file=/no/account"


def engine_plan(tmp_path, words):
    """The lines of `make plan` about the engine."""
    settings = load_settings(
        ROOT,
        "oci",
        recipe="falcon-7b",
        overrides=f"{BASE} engine.store={tmp_path}/store {words}",
    )
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        stages = Project(settings, Progress(io.StringIO())).plan()
    finally:
        os.chdir(before)
    return list(stages[0].details)


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('currency = "USD"\n[gpu_hour]\n"NVIDIA A10" = 2.0\n')
    return path


def test_a_plan_says_the_limit_and_the_price_of_a_job(tmp_path, prices):
    words = f"engine.job.prices={prices} engine.job.timeout_minutes=90 engine.job.storage_gb=300"
    lines = engine_plan(tmp_path, words)
    assert "job      VM.GPU.A10.1, 300 GB of disk, Oracle's network" in lines
    assert "limit    90 minutes, 3.00 USD at most (2 USD an hour)" in lines
    assert not [line for line in lines if "docker run" in line]


def test_a_plan_refuses_a_job_on_other_gpus(tmp_path, prices):
    lines = engine_plan(tmp_path, f"engine.job.shape=BM.GPU.H100.8 engine.job.prices={prices}")
    (refused,) = [line for line in lines if line.startswith("refused  job's GPUs")]
    assert "SM 90" in refused and "SM 86" in refused
    (limit,) = [line for line in lines if line.startswith("limit")]
    assert "no price for BM.GPU.H100.8" in limit


@pytest.mark.parametrize(
    ("profile", "words", "problem"),
    [
        ("oci", "engine.run=job", "engine.mirror"),
        ("local", "engine.run=job engine.mirror.bucket=b", "tensorrt_llm"),
        ("oci", f"{BASE} engine.job.hub_token_secret=hf_abc", "hub_token_secret"),
        ("oci", f"{BASE} engine.job.storage_gb=49", "storage_gb"),
    ],
    ids=["no-bucket", "cpu", "token", "storage"],
)
def test_a_profile_that_no_job_can_build_for_is_refused(profile, words, problem):
    with pytest.raises(SettingsError, match=problem):
        load_settings(ROOT, profile, overrides=words)
