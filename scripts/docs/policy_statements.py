"""The policy statements of a deployment, with names in place of OCIDs."""

from __future__ import annotations

from falconry.deployment.policies import Scope, policy_text

# What a reader replaces; `make policies` prints the profile's own.
_EXAMPLE = Scope(
    tenancy="<tenancy>",
    compartment="<compartment OCID>",
    region="<region>",
    bucket="falconry-staging",
    mirror="falconry-engines",
    repositories="<compartment OCID>",
)


def statements() -> str:
    """Dynamic groups and statements, for copying."""
    return f"```\n{policy_text(_EXAMPLE)}\n```"
