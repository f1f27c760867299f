"""IAM policies: the statements that a profile needs, and whether given ones contain them. Pure.

Statements: Oracle, "Policy Syntax" (policysyntax.htm): `allow <subject> to <verb> <resource-type>
in <location> where <conditions>`, whose capitals do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from falconry.data_files import Table, load_table
from falconry.findings import Finding
from falconry.settings import Settings

_FILE = Path(__file__).with_name("policies.toml")
_VERBS = ("inspect", "read", "use", "manage")
_STATEMENT = re.compile(
    r"allow\s+(?P<subject>.+?)\s+to\s+(?P<verb>inspect|read|use|manage)\s+(?P<resource>[\w-]+)"
    r"\s+in\s+(?P<location>.+?)(?:\s+where\s+(?P<where>.+))?",
    re.IGNORECASE | re.DOTALL,
)
_TYPE = re.compile(r"(?:request\.principal|resource)\.type\s*(!?=)\s*'([^']*)'", re.IGNORECASE)
_BUCKET = re.compile(r"target\.bucket\.name\s*=\s*'([^']*)'", re.IGNORECASE)
_COMPARTMENT = re.compile(r"resource\.compartment\.id\s*=\s*'([^']*)'", re.IGNORECASE)
_TYPES = {"deployments": "datasciencemodeldeployment", "jobs": "datasciencejobrun"}
_USERS = "falconry-users"

Holder = Literal["deployments", "jobs", "users", "service-datascience", "service-objectstorage"]
When = Literal["", "staged", "mirror", "jobs", "subnet"]


class Right(Table):
    """A right; see policies.toml."""

    holder: Holder
    verb: Literal["inspect", "read", "use", "manage"]
    resource: str
    where: Literal["", "bucket", "mirror", "tenancy", "repositories"] = ""
    when: When = ""
    purpose: str


class _Policies(Table):
    rights: tuple[Right, ...]
    families: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Scope:
    """What the statements are for.

    Attributes:
        compartment: its OCID; the tenancy's for the root.
        compartment_name: None where it was not read.
        bucket: that artifacts are staged in.
        mirror: that engines are shared in; None without one.
        repositories: the compartment of the images; None for a registry that is not OCIR.
        subnet: whether instances are in a network of the user's.
    """

    tenancy: str
    compartment: str
    region: str
    bucket: str
    mirror: str | None = None
    repositories: str | None = None
    subnet: bool = False
    compartment_name: str | None = None


@dataclass(frozen=True, slots=True)
class DynamicGroup:
    """A dynamic group of resources."""

    name: str
    id: str
    matching_rule: str


def scope_of(settings: Settings, tenancy: str, region: str) -> Scope:
    """Returns the scope of a profile in a tenancy and region."""
    cloud, registry = settings.cloud, settings.image.registry
    compartment = cloud.compartment_id or tenancy
    return Scope(
        tenancy=tenancy,
        compartment=compartment,
        region=region,
        bucket=cloud.upload.bucket,
        mirror=settings.engine.mirror.bucket if settings.engine.mirror else None,
        repositories=None if registry.host else registry.compartment_id or compartment,
        subnet=settings.deployment.subnet_id is not None,
    )


def needed_rights(scope: Scope, *, staged: bool = True, jobs: bool = True) -> list[Right]:
    """Returns the rights for a profile.

    Args:
        scope: of the profile.
        staged: whether artifacts go through a bucket.
        jobs: whether engines are built in the cloud.
    """
    holds = {
        "": True,
        "staged": staged,
        "mirror": scope.mirror is not None,
        "jobs": jobs,
        "subnet": scope.subnet,
    }
    return [
        right
        for right in _load().rights
        if holds[right.when] and (right.where != "repositories" or scope.repositories)
    ]


def dynamic_groups(scope: Scope) -> dict[str, str]:
    """Returns the matching rules of the dynamic groups by their names."""
    return {
        f"falconry-{holder}": f"ALL {{resource.type = '{kind}',"
        f" resource.compartment.id = '{scope.compartment}'}}"
        for holder, kind in _TYPES.items()
    }


def statement(right: Right, scope: Scope) -> str:
    """Writes the statement that gives a right."""
    subjects = {
        "users": f"group {_USERS}",
        "service-datascience": "service datascience",
        "service-objectstorage": f"service objectstorage-{scope.region}",
    }
    subject = subjects.get(right.holder, f"dynamic-group falconry-{right.holder}")
    compartment = scope.repositories if right.where == "repositories" else scope.compartment
    root = right.where == "tenancy" or compartment == scope.tenancy
    location = "tenancy" if root else f"compartment id {compartment}"
    bucket = _bucket(right, scope)
    condition = f" where ALL {{target.bucket.name = '{bucket}'}}" if bucket else ""
    return f"allow {subject} to {right.verb} {right.resource} in {location}{condition}"


def policy_facts(scope: Scope) -> dict[str, object]:
    """Dynamic groups and statements for programs, such as `oci iam policy create`."""
    return {
        "compartment": scope.compartment,
        "region": scope.region,
        "dynamic_groups": dynamic_groups(scope),
        "statements": [statement(right, scope) for right in needed_rights(scope)],
    }


def policy_text(scope: Scope) -> str:
    """Writes dynamic groups and statements for copying, with titles as comments."""
    lines = ["# Dynamic groups, each with its matching rule"]
    for name, rule in dynamic_groups(scope).items():
        lines += [f"# {name}", rule]
    titles = {
        "deployments": "Deployments",
        "service": "Oracle's services, for artifacts above 2 GiB",
        "users": f"People who deploy (put your own group in place of {_USERS})",
        "jobs": "Engines built in the cloud (Data Science Jobs)",
    }
    for title, kind in ((title, kind) for kind, title in titles.items()):
        rights = [right for right in needed_rights(scope) if _section(right) == kind]
        lines += ["", f"# {title}", *(statement(right, scope) for right in rights)]
    return "\n".join(lines)


def check_rights(
    rights: Sequence[Right],
    scope: Scope,
    statements: Sequence[str],
    groups: Sequence[DynamicGroup] | None,
) -> Iterator[Finding]:
    """Checks for each right whether a statement gives it.

    A missing one is a warning: a statement that cannot be read here, of a compartment above or of
    administrators, may give it.

    Args:
        rights: of deployments, jobs and services. Who of the users is in which group is not known
            here, so theirs are not checked.
        scope: what they are for.
        statements: all that were read.
        groups: all dynamic groups; None if they were not read.
    """
    for right in rights:
        if right.holder == "users":
            continue
        if any(gives(text, right, scope, groups) for text in statements):
            yield Finding("policies", "ok", f"{right.purpose}: a statement allows it")
            continue
        yield Finding(
            "policies",
            "warning",
            f"{right.purpose}: no statement was found that allows it, such as"
            f" `{statement(right, scope)}`",
            "run make policies for all of them",
        )


def gives(
    text: str, right: Right, scope: Scope, groups: Sequence[DynamicGroup] | None = None
) -> bool:
    """Whether a statement gives a right to its holder."""
    match = _STATEMENT.fullmatch(text.strip())
    if match is None:
        return False
    where = match["where"] or ""
    return (
        _VERBS.index(match["verb"].lower()) >= _VERBS.index(right.verb)
        and _covers(match["resource"].lower(), right.resource)
        and _is_there(match["location"], right, scope)
        and _is_for_bucket(where, right, scope)
        and _is_holder(match["subject"], where, right, scope, groups)
    )


def _covers(resource: str, needed: str) -> bool:
    held = _load().families.get(resource, ())
    return needed == resource or needed in held or "*" in held


def _is_there(location: str, right: Right, scope: Scope) -> bool:
    """Whether a location is the tenancy or the compartment; a name that is not known may be."""
    kind, _, rest = location.strip().partition(" ")
    if kind.lower() == "tenancy":
        return True
    if right.where == "tenancy" or kind.lower() != "compartment":
        return False
    first, _, identifier = rest.strip().partition(" ")
    wanted = scope.repositories if right.where == "repositories" else scope.compartment
    if first.lower() == "id":
        return identifier.strip() == wanted
    if wanted != scope.compartment or scope.compartment_name is None:
        return wanted != scope.tenancy
    return rest.strip().strip("'\"").rpartition(":")[2].casefold() == (
        scope.compartment_name.casefold()
    )


def _is_for_bucket(where: str, right: Right, scope: Scope) -> bool:
    """Whether a condition on buckets, if any, admits the right's."""
    named = _BUCKET.findall(where)
    return not named or _bucket(right, scope) in (None, *named)


def _is_holder(
    subject: str,
    where: str,
    right: Right,
    scope: Scope,
    groups: Sequence[DynamicGroup] | None,
) -> bool:
    """Whether a statement's subject holds the right; a group of people is none of resources."""
    kind, _, names = subject.strip().partition(" ")
    kind = kind.lower()
    if right.holder.startswith("service"):
        wanted = "datascience"
        if right.holder == "service-objectstorage":
            wanted = f"objectstorage-{scope.region}"
        return kind == "service" and wanted in re.split(r"[\s,]+", names.lower())
    principal = _TYPES[right.holder]
    if not _admits(where, principal):
        return False
    if kind == "any-user":
        return True
    if kind != "dynamic-group":
        return False
    if groups is None:
        return True
    named = {each.strip().strip("'\"").rpartition("/")[2].strip("'\"") for each in names.split(",")}
    named |= {each.removeprefix("id ").strip() for each in named}
    return any(
        {group.name, group.id} & named and _holds(group.matching_rule, principal, scope)
        for group in groups
    )


def _holds(rule: str, principal: str, scope: Scope) -> bool:
    """Whether a matching rule is for a kind of resource of the compartment."""
    compartments = _COMPARTMENT.findall(rule)
    if compartments and scope.compartment not in compartments:
        return False
    return _admits(rule, principal) and "resource." in rule


def _admits(condition: str, principal: str) -> bool:
    """Whether conditions on a principal's type, if any, admit one."""
    found = _TYPE.findall(condition)
    wanted = [kind.lower() for operator, kind in found if operator == "="]
    unwanted = [kind.lower() for operator, kind in found if operator == "!="]
    return principal not in unwanted and (not wanted or principal in wanted)


def _bucket(right: Right, scope: Scope) -> str | None:
    return {"bucket": scope.bucket, "mirror": scope.mirror or scope.bucket}.get(right.where)


def _section(right: Right) -> str:
    if right.when == "jobs":
        return "jobs"
    return "service" if right.holder.startswith("service") else right.holder


@cache
def _load() -> _Policies:
    return load_table(_FILE, _Policies)
