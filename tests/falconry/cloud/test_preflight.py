"""What the checks are given of a deployment that is about to be made."""

from __future__ import annotations

from typing import Any

import pytest
from oci.data_science import models

from falconry.deployment.account import subject_of
from falconry.deployment.preflight.check import check_deployment
from falconry.deployment.preflight.subject import Artifact, Compute, Container, Image
from falconry.findings import failures


def configuration(policy: Any = None, **container: Any) -> Any:
    size = models.ModelDeploymentInstanceShapeConfigDetails(ocpus=2, memory_in_gbs=16)
    return models.SingleModelDeploymentConfigurationDetails(
        model_configuration_details=models.ModelConfigurationDetails(
            instance_configuration=models.InstanceConfiguration(
                instance_shape_name="VM.Standard.E4.Flex",
                model_deployment_instance_shape_config_details=size,
            ),
            scaling_policy=policy,
        ),
        environment_configuration_details=models.OcirModelDeploymentEnvironmentConfigurationDetails(
            cmd=["serve"], **container
        ),
    )


def test_a_deployment_is_checked_as_it_would_be_sent() -> None:
    made = subject_of(
        "falconry",
        configuration(environment_variables={"AB": "x"}),
        Artifact(["model_repository/a/config.pbtxt"], 1),
        Image("x"),
    )
    assert made.container == Container(command=["serve"], environment={"AB": "x"})
    assert made.compute == Compute("VM.Standard.E4.Flex", 2, 16, 1)
    assert failures(check_deployment(made)) == []


@pytest.mark.parametrize(
    ("policy", "most"),
    [
        (models.FixedSizeScalingPolicy(instance_count=3), 3),
        (
            models.AutoScalingPolicy(
                auto_scaling_policies=[
                    models.ThresholdBasedAutoScalingPolicyDetails(maximum_instance_count=5)
                ]
            ),
            5,
        ),
    ],
)
def test_the_most_instances_there_may_be_are_counted(policy: Any, most: int) -> None:
    made = subject_of("falconry", configuration(policy), Artifact([], 1), Image("x"))
    assert made.compute.instances == most
