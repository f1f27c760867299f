"""Deployments that Oracle would refuse, or that could not serve, are found before any upload.

Numbers are Oracle's, each with its document, and not read from our own oci_limits.toml.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from falconry.deployment.policies import Scope
from falconry.deployment.preflight.check import check_deployment
from falconry.deployment.preflight.subject import (
    Account,
    Artifact,
    Compute,
    Image,
    Offer,
    ServiceLimit,
)
from falconry.errors import PreflightError
from falconry.findings import failures, refuse
from falconry.oci_facts import CpuShape, shape_of_family
from tests.falconry.engine.test_preflight import manifest
from tests.falconry.preflight.subjects import MODELS, REPOSITORY, container, subject

EIGHT = "VM.GPU.A10.8"  # a size of a known family that Oracle does not have


def problems(**changes: Any) -> list[str]:
    return [each.text for each in failures(check_deployment(subject(**changes)))]


def facts(check: str, **changes: Any) -> list[str]:
    found = check_deployment(subject(**changes))
    return [each.text for each in found if each.check == check]


def test_a_deployment_that_is_well_made_has_no_problem() -> None:
    assert problems() == []


def test_every_problem_is_told_in_one_error() -> None:
    wrong = subject(
        artifact=Artifact(MODELS, 500 * 10**9),
        container=container(command=["serve", "x" * 3000], environment={"AB": "x" * 2500}),
        compute=Compute("BM.GPU.H100.8"),
    )
    with pytest.raises(PreflightError) as told:
        refuse(check_deployment(wrong), PreflightError, "this deployment", wrong.name)
    text = str(told.value)
    assert "\n" not in text
    for word in ("500.0 GB", "have 3005 bytes", "have 2502 bytes", "SM 86", "SM 90"):
        assert word in text


# models-about.htm: "Large models have artifacts limitations of up to 400 GB".
@pytest.mark.parametrize(("size", "fits"), [(400 * 10**9, True), (400 * 10**9 + 1, False)])
def test_the_catalog_takes_400_gb(size: int, fits: bool) -> None:
    assert (problems(artifact=Artifact(MODELS, size)) == []) is fits


# ads/model/datascience_model.py: 2 GiB and less are sent as they are.
@pytest.mark.parametrize(("size", "way"), [(2 << 30, "catalog itself"), ((2 << 30) + 1, "bucket")])
def test_the_way_of_an_artifact_is_told(size: int, way: str) -> None:
    assert way in facts("artifact size", artifact=Artifact(MODELS, size))[0]


@pytest.mark.parametrize(
    "words", [[f"--model-repository={REPOSITORY}"], ["--model-store", f"{REPOSITORY}/"]]
)
def test_the_repository_is_looked_for_where_the_command_says(words: list[str]) -> None:
    command = container(command=["tritonserver", *words])
    assert facts("model repository", container=command) == [
        f"2 models in {words[-1].rpartition('=')[2]}"
    ]


def test_a_repository_that_was_zipped_without_its_folder_is_found() -> None:
    # mod-dep-byoc.htm: zipping the files or the folder gives other paths.
    names = [name.removeprefix("model_repository/") for name in MODELS]
    (told,) = problems(artifact=Artifact(names, 1))
    assert "no models in model_repository/" in told
    assert "it has ensemble, tensorrt_llm" in told


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/models", "is /models, and the artifact is unpacked at /opt/ds/model/deployed_model"),
        ("/opt/ds/model/deployed_model/models", "no models in models/"),
        ("/opt/ds/model/deployed_modelx", "the artifact is unpacked at"),
    ],
)
def test_a_command_that_looks_elsewhere_is_refused(place: str, said: str) -> None:
    (told,) = problems(container=container(command=["tritonserver", "--model-repository", place]))
    assert said in told


def test_a_command_that_names_no_repository_is_told() -> None:
    assert "not checked" in facts("model repository", container=container(command=["serve"]))[0]


def test_a_model_without_configuration_or_version_is_refused() -> None:
    names = [*MODELS, "model_repository/bare/1/model.py", "model_repository/empty/config.pbtxt"]
    (told,) = problems(artifact=Artifact(names, 1))
    assert "the model bare has no config.pbtxt" in told
    assert "the model empty has no version directory" in told


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\b"])
def test_an_entry_that_leaves_the_directory_is_refused(name: str) -> None:
    (told,) = problems(artifact=Artifact([*MODELS, name], 1))
    assert name in told


# oci 2.189.0, OcirModelDeploymentEnvironmentConfigurationDetails.cmd:
# "The combined size of `CMD` and `ENTRYPOINT` must be less than 2048 bytes".
@pytest.mark.parametrize(("size", "fits"), [(2047, True), (2048, False)])
def test_command_and_entrypoint_have_fewer_than_2048_bytes_together(size: int, fits: bool) -> None:
    whole = container(
        command=["x" * 47], entrypoint=["ü" * ((size - 47) // 2), "y" * (size % 2 == 0)]
    )
    assert (problems(container=whole) == []) is fits


# The same class, environment_variables.
@pytest.mark.parametrize(("size", "fits"), [(2047, True), (2048, False)])
def test_variables_have_fewer_than_2048_bytes_together(size: int, fits: bool) -> None:
    variables = {"AB": "x" * (size - 4), "CD": ""}
    assert (problems(container=container(environment=variables)) == []) is fits


# tshoot-model-deploy-byoc.htm: "the image size must be within 16 GB", which may be GiB.
@pytest.mark.parametrize(
    ("size", "fits", "warned"),
    [
        (16 * 10**9, True, False),
        (16 * 10**9 + 1, True, True),
        (16 << 30, True, True),
        ((16 << 30) + 1, False, False),
    ],
)
def test_an_image_beyond_16_gb_is_warned_of_and_beyond_16_gib_refused(
    size: int, fits: bool, warned: bool
) -> None:
    image = Image("x", size, None)
    found = check_deployment(subject(image=image))
    assert (problems(image=image) == []) is fits
    assert any(finding.state == "warning" for finding in found) is warned


def test_an_image_of_unknown_size_is_told() -> None:
    assert "not known" in facts("image size", image=Image("x"))[0]


def test_an_image_of_another_release_is_refused() -> None:
    labels = {"io.falconry.tensorrt-llm": "0.5.0", "io.falconry.tensorrt": "9.1.0.4"}
    told = problems(image=Image("x", 1, labels))
    assert told == [
        "the engine was built with TensorRT-LLM 1.0.0 and the image has 0.5.0",
        "the engine was built with TensorRT 10.11.0.33 and the image has 9.1.0.4",
    ]


def test_an_image_without_labels_is_told_and_not_refused() -> None:
    for image in (Image("x", 1, {}), Image("x", 1)):
        assert problems(image=image) == []
        assert facts("image versions", image=image)


def test_more_ranks_than_the_shape_has_gpus_are_refused() -> None:
    (told,) = problems(engine=manifest(tensor_parallel=2))
    assert "it takes 2 GPUs" in told


def test_a_gpu_engine_on_a_shape_without_gpus_is_refused() -> None:
    compute = Compute("VM.Standard.E4.Flex", 2, 16)
    (told,) = problems(compute=compute)
    assert "VM.Standard.E4.Flex has none" in told


def test_a_cpu_engine_on_gpus_is_refused() -> None:
    engine = manifest().model_copy(update={"gpu": None, "builder": "openvino"})
    (told,) = problems(engine=engine)
    assert "in vain" in told


# Oracle, supported-shapes.htm: 6 to 64 GB an OCPU; SDK: 1 to 64 OCPUs and 6 to 1,024 GB.
@pytest.mark.parametrize(
    ("ocpus", "memory", "fits"),
    [
        (1, 6, True),
        (2, 11, False),
        (2, 128, True),
        (2, 129, False),
        (64, 1024, True),
        (64, 1025, False),
        (65, 500, False),
        (None, None, False),
    ],
)
def test_a_flexible_shape_has_the_sizes_that_oracle_gives(
    ocpus: float | None, memory: float | None, fits: bool
) -> None:
    engine = manifest().model_copy(update={"gpu": None})
    compute = Compute("VM.Standard.E4.Flex", ocpus, memory)
    assert (problems(engine=engine, compute=compute) == []) is fits


def test_a_fixed_shape_has_one_size() -> None:
    (told,) = problems(compute=Compute("VM.GPU.A10.1", 15, 240))
    assert "one size" in told


def test_a_shape_that_is_not_known_here_is_told() -> None:
    assert problems(compute=Compute("VM.GPU.NEW.1")) == []
    assert "not known here" in facts("shape", compute=Compute("VM.GPU.NEW.1"))[0]
    unread = Account(offer=Offer(None, "no answer"))
    assert problems(compute=Compute("VM.GPU.NEW.1"), account=unread) == []
    assert "no answer" in facts("shape", compute=Compute("VM.GPU.NEW.1"), account=unread)[0]


# An unknown shape, one that only Oracle's samples name, and two that images do not run on.
@pytest.mark.parametrize(
    ("name", "offer", "told"),
    [
        ("VM.GPU.A10.8", Offer(None), "do not offer VM.GPU.A10.8"),
        ("VM.GPU.A10.4", Offer(None), "do not offer VM.GPU.A10.4"),
        ("BM.GPU.GB200.4", None, "Arm processors"),
        ("BM.GPU.MI300X.8", None, "AMD's GPUs"),
    ],
    ids=["unknown", "doubtful", "arm", "amd"],
)
def test_a_shape_that_is_not_offered_or_runs_no_image_is_refused(
    name: str, offer: Offer | None, told: str
) -> None:
    assert told in " ".join(problems(compute=Compute(name), account=Account(offer=offer)))


def test_a_shape_of_the_services_list_is_checked_as_those_of_the_table() -> None:
    account = Account(ServiceLimit("ds-gpu-a10-count", 2), [], offer=Offer(shape_of_family(EIGHT)))
    (told,) = problems(compute=Compute(EIGHT), account=account)
    assert "take 8 GPUs" in told
    listed = CpuShape(
        name="VM.Standard.E9.Flex", ocpus=1, memory_gib=16, flexible=True, source="the list"
    )
    engine = manifest().model_copy(update={"gpu": None})
    account = Account(offer=Offer(listed))
    for size, fits in (((4, 64), True), ((None, None), False)):
        compute = Compute(listed.name, *size)
        assert (problems(engine=engine, compute=compute, account=account) == []) is fits


@pytest.mark.parametrize(("available", "fits"), [(4, True), (3, False), (None, True)])
def test_a_limit_that_can_be_read_counts_gpus(available: float | None, fits: bool) -> None:
    account = Account(ServiceLimit("ds-gpu-a10-count", available, "404"), [])
    compute = Compute("VM.GPU.A10.2", instances=2)
    told = problems(account=account, compute=compute)
    assert (told == []) is fits
    assert not told or "leaves 3" in told[0]


def test_what_cannot_be_read_of_a_tenancy_is_told_and_refuses_nothing() -> None:
    account = Account(
        ServiceLimit("ds-gpu-a10-count", None, "404 NotAuthorizedOrNotFound"), None, "404"
    )
    assert problems(account=account) == []
    assert "cannot be read: 404" in facts("service limit", account=account)[0]
    assert facts("policies", account=account) == ["cannot be read: 404"]


def test_statements_that_are_missing_are_told_with_one_that_would_do() -> None:
    # Statements of model-dep-policies-auth.htm and model-large-artifacts.htm.
    statements = [
        "Allow any-user to use log-content in tenancy where ALL"
        " {request.principal.type = 'datasciencemodeldeployment'}",
        "allow service datascience to manage object-family in compartment c",
        "allow group people to read repos in tenancy",
    ]
    scope = Scope("ocid1.tenancy.oc1..t", "ocid1.compartment.oc1..c", "us-ashburn-1", "staging")
    scope = replace(scope, repositories=scope.compartment)
    account = Account(statements=statements, scope=scope)
    told = facts("policies", account=account)
    assert [": a statement allows it" in each for each in told] == [False, True, False, True, False]
    assert "allow dynamic-group falconry-deployments to read repos" in told[0]
    assert "allow service objectstorage-us-ashburn-1 to manage object-family" in told[4]
    small = facts("policies", account=account, artifact=Artifact(MODELS, 10**9))
    assert len(small) == 3
