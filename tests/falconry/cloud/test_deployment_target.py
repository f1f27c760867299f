"""What a profile asks of OCI, in the SDK's own JSON."""

from pathlib import Path

import oci
import pytest

from falconry.deployment.logs import LogIds
from falconry.deployment.target import DeploymentRequest, command, environment, target_of
from falconry.image.output import ImageOutput
from falconry.settings import load_settings
from tests.falconry.cloud.conftest import ROOT

QUERY = 'CPUUtilization[1m]{resourceId = "MODEL_DEPLOYMENT_OCID"}.grouping().mean()'


@pytest.fixture(scope="module")
def sdk_client():
    """A client whose serialisation is used, and nothing is sent."""

    class NobodySigner(oci.auth.signers.SecurityTokenSigner):
        def __init__(self):
            """No token and no key: nothing is signed."""

    config = {"region": "us-ashburn-1"}
    return oci.data_science.DataScienceClient(config, signer=NobodySigner()).base_client


@pytest.fixture
def wire(sdk_client):
    """Gives the configuration that a profile asks for, as the SDK would send it."""

    def serialised(words="", kind="container"):
        settings = load_settings(ROOT, overrides=words)
        image = ImageOutput(Path(), "sha256:" + "1" * 64, "", "iad.ocir.io/n/r:1", kind)
        wanted = DeploymentRequest(
            settings=settings.deployment,
            serving=settings.serving,
            image=image,
            model_id="ocid1.datasciencemodel.oc1..m",
            project_id="ocid1.datascienceproject.oc1..p",
            log=LogIds("group", "predict-log", "access-log"),
            tags={},
        )
        target = target_of(wanted)
        return sdk_client.sanitize_for_serialization(target.configuration), target

    return serialised


def test_the_default_command_is_the_documents():
    serving = load_settings(ROOT).serving
    assert command(serving) == [
        "tritonserver",
        "--model-repository=/opt/ds/model/deployed_model/model_repository",
    ]
    assert command(serving.model_copy(update={"port": 9000}))[-1] == "--http-port=9000"
    opened = command(serving.model_copy(update={"grpc_port": 8001}))
    assert opened[-2:] == ["--grpc-port=8001", "--grpc-address=0.0.0.0"]


def test_the_mapping_is_by_oracles_variables():
    assert environment({}) == {
        "MODEL_DEPLOY_PREDICT_ENDPOINT": "/v2/models/tensorrt_llm_bls/versions/1/generate",
        "MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready",
    }
    assert "MODEL_DEPLOY_PREDICT_ENDPOINT" in environment({"SHM_SIZE": "5g"})


def test_oracles_own_mapping_has_no_variable_beside_it_that_maps():
    variables = {"CONTAINER_TYPE": "TRITON", "SHM_SIZE": "5g"}
    assert environment(variables) == variables


def test_tritons_paths_are_open_below_both_of_ocis_routes(wire):
    configuration, _ = wire("deployment.openai=false")
    container = configuration["environmentConfigurationDetails"]
    assert container["customHttpEndpoints"] == [
        {"endpointUriSuffix": "/v2/models/{}/generate", "httpMethods": ["POST"]},
        {"endpointUriSuffix": "/v2/models/{}/generate_stream", "httpMethods": ["POST"]},
        {"endpointUriSuffix": "/v2/models/{}/infer", "httpMethods": ["POST"]},
        *(
            {"endpointUriSuffix": path, "httpMethods": ["GET"]}
            for path in (
                "/v2",
                "/v2/health/live",
                "/v2/health/ready",
                "/v2/models/{}",
                "/v2/models/{}/ready",
                "/v2/models/{}/config",
            )
        ),
    ]
    assert "predictApiSpecification" not in container


def test_other_paths_and_openais_are_a_setting_away(wire):
    words = """deployment.openai=true deployment.custom_endpoints='[{path = "/x"}]'"""
    container = wire(words)[0]["environmentConfigurationDetails"]
    assert container["predictApiSpecification"] == "openai"
    assert container["customHttpEndpoints"] == [
        {"endpointUriSuffix": "/x", "httpMethods": ["POST"]}
    ]


def test_a_container_image_is_pinned_by_its_digest_and_a_process_image_is_not(wire):
    for kind, digest in (("container", "sha256:" + "1" * 64), ("process", None)):
        container = wire(kind=kind)[0]["environmentConfigurationDetails"]
        assert container.get("imageDigest") == digest


def test_instances_are_scaled_by_a_metrics_thresholds(wire):
    rules = '[{metric = "CPU_UTILIZATION", scale_in = 20, scale_out = 70, pending_minutes = 5}]'
    configuration, _ = wire(
        "deployment.autoscaling.minimum=1 deployment.autoscaling.maximum=4"
        f" deployment.autoscaling.cooldown_seconds=600 deployment.autoscaling.rules='{rules}'"
    )
    # The names of oci.data_science.models.AutoScalingPolicy and what it holds.
    assert configuration["modelConfigurationDetails"]["scalingPolicy"] == {
        "policyType": "AUTOSCALING",
        "coolDownInSeconds": 600,
        "isEnabled": True,
        "autoScalingPolicies": [
            {
                "autoScalingPolicyType": "THRESHOLD",
                "minimumInstanceCount": 1,
                "maximumInstanceCount": 4,
                "initialInstanceCount": 1,
                "rules": [
                    {
                        "metricExpressionRuleType": "PREDEFINED_EXPRESSION",
                        "metricType": "CPU_UTILIZATION",
                        "scaleInConfiguration": {
                            "scalingConfigurationType": "THRESHOLD",
                            "threshold": 20,
                            "pendingDuration": "PT5M",
                            "instanceCountAdjustment": 1,
                        },
                        "scaleOutConfiguration": {
                            "scalingConfigurationType": "THRESHOLD",
                            "threshold": 70,
                            "pendingDuration": "PT5M",
                            "instanceCountAdjustment": 1,
                        },
                    }
                ],
            }
        ],
    }


def test_instances_are_scaled_by_queries(wire):
    rules = f"[{{scale_in_query = '''{QUERY} < 25''', scale_out_query = '''{QUERY} > 75'''}}]"
    configuration, _ = wire(
        "deployment.autoscaling.minimum=2 deployment.autoscaling.maximum=4"
        f' deployment.autoscaling.rules="{rules.replace(chr(34), chr(92) + chr(34))}"'
    )
    policy = configuration["modelConfigurationDetails"]["scalingPolicy"]
    (rule,) = policy["autoScalingPolicies"][0]["rules"]
    assert rule["metricExpressionRuleType"] == "CUSTOM_EXPRESSION"
    assert rule["scaleOutConfiguration"]["query"] == f"{QUERY} > 75"
    assert rule["scaleOutConfiguration"]["scalingConfigurationType"] == "QUERY"


def test_a_network_of_the_users_is_named_as_such(wire):
    subnet, endpoint = "ocid1.subnet.oc1..s", "ocid1.datascienceprivateendpoint.oc1..e"
    words = f"deployment.subnet_id={subnet} deployment.private_endpoint_id={endpoint}"
    instance = wire(words)[0]["modelConfigurationDetails"]["instanceConfiguration"]
    assert instance["subnetId"] == subnet
    assert instance["privateEndpointId"] == endpoint
    assert instance["networkAccessType"] == "CUSTOM_NETWORKING"


@pytest.mark.parametrize(
    ("internet", "kind"),
    [
        ("true", "MANAGED_NETWORKING_INTERNET_ACCESS"),
        ("false", "MANAGED_NETWORKING_NO_INTERNET_ACCESS"),
    ],
)
def test_oracles_network_may_reach_the_internet(wire, internet, kind):
    configuration, _ = wire(f"deployment.internet={internet}")
    instance = configuration["modelConfigurationDetails"]["instanceConfiguration"]
    assert instance["networkAccessType"] == kind


def test_requests_and_the_containers_lines_go_to_their_logs(wire):
    _, target = wire()
    assert (target.logs.access.log_id, target.logs.predict.log_id) == ("access-log", "predict-log")


def test_what_last_answered_is_written_beside_the_other_tags(wire):
    _, target = wire()
    assert target.tags == {
        "falconry-model": "ocid1.datasciencemodel.oc1..m",
        "falconry-reference": "iad.ocir.io/n/r:1",
    }
