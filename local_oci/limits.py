"""Limits and names that Oracle documents, each with its source.

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

# [inferred] a session token of the CLI is good for an hour unless it is refreshed.
SESSION_LIFETIME = timedelta(hours=1)

# [inferred] OCI keeps retry tokens for 24 hours.
RETRY_TOKEN_LIFETIME = timedelta(hours=24)

# --- object storage ---------------------------------------------------------------------------

# [read] oci 2.189.0, CreateBucketDetails.name: the characters; managingbuckets.htm: the length.
BUCKET_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")

# [read] managing-objects.htm: any characters but line feed, carriage return and NULL, whose UTF-8
# does not exceed 1024 bytes.
OBJECT_NAME_BYTES = 1024

# --- catalog ----------------------------------------------------------------------------------

# [read] oracle/accelerated-data-science, ads/model/model_metadata.py: METADATA_SIZE_LIMIT,
# METADATA_VALUE_LENGTH_LIMIT, METADATA_DESCRIPTION_LENGTH_LIMIT. That the size is that of the
# complete list as JSON is read there too; that the cloud counts so is [inferred].
METADATA_BYTES = 32_000
METADATA_VALUE_CHARACTERS = 255
METADATA_DESCRIPTION_CHARACTERS = 255

# [inferred] an artifact of 400 GB, which users report as the largest, and more files than any has.
MAX_ARTIFACT_BYTES = 400 * 10**9
MAX_ARTIFACT_FILES = 100_000

# [read] oci 2.189.0, Metadata.category, of custom metadata; capitals do not matter [inferred: ADS
# writes "Other", the SDK "other"].
METADATA_CATEGORIES = frozenset(
    {
        "performance",
        "training profile",
        "training and validation datasets",
        "training environment",
        "reports",
        "readme",
        "other",
    }
)

# [inferred] remembered of "Limits on Tags" in Oracle's tagging documents.
MAX_FREEFORM_TAGS = 10
TAG_KEY_CHARACTERS = 100
TAG_VALUE_CHARACTERS = 256

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

# [inferred] that a container is watched after it was healthy, and replaced when its health check
# has failed as often in a row as the same samples' Docker health check allows. The interval is this
# cloud's own.
HEALTH_INTERVAL_SECONDS = 2.0
HEALTH_RETRIES = 3

# [inferred] Docker's own grace period between SIGTERM and SIGKILL.
STOP_GRACE_SECONDS = 10

# [read] Docker's default size of /dev/shm; `SHM_SIZE` overrides it (samples, llm/llama2).
DEFAULT_SHM_SIZE = "64m"

# --- jobs -------------------------------------------------------------------------------------

# [read] jobs-byoc.htm and the SDK's models: variables and arguments, in characters.
JOB_ENVIRONMENT_CHARACTERS = 20_000
JOB_ARGUMENT_CHARACTERS = 4_000

# [read] oci 2.189.0, block_storage_size_in_gbs of a job's infrastructure.
MIN_BLOCK_STORAGE_GB = 50

# [inferred] how long a run that names no limit may take.
JOB_RUNTIME = timedelta(days=30)

# --- compute ----------------------------------------------------------------------------------

# [read] supported-shapes.htm, of flexible shapes in model deployments: at least 6 GB of memory
# for each OCPU, at most 64.
MIN_MEMORY_PER_OCPU = 6
MAX_MEMORY_PER_OCPU = 64

# [read] AutoScalingPolicy of Oracle's .NET and TypeScript SDKs: "The minimum value is 600 seconds,
# which is also the default". oci 2.189.0 says 300; the stricter one holds here.
MIN_COOL_DOWN_SECONDS = 600
DEFAULT_COOL_DOWN_SECONDS = 600

# [read] oci 2.189.0, ScalingConfiguration.pending_duration: "Minimum: PT3M. Maximum: PT1H."
MIN_PENDING = timedelta(minutes=3)
MAX_PENDING = timedelta(hours=1)

# [read] autoscale-vms-custom-metrics-steps.htm: what each query must include; that spaces do not
# matter and other dimensions may be beside it is [inferred].
SCALING_QUERY_SUBJECT = re.compile(r'resourceId\s*=\s*"MODEL_DEPLOYMENT_OCID"')

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

# [read] the same file asks for a smaller window when "search result is too large"; how large that
# is is [inferred].
MAX_SEARCH_BYTES = 10 * 1024 * 1024

# [inferred] so that a query is looked at in no time; those of ADS have about 300 characters.
MAX_QUERY_CHARACTERS = 2000

# [read] oci 2.189.0, CreateLogDetails.retention_duration: "Log retention duration in 30-day
# increments (30, 60, 90 and so on until 180)".
LOG_RETENTION_DAYS = frozenset(range(30, 181, 30))
DEFAULT_LOG_RETENTION_DAYS = 30

# [inferred] a name of the Logging service.
LOG_NAME_CHARACTERS = 255
