"""Errors of deployments, with advice found in their texts.

The cloud gives reasons in its work request's errors and in the deployment's lifecycle details, the
container in its log. Each row of KNOWN is a pattern for these texts; the first match decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from falconry.cloud.work_requests import OperationError
from falconry.errors import CloudError


@dataclass(frozen=True, slots=True)
class Failure:
    """A known reason.

    Attributes:
        symptom: words that the cloud or the container uses, for people to look up.
        pattern: recognises these words and their like; case is ignored.
        remedy: what to do, as an imperative clause.
        source: of the words; "inferred" if they are not published.
    """

    symptom: str
    pattern: str
    remedy: str
    source: str


KNOWN = (
    Failure(
        "no Docker engine answers",
        r"no Docker engine answers",
        "start that engine again; to take another one, make down and then make deploy",
        "local_oci's words",
    ),
    Failure(
        "There is currently no capacity for the specified shape",
        r"no capacity for the specified shape|out ?of ?(host )?capacity",
        "choose another deployment.shape or region, name a capacity reservation"
        " (deployment.capacity_reservation_ids), or try again later",
        "Oracle's words, as users quote them",
    ),
    Failure(
        "Engine deserialization failed",
        r"deserialization|incompatible.{0,40}(engine|tensorrt)|engine.{0,60}(different|mismatch)"
        r"|compute capability",
        "build the engine with the toolchain of the image and for the GPU of the shape:"
        " make plan shows both",
        "TensorRT's and TensorRT-LLM's messages (NVIDIA/TensorRT-LLM issues)",
    ),
    Failure(
        "CUDA out of memory",
        r"CUDA out of memory|out of memory|OOM ?killed|exit(ed)? .{0,20}137",
        "choose a larger shape, or a recipe with smaller limits",
        "CUDA's and the kernel's words",
    ),
    Failure(
        "No space left on device",
        r"no space left on device",
        "give the instance more storage: deployment.environment.STORAGE_SIZE_IN_GB=<GB>",
        "oci-data-science-ai-samples, model-deployment/containers/llm/llama2",
    ),
    Failure(
        "Bus error",
        r"(shm|shared memory).{0,60}(size|increase|insufficient|no space)|bus error",
        "give it more shared memory: deployment.environment.SHM_SIZE=5g",
        "oci-data-science-ai-samples, model-deployment/containers/llm/llama2",
    ),
    Failure(
        "failed to poll model repository",
        r"failed to (stat|poll|load).{0,80}model|no such file.{0,80}model_repository"
        r"|model_repository.{0,80}(no such file|not found|does not exist)",
        "check that the artifact has model_repository/ at its root: make artifact makes it so",
        "Triton's words; Oracle, mod-dep-byoc.htm, on the mounted path",
    ),
    Failure(
        "The image could not be pulled within 20 minutes",
        r"\bimage\b.{0,60}(could not be pulled|pull.{0,20}(timed out|timeout|failed))"
        r"|(timed out|timeout).{0,40}pull|pull.{0,40}20 minutes",
        "make the image smaller or the pull shorter: it has to be within 16 GB and be pulled within"
        " 20 minutes; see make image",
        "Oracle, tshoot-model-deploy-byoc.htm",
    ),
    Failure(
        "The image does not exist",
        r"imageDigest|image.{0,40}(does not exist|not found|cannot be read|denied|unauthorized)",
        "push the image with make image, and let the deployment read it: allow any-user to read"
        " repos in compartment <name> where request.principal.type='datasciencemodeldeployment'",
        "Oracle, model-dep-policies-auth.htm and mod-dep-byoc.htm",
    ),
    Failure(
        "NotAuthorizedOrNotFound",
        r"NotAuthorizedOrNotFound|not authorized|RelatedResourceNotAuthorized",
        "check the OCIDs, and the policies for the resources it uses: model, image, logs, subnet",
        "Oracle, model-dep-policies-auth.htm",
    ),
    Failure(
        "LimitExceeded",
        r"LimitExceeded|QuotaExceeded|service limit",
        "ask for a higher service limit for the shape, or delete deployments that are not needed",
        "Oracle, API errors",
    ),
    Failure(
        "The subnet has too few free addresses",
        r"subnet|VNIC|127 free IP",
        "give the subnet at least 127 free addresses and a route to Oracle's services",
        "Oracle, model-dep-create.htm on custom networking",
    ),
    Failure(
        "InvalidArtifact",
        r"InvalidArtifact|artifact.{0,40}(invalid|no longer|any more|not a zip|bad)",
        "upload the artifact anew: make prune-models KEEP=1 DELETE=1 removes old ones, then make"
        " deploy",
        "inferred",
    ),
    Failure(
        "The container did not become healthy",
        r"(not|never|did not become) (be )?(healthy|ready)|health ?check|unhealthy"
        r"|within 10 minutes|start.{0,20}timed? ?out",
        "see make logs for what the server waits for: it has to answer its health path within 10"
        " minutes",
        "Oracle, tshoot-model-deploy-byoc.htm",
    ),
    Failure(
        "The container exited",
        r"the container exited|exited with|terminated by|killed by",
        "see make logs for what the server said before it ended",
        "inferred",
    ),
    Failure(
        "Workflow timed out",
        r"workflow timed out",
        "see make logs for what the server waits for: it has to be healthy within 10 minutes; for a"
        " large image or artifact set DEPLOYMENT_TIMEOUT_IN_MINUTES (240 at most) in"
        " deployment.environment",
        "Oracle's words; oci-data-science-ai-samples, model-deployment/containers/llm/llama2",
    ),
)


def explain_failure(texts: Iterable[str]) -> str:
    """Finds advice for what the cloud and the container said.

    Returns:
        An imperative clause, which points to the logs if the reason is not known.
    """
    said = "\n".join(texts)
    for failure in KNOWN:
        if re.search(failure.pattern, said, re.IGNORECASE):
            return failure.remedy
    return "see make logs for what the server said"


def describe_failure(
    failure: OperationError, lifecycle_details: str, log_lines: Sequence[str]
) -> CloudError:
    """Adds lifecycle details, the container's log and advice to a failure."""
    details = lifecycle_details
    reported = {line for reason in failure.reasons for line in reason.splitlines()}
    extra = [line for line in (*details.splitlines(), *log_lines) if line not in reported]
    known = any(details.partition("\n")[0] in reason for reason in failure.reasons)
    return CloudError(
        failure.problem if known or not details else f"{failure.problem} ({details})",
        where=failure.where,
        remedy=explain_failure([*failure.reasons, details, *log_lines]),
        details=[*failure.details, *extra],
    )


def nothing_deployed(name: str, selection: str = "") -> CloudError:
    """Makes the error for a name without a deployment; see `Deployments.in_use`."""
    remedy = f"run: make deploy {selection}".rstrip()
    return CloudError("nothing is deployed", where=name, remedy=remedy)


def unusable(deployment: Any) -> CloudError:
    """Makes the error for a deployment that no request can repair."""
    details = deployment.lifecycle_details or "no details given"
    return CloudError(
        f"the deployment is {deployment.lifecycle_state}: {details.partition(chr(10))[0]}",
        where=deployment.display_name,
        remedy=explain_failure([details]),
        details=details.splitlines()[1:],
    )


def abandoned(deployment: Any) -> CloudError:
    """The refusal to wait for a change that no operation is making."""
    return CloudError(
        f"the deployment is {deployment.lifecycle_state}, and no operation is running on it",
        where=deployment.display_name,
        remedy="run make down and make deploy",
    )


def not_kept(name: str, fields: Sequence[tuple[str, str, str]]) -> CloudError:
    """Makes the error for fields that differ from what an update has just written.

    The service may write a value in another form, add to it, or ignore it; another update would
    end the same way.

    Args:
        name: of the deployment.
        fields: the name, the current and the target's value of each.
    """
    listed = "; ".join(f"{field} is {now} and should be {new}" for field, now, new in fields)
    return CloudError(
        f"an update succeeded, and the deployment still differs: {listed}",
        where=name,
        remedy="write the value in the profile as the service has it; if another run is changing"
        " the deployment, let it end and run again",
    )


def changed_elsewhere(name: str) -> CloudError:
    """Makes the error for a deployment that another run changes at the same time."""
    return CloudError(
        "another run is changing the deployment",
        where=name,
        remedy="let one run end, then run again",
    )
