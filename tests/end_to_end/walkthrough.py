"""The snippets of Oracle's walkthrough for Triton, run as they stand with their holes filled.

They are those of oracle-samples/oci-data-science-ai-samples, model-deployment/containers/
Triton_TensorRT, Steps 1.4 and 2; tests/data/walkthrough has their text.
"""

import ast
import contextlib
import re
import subprocess
import sys
from types import SimpleNamespace

from tests.conftest import ROOT
from tests.local_oci.support import Sdk, wait_until

_TEXTS = ROOT / "tests/data/walkthrough"
_IMPORTS = "from oci import data_science\nfrom oci.data_science.models import *\n"
# The image of the walkthrough, a whole value and no hole: each user has one of their own.
_IMAGE = re.compile(r'image="iad\.ocir\.io/[^"]+"')
_HOLE = re.compile(r"<(\w+)>")
_DEADLINE_S = 120


def answer_of(clone, url):
    """What Step 2 takes out of the answer of a deployment."""
    text = (_TEXTS / "step_2.txt").read_text()
    config = clone.directory / "build/local/cloud/config"
    assert text.count("~/.oci/config") == text.count("<modelDeploymentEndpoint>") == 1
    text = text.replace("~/.oci/config", str(config).replace("\\", "\\\\"))
    text = text.replace("<modelDeploymentEndpoint>", repr(f"{url}/predict"))
    done = subprocess.run(
        [sys.executable, "-c", f"{text}\nprint(ascii(inference_output))"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout)


def deployment_of(clone):
    """The clone's own deployment, and the SDK's clients for its cloud."""
    cloud = clone.directory / "build/local/cloud"
    sdk = Sdk(SimpleNamespace(directory=cloud, endpoint=(cloud / "endpoint").read_text()))
    listed = sdk.data_science.list_model_deployments(sdk.compartment, lifecycle_state="ACTIVE")
    (found,) = listed.data
    return sdk, sdk.data_science.get_model_deployment(found.id).data


@contextlib.contextmanager
def deployed_by_step_1_4(clone):
    """The URL of a deployment that Step 1.4 describes, of the clone's model and image."""
    sdk, own = deployment_of(clone)
    configuration = own.model_deployment_configuration_details
    model = configuration.model_configuration_details
    container = configuration.environment_configuration_details
    holes = {
        "model_id": model.model_id,
        "bandwidth_mbps": 10,
        "instance_configuration": model.instance_configuration,
        "scaling_policy": model.scaling_policy,
        "image_digest": container.image_digest,
        "deployment_name": "walkthrough",
        "compartment_id": own.compartment_id,
        "project_id": own.project_id,
        "image": container.image,
    }
    text, images = _IMAGE.subn("image=<image>", (_TEXTS / "step_1_4.txt").read_text())
    assert images == 1
    names = {"holes": holes}
    exec(_IMPORTS + _HOLE.sub(r'holes["\1"]', text), names)  # the walkthrough's own code
    made = sdk.data_science.create_model_deployment(names["create_model_deployment_details"])
    request = made.headers["opc-work-request-id"]

    def ended():
        status = sdk.data_science.get_work_request(request).data.status
        return status if status in ("SUCCEEDED", "FAILED") else None

    try:
        assert wait_until(ended, _DEADLINE_S) == "SUCCEEDED", sdk.errors(request)
        yield sdk.data_science.get_model_deployment(made.data.id).data.model_deployment_url
    finally:
        sdk.delete(made.data.id)
