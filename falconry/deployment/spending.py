"""How long a deployment has been running, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falconry.shapes.prices import Prices

_STARTS = frozenset({"MODEL_DEPLOYMENT_CREATE", "MODEL_DEPLOYMENT_ACTIVATE"})
_NOT_RUNNING = frozenset({"INACTIVE", "FAILED", "DELETED"})


@dataclass(frozen=True, slots=True)
class Spending:
    """A run of a deployment: from the request that started it until now.

    Attributes:
        hours: how long.
        at_most: whether the cloud lists no start any more; then the hours are the deployment's age.
        instances: how many there are now.
        price_hour: of all of them; None if it is not known.
        cost: of the hours, at the number of instances of now.
    """

    hours: float
    at_most: bool
    instances: int
    currency: str | None = None
    price_hour: float | None = None
    cost: float | None = None

    def uptime(self) -> str:
        """Returns the time for people: `2 d 3 h`, `1 h 20 min`."""
        minutes = int(self.hours * 60)
        days, hours = divmod(minutes // 60, 24)
        text = f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"
        return f"at most {text}" if self.at_most else text

    def price(self) -> str | None:
        """Returns the cost for people."""
        if self.currency is None:
            return None
        if self.cost is None or self.price_hour is None:
            return "the table has no price of this shape"
        limit = "at most" if self.at_most else "about"
        count = f", {self.instances} instances" if self.instances > 1 else ""
        return (
            f"{limit} {self.cost:,.2f} {self.currency} since the start, "
            f"{self.price_hour:,.2f} an hour{count}"
        )


def spending_of(
    deployment: Any, operations: Sequence[Any], now: datetime, prices: Prices | None = None
) -> Spending | None:
    """Returns what a deployment has used since it was last started; None while it is stopped.

    Args:
        deployment: as the SDK has it.
        operations: its work requests, the newest first.
        now: the end of the time.
        prices: a price table.
    """
    if deployment.lifecycle_state in _NOT_RUNNING:
        return None
    starts = (each for each in operations if each.operation_type in _STARTS)
    start = next(starts, None)
    began = start.time_accepted if start else deployment.time_created
    hours = max(0.0, (now - began).total_seconds() / 3600)
    model = deployment.model_deployment_configuration_details.model_configuration_details
    instances = _instances(model.scaling_policy, deployment.model_deployment_system_data)
    if prices is None:
        return Spending(hours, start is None, instances)
    instance = model.instance_configuration
    size = instance.model_deployment_instance_shape_config_details
    each = prices.of_instance(
        instance.instance_shape_name,
        getattr(size, "ocpus", None),
        getattr(size, "memory_in_gbs", None),
    )
    hourly = None if each is None else each * instances
    cost = None if hourly is None else hourly * hours
    return Spending(hours, start is None, instances, prices.currency, hourly, cost)


def _instances(policy: Any, system: Any) -> int:
    present = getattr(system, "current_instance_count", None)
    if present is not None:
        return int(present)
    if policy is None:
        return 1
    if policy.policy_type == "FIXED_SIZE":
        return int(policy.instance_count or 1)
    limits = policy.auto_scaling_policies[0]
    return int(limits.initial_instance_count or limits.minimum_instance_count)
