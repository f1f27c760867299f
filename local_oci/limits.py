"""Limits and names that Oracle documents, each with the place it comes from.

Marks: [read] in Oracle's documents or SDK source, [inferred] from samples or behaviour.
"""

from __future__ import annotations

import re
from datetime import timedelta

# --- requests ---------------------------------------------------------------------------------

# [inferred] Oracle's signing documents speak of about five minutes.
MAX_CLOCK_SKEW = timedelta(minutes=5)

# [read] model-dep-predict-endpoint.htm: "The payload size limit is 10 MB"; whether MB means 10^6
# or 2^20 is not said, [inferred] the larger.
MAX_PAYLOAD_BYTES = 10 * 1024 * 1024

# [read] model-dep-predict-endpoint.htm: "A 60 second timeout for the /predict endpoint exists".
PREDICT_TIMEOUT_SECONDS = 60.0

# [inferred] a stream that says nothing for as long is over as well.
STREAM_SILENCE_SECONDS = 60.0

# [read] model-dep-invoke-throttling.htm: 150 requests a second for each tenancy.
MAX_REQUESTS_PER_SECOND = 150

# [inferred] OCI keeps retry tokens for 24 hours.
RETRY_TOKEN_LIFETIME = timedelta(hours=24)

# --- objects ----------------------------------------------------------------------------------

# [read] Content/Object/Tasks/usingmultipartuploads.htm: "Object parts must be no larger than
# 50 GiB", and "Part numbers can range from 1 to 10,000". It names no least size of a part; earlier
# versions of it said 10 MiB for all but the last, so that is not enforced.
MAX_PART_BYTES = 50 << 30
MAX_PART_NUMBER = 10_000

# --- containers -------------------------------------------------------------------------------

# [read] mod-dep-byoc.htm: where the unpacked artifact is mounted, read-only.
DEPLOYED_MODEL_PATH = "/opt/ds/model/deployed_model"

# [read] oci 2.189.0, OcirModelDeploymentEnvironmentConfigurationDetails.server_port.
MIN_PORT = 1024
MAX_PORT = 65535
RESERVED_PORTS = frozenset({24224, 8446, 8447})

# [read] same class, cmd and entrypoint: "combined size ... must be less than 2048 bytes".
COMMAND_BYTES = 2048

# [read] same class, environment_variables, and mod-dep-byoc-variables.htm.
ENVIRONMENT_BYTES = 2048
ENVIRONMENT_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*[A-Za-z0-9]")
ENVIRONMENT_KEY_CHARACTERS = 32
RESERVED_ENVIRONMENT = frozenset(
    {
        "MODEL_DEPLOYMENT_OCID",
        "MODEL_SERVING_PYTHON_VERSION",
        "TENANCY_OCID",
        "CONTAINER_CUSTOM_IMAGE",
    }
)

# [read] oracle-samples/oci-data-science-ai-samples, multiple_inference_endpoints/README.md.
MAX_CUSTOM_ENDPOINTS = 15
CUSTOM_ENDPOINT_METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})

# [read] tshoot-model-deploy-byoc.htm: an image must be pulled within 20 minutes.
PULL_TIMEOUT_SECONDS = 1200.0

# [read] tshoot-model-deploy-byoc.htm: a container must start within 10 minutes.
START_TIMEOUT_SECONDS = 600.0

# [read] in the same samples: the Docker health check of a container gives up after 3 seconds.
HEALTH_TIMEOUT_SECONDS = 3.0

# [inferred] Docker's own grace period between SIGTERM and SIGKILL.
STOP_GRACE_SECONDS = 10.0

# [read] Docker's default size of /dev/shm; `SHM_SIZE` overrides it (samples, llm/llama2).
DEFAULT_SHM_SIZE = "64m"

# --- container registry -----------------------------------------------------------------------

# [read] www.oracle.com/cloud/cloud-native/container-registry/faq: "Quotas are 500 repos total and
# 500 images per repo PER region".
MAX_REPOSITORIES = 500

# [read] OCI CLI reference, iam auth-token: "A user can have up to two auth tokens at a time".
MAX_AUTH_TOKENS = 2

# [inferred] Oracle says "short-lived". A token that logs in must outlast the 20 minutes that the
# pull of an image may take (tshoot-model-deploy-byoc.htm).
REGISTRY_TOKEN_LIFETIME = timedelta(hours=1)

# --- lists and logs ---------------------------------------------------------------------------

# [inferred] the page size of a list when the caller names none, and the largest one.
DEFAULT_PAGE = 100
MAX_PAGE = 1000

# [read] oracle/accelerated-data-science, ads/common/oci_logging.py: 100 entries by default, 1000
# at most, and a window of 14 days.
MAX_SEARCH_RESULTS = 1000
MAX_SEARCH_WINDOW = timedelta(days=14)

# [read] the default of CreateLogDetails.retention_duration.
LOG_RETENTION = timedelta(days=30)
