"""Instances, networks and bandwidth of a deployment: what is kept, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local_oci.support import Sdk, ds, refusal

INVALID = (400, "InvalidParameter")
# The example in the documents of CustomExpressionQueryScalingConfiguration.query (oci 2.189.0).
QUERY = 'CPUUtilization[1m]{resourceId = "MODEL_DEPLOYMENT_OCID"}.grouping().mean() > 75'
SUBNET = "ocid1.subnet.oc1.iad.aaaa"


@pytest.fixture(scope="module")
def model(sdk: Sdk) -> str:
    return sdk.model()


def _threshold(threshold: int, **options: Any) -> Any:
    return ds.PredefinedExpressionThresholdScalingConfiguration(threshold=threshold, **options)


def _predefined(scale_in: int = 20, scale_out: int = 80, **options: Any) -> Any:
    return ds.PredefinedMetricExpressionRule(
        metric_type="CPU_UTILIZATION",
        scale_in_configuration=_threshold(scale_in, **options),
        scale_out_configuration=_threshold(scale_out, instance_count_adjustment=1),
    )


def _custom(query: str) -> Any:
    configuration = ds.CustomExpressionQueryScalingConfiguration(
        query=query, pending_duration="PT5M"
    )
    return ds.CustomMetricExpressionRule(
        scale_in_configuration=configuration, scale_out_configuration=configuration
    )


def _policy(*rules: Any, counts: tuple[int, int, int] = (1, 2, 4), cool_down: int = 600) -> Any:
    least, first, most = counts
    return ds.AutoScalingPolicy(
        cool_down_in_seconds=cool_down,
        is_enabled=True,
        auto_scaling_policies=[
            ds.ThresholdBasedAutoScalingPolicyDetails(
                rules=list(rules),
                minimum_instance_count=least,
                initial_instance_count=first,
                maximum_instance_count=most,
            )
        ],
    )


def _details(sdk: Sdk, model: str, instance: dict[str, Any] | None = None, **changes: Any) -> Any:
    details = sdk.deployment_details(model)
    configuration = details.model_deployment_configuration_details.model_configuration_details
    for name, value in changes.items():
        setattr(configuration, name, value)
    for name, value in (instance or {}).items():
        setattr(configuration.instance_configuration, name, value)
    return details


def _create(sdk: Sdk, *arguments: Any, **options: Any) -> Any:
    """The new deployment, when it is ACTIVE."""
    answer = sdk.data_science.create_model_deployment(_details(sdk, *arguments, **options))
    assert sdk.finished(answer.headers["opc-work-request-id"]).status == "SUCCEEDED"
    return sdk.data_science.get_model_deployment(answer.data.id).data


def test_a_policy_with_all_kinds_of_rules_is_kept(sdk: Sdk, model: str) -> None:
    policy = _policy(_predefined(pending_duration="PT3M"), _custom(QUERY))
    created = _create(sdk, model, scaling_policy=policy, maximum_bandwidth_mbps=20)
    configuration = created.model_deployment_configuration_details.model_configuration_details
    assert configuration.scaling_policy == policy
    assert configuration.maximum_bandwidth_mbps == 20
    assert created.model_deployment_system_data.current_instance_count == 2
    sdk.delete(created.id)


def test_a_fixed_size_is_the_number_of_instances(sdk: Sdk, model: str) -> None:
    created = _create(sdk, model, scaling_policy=ds.FixedSizeScalingPolicy(instance_count=3))
    assert created.model_deployment_system_data.current_instance_count == 3
    sdk.data_science.deactivate_model_deployment(created.id)
    stopped = sdk.data_science.get_model_deployment(created.id).data
    assert stopped.lifecycle_state in ("UPDATING", "INACTIVE")


@pytest.mark.parametrize(
    "policy",
    [
        _policy(_predefined(), cool_down=599),
        _policy(_predefined(scale_in=80, scale_out=80)),
        _policy(_predefined(scale_out=101)),
        _policy(_predefined(pending_duration="PT2M")),
        _policy(_predefined(pending_duration="PT61M")),
        _policy(_predefined(pending_duration="five minutes")),
        _policy(_predefined(instance_count_adjustment=0)),
        _policy(_custom("CPUUtilization[1m].mean() > 75")),
        _policy(_custom('CPUUtilization[1m]{resourceId = "ocid1.other"}.mean() > 75')),
        _policy(_predefined(), counts=(0, 1, 2)),
        _policy(_predefined(), counts=(2, 1, 3)),
        _policy(_predefined(), counts=(1, 4, 3)),
        _policy(),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused(sdk: Sdk, model: str, policy: Any) -> None:
    details = _details(sdk, model, scaling_policy=policy)
    assert refusal(lambda: sdk.data_science.create_model_deployment(details)) == INVALID


def test_a_bandwidth_above_twice_the_minimum_is_refused(sdk: Sdk, model: str) -> None:
    details = _details(sdk, model, bandwidth_mbps=10, maximum_bandwidth_mbps=21)
    assert refusal(lambda: sdk.data_science.create_model_deployment(details)) == INVALID


def test_the_network_is_kept_and_custom_networking_cannot_be_left(sdk: Sdk, model: str) -> None:
    network = {
        "subnet_id": SUBNET,
        "network_access_type": "CUSTOM_NETWORKING",
        "private_endpoint_id": "ocid1.datascienceprivateendpoint.oc1.iad.aaaa",
        "capacity_reservation_ids": ["ocid1.capacityreservation.oc1.iad.aaaa"],
    }
    created = _create(sdk, model, network)
    configuration = created.model_deployment_configuration_details
    instance = configuration.model_configuration_details.instance_configuration
    assert {name: getattr(instance, name) for name in network} == network
    update = ds.UpdateModelDeploymentDetails(
        model_deployment_configuration_details=(
            ds.UpdateSingleModelDeploymentConfigurationDetails(
                model_configuration_details=ds.UpdateModelConfigurationDetails(
                    instance_configuration=ds.InstanceConfiguration(
                        instance_shape_name="VM.Standard.E4.Flex"
                    )
                )
            )
        )
    )
    assert refusal(lambda: sdk.data_science.update_model_deployment(created.id, update)) == INVALID
    sdk.delete(created.id)


@pytest.mark.parametrize(
    "network",
    [
        {"network_access_type": "CUSTOM_NETWORKING"},
        {"subnet_id": SUBNET, "network_access_type": "MANAGED_NETWORKING_INTERNET_ACCESS"},
        {"subnet_id": "my-subnet"},
        {"private_endpoint_id": SUBNET},
        {"capacity_reservation_ids": [SUBNET]},
    ],
)
def test_a_network_that_cannot_be_is_refused(sdk: Sdk, model: str, network: dict[str, Any]) -> None:
    details = _details(sdk, model, network)
    assert refusal(lambda: sdk.data_science.create_model_deployment(details)) == INVALID


@pytest.mark.parametrize(("ocpus", "memory"), [(2, 11), (2, 129), (65, 390), (17, 1025)])
def test_a_size_that_a_flexible_shape_has_not_is_refused(
    sdk: Sdk, model: str, ocpus: int, memory: int
) -> None:
    size = ds.ModelDeploymentInstanceShapeConfigDetails(ocpus=ocpus, memory_in_gbs=memory)
    details = _details(sdk, model, {"model_deployment_instance_shape_config_details": size})
    assert refusal(lambda: sdk.data_science.create_model_deployment(details)) == INVALID


# facts of oracle-samples, supported-gpu-shapes.md, and ADS, gpu_shapes_index.json
@pytest.mark.parametrize(
    "name",
    [
        *("VM.GPU.A10.1", "VM.GPU.A10.2", "BM.GPU.A10.4", "BM.GPU.L40S.4", "BM.GPU.L40S-NC.4"),
        *("BM.GPU4.8", "BM.GPU.B4.8", "BM.GPU.A100-v2.8", "BM.GPU.H100.8", "BM.GPU.H200.8"),
        *("BM.GPU.B200.8", "BM.GPU.GB200.4", "BM.GPU.MI300X.8", "VM.GPU3.1", "VM.GPU2.1"),
    ],
)
def test_the_gpu_shapes_are_listed(sdk: Sdk, name: str) -> None:
    shapes = sdk.data_science.list_model_deployment_shapes(sdk.compartment).data
    assert name in [shape.name for shape in shapes]
