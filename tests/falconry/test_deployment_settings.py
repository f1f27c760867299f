"""The limits that Oracle documents for a deployment, each refused before anything is made."""

from pathlib import Path

import pytest

from falconry.errors import SettingsError
from falconry.settings import load_settings

ROOT = Path(__file__).parents[2]
RULE = '{metric = "CPU_UTILIZATION", scale_in = 20, scale_out = 70}'


def endpoints(count):
    paths = ", ".join(['{path = "/x"}'] * count)
    return f"deployment.custom_endpoints='[{paths}]'"


def autoscaling(rule=RULE, **values):
    values = {"minimum": 1, "maximum": 2, **values}
    words = [f"deployment.autoscaling.{name}={value}" for name, value in values.items()]
    return " ".join([*words, f"deployment.autoscaling.rules='[{rule}]'"])


# oci 2.189.0, data_science/models: the fields' documents; and Oracle's pages, see the module.
WRONG = {
    **{
        f"deployment.environment.{name}=1": f"'{name}' is not a valid name"
        for name in ("X", "ENDS_", "1ST", "_A", "A-B", "", "Ä1", "A" * 32)
    },
    **{
        f"deployment.environment.{name}=1": f"'{name}' is the cloud's own"
        for name in (
            "MODEL_DEPLOYMENT_OCID",
            "MODEL_SERVING_PYTHON_VERSION",
            "TENANCY_OCID",
            "CONTAINER_CUSTOM_IMAGE",
        )
    },
    f"deployment.environment.BIG={'x' * 2045}": "2048 bytes, less than 2048",
    "serving.port=24224": "one of the cloud's own ports",
    "serving.port=8446": "one of the cloud's own ports",
    "serving.port=8447": "one of the cloud's own ports",
    "serving.port=1023": "greater than or equal to 1024",
    "serving.grpc_port=8446": "one of the cloud's own ports",
    "serving.grpc_port=8000": "grpc_port and port have to be different",
    "serving.port=65536": "less than or equal to 65535",
    "deployment.bandwidth_mbps=5": "greater than or equal to 10",
    "deployment.bandwidth_mbps=20 deployment.maximum_bandwidth_mbps=19": "one to two times",
    "deployment.maximum_bandwidth_mbps=21": "one to two times",
    "deployment.internet=true deployment.subnet_id=s": "a subnet has routes of its own",
    "deployment.custom_endpoints='[{path = \"x\"}]'": "pattern",
    'deployment.custom_endpoints=\'[{path = "/x", methods = ["HEAD"]}]\'': "GET",
    "deployment.custom_endpoints='[{path = \"/x\", methods = []}]'": "at least 1 item",
    endpoints(16): "15 items",
    autoscaling(cooldown_seconds=599): "greater than or equal to 600",
    autoscaling(minimum=3): "in this order",
    autoscaling(initial=3): "in this order",
    autoscaling('{metric = "CPU_UTILIZATION", scale_in = 70, scale_out = 20}'): "less than",
    autoscaling('{metric = "GPU_UTILIZATION", scale_in = 20, scale_out = 70}'): "CPU_UTILIZATION",
    autoscaling('{metric = "CPU_UTILIZATION"}'): "scale_in and scale_out",
    autoscaling('{scale_in_query = "x < 1", scale_out_query = "x > 2"}'): "MODEL_DEPLOYMENT_OCID",
    autoscaling(RULE.replace("}", ", pending_minutes = 2}")): "greater than or equal to 3",
    "cloud.auth=password": "api_key",
}


@pytest.mark.parametrize(("words", "said"), WRONG.items())
def test_what_oracle_does_not_allow_is_named(words, said):
    with pytest.raises(SettingsError) as failure:
        load_settings(ROOT, overrides=words)
    assert said in str(failure.value)


@pytest.mark.parametrize(
    "words",
    [
        autoscaling(initial=2, cooldown_seconds=600),
        f"deployment.environment.{'A' * 31}=1",
        "deployment.environment.AB=1",
        f"deployment.environment.BIG={'x' * 2044}",
        "serving.port=1024",
        "serving.port=65535",
        endpoints(15),
        "deployment.bandwidth_mbps=10 deployment.maximum_bandwidth_mbps=10",
        "deployment.bandwidth_mbps=10 deployment.maximum_bandwidth_mbps=20",
    ],
)
def test_what_is_just_within_the_limits_is_taken(words):
    assert load_settings(ROOT, overrides=words)
