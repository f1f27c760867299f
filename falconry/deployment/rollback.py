"""Bringing a deployment about so that it answers, or else back to what answered before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from falconry.deployment.target import Target, previous_target
from falconry.deployment.deployments import Deployments
from falconry.cloud.work_requests import Watch
from falconry.errors import CloudError, FalconryError

Verify = Callable[[Any], None]


def bring_about_verified(
    deployments: Deployments, target: Target, verify: Verify, watch: Watch, *, rollback: bool
) -> Any:
    """Brings a deployment about; it is reported only once it has answered.

    Args:
        deployments: those of the profile.
        target: what it shall be.
        verify: asks an ACTIVE deployment, and raises a FalconryError where it does not answer.
        watch: how operations are waited for.
        rollback: whether a failure is followed by a return to what last answered.

    Returns:
        The deployment in full.

    Raises:
        FalconryError: of the failure. After a rollback it says what stands now.
    """
    before = deployments.get(target.name) if rollback else None
    previous = previous_target(before, target) if before else None
    try:
        return _verified(deployments.bring_about(target, watch), target, deployments, verify, watch)
    except FalconryError as failure:
        if not rollback:
            raise
        raise _returned(failure, before, previous, deployments, verify, watch) from failure


def _verified(
    active: Any, target: Target, deployments: Deployments, verify: Verify, watch: Watch
) -> Any:
    watch.report("asking it a first question", None)
    verify(active)
    deployments.confirm(active.id, target, watch)
    return active


def _returned(
    failure: FalconryError,
    before: Any | None,
    previous: Target | None,
    deployments: Deployments,
    verify: Verify,
    watch: Watch,
) -> CloudError:
    """Goes back, and says so together with the reason.

    Raises:
        GoesOnError: the user interrupted it.
    """
    if before is None or previous is None:
        return _told(failure, "there is nothing to return to: no deployment has answered before")
    watch.report("returning to the previous model and image", None)
    what = f"model {previous.model_id} and image {previous.image}"
    try:
        active = deployments.reconcile(before.id, previous, watch)
        _verified(active, previous, deployments, verify, watch)
    except FalconryError as second:
        return _told(failure, f"the return to {what} failed as well: {second}", second.details)
    return _told(failure, f"returned to {what}, which answers")


def _told(failure: FalconryError, outcome: str, more: tuple[str, ...] = ()) -> CloudError:
    return CloudError(
        f"{failure.problem}; {outcome}",
        where=failure.where,
        remedy=failure.remedy,
        details=[*failure.details, *more],
    )
