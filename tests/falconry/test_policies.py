"""Which policies a profile needs, and which statements give them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from falconry.deployment.policies import (
    DynamicGroup,
    Scope,
    check_rights,
    gives,
    needed_rights,
    policy_facts,
    policy_text,
    scope_of,
    statement,
)
from falconry.settings import load_settings

ROOT = Path(__file__).parents[2]
TENANCY, COMPARTMENT = "ocid1.tenancy.oc1..t", "ocid1.compartment.oc1..c"
IN = f"in compartment id {COMPARTMENT}"
FOR = "where ALL {request.principal.type = 'datasciencemodeldeployment'}"
WORDS = "engine.mirror.bucket=engines cloud.upload.bucket=stage"
SCOPE = replace(
    scope_of(
        load_settings(ROOT, "oci", overrides=f"{WORDS} cloud.compartment_id={COMPARTMENT}"),
        TENANCY,
        "eu-frankfurt-1",
    ),
    compartment_name="ml",
)


def right(holder: str, resource: str) -> object:
    """The right of a holder to a resource."""
    rights = needed_rights(SCOPE)
    return next(each for each in rights if (each.holder, each.resource) == (holder, resource))


def test_every_printed_statement_gives_its_right_and_is_printed_once() -> None:
    groups = [
        DynamicGroup(name, "", rule) for name, rule in policy_facts(SCOPE)["dynamic_groups"].items()
    ]
    lines = policy_text(SCOPE).splitlines()
    for each in needed_rights(SCOPE):
        text = statement(each, SCOPE)
        assert lines.count(text) == 1
        assert each.holder == "users" or gives(text, each, SCOPE, groups)
    assert policy_facts(SCOPE)["statements"]


# ADS 2.16.1, large_model_artifact.rst: both services; jobs/policies.rst; policies of deployments.
@pytest.mark.parametrize(
    "text",
    [
        f"allow service datascience to manage object-family in compartment id {COMPARTMENT}"
        " where ALL {target.bucket.name = 'stage'}",
        f"allow service objectstorage-eu-frankfurt-1 to manage object-family in compartment id"
        f" {COMPARTMENT} where ALL {{target.bucket.name = 'stage'}}",
        f"allow dynamic-group falconry-deployments to use log-content {IN}",
        f"allow dynamic-group falconry-jobs to manage objects in compartment id {COMPARTMENT}"
        " where ALL {target.bucket.name = 'engines'}",
        f"allow group falconry-users to manage data-science-job-runs {IN}",
    ],
    ids=["datascience", "objectstorage", "logs", "jobs", "users"],
)
def test_statements_name_the_compartment_the_bucket_and_the_region(text: str) -> None:
    assert text in policy_text(SCOPE).splitlines()


def test_the_root_compartment_is_the_tenancy_and_another_registry_needs_no_repositories() -> None:
    words = "image.registry.host=registry.example.com"
    scope = scope_of(load_settings(ROOT, "oci", overrides=words), TENANCY, "iad")
    text = policy_text(scope)
    assert "compartment id" not in text and "to read repos" not in text
    assert "allow dynamic-group falconry-deployments to use log-content in tenancy" in text


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (f"allow dynamic-group g to read repos {IN}", True),
        (f"ALLOW DYNAMIC-GROUP 'Default'/'g' TO MANAGE REPOS {IN}", True),
        (f"allow dynamic-group id ocid1.g to use repos {IN}", True),
        ("allow dynamic-group g to manage all-resources in tenancy", True),
        ("allow dynamic-group g to read repos in compartment ml", True),
        ("allow dynamic-group g to read repos in compartment top:ML", True),
        (f"allow any-user to read repos in tenancy {FOR}", True),
        ("allow any-user to read repos in tenancy", True),
        # A group of people is no dynamic group.
        (f"allow group g to read repos {IN}", False),
        ("allow group Administrators to manage all-resources in tenancy", False),
        ("allow service datascience to read repos in tenancy", False),
        (f"allow dynamic-group g to inspect repos {IN}", False),
        (f"allow dynamic-group g to read object-family {IN}", False),
        ("allow dynamic-group g to read repos in compartment id ocid1.compartment.oc1..x", False),
        ("allow dynamic-group g to read repos in compartment other", False),
        (f"allow any-user to read repos in tenancy {FOR.replace('modeldeployment', 'x')}", False),
        (f"allow dynamic-group jobs to read repos {IN}", False),
        (f"allow dynamic-group machines to read repos {IN}", False),
        (f"allow dynamic-group elsewhere to read repos {IN}", False),
        (f"allow dynamic-group unknown to read repos {IN}", False),
        ("define tenancy x as ocid1.tenancy.oc1..x", False),
        ("", False),
    ],
    ids=str,
)
def test_only_a_statement_for_deployments_lets_them_pull_an_image(text: str, given: bool) -> None:
    kind = "resource.type = 'datasciencemodeldeployment'"
    groups = [
        DynamicGroup("g", "ocid1.g", f"ALL {{{kind}, resource.compartment.id = '{COMPARTMENT}'}}"),
        DynamicGroup("jobs", "ocid1.j", "ALL {resource.type='datasciencejobrun'}"),
        DynamicGroup("machines", "ocid1.m", f"ANY {{instance.compartment.id = '{COMPARTMENT}'}}"),
        DynamicGroup(
            "elsewhere", "ocid1.e", f"ALL {{{kind}, resource.compartment.id = 'ocid1.x'}}"
        ),
    ]
    assert gives(text, right("deployments", "repos"), SCOPE, groups) is given


OBJECTS = "to manage object-family in tenancy"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (f"allow service datascience, objectstorage-eu-frankfurt-1 {OBJECTS}", True),
        (f"allow service objectstorage-eu-frankfurt-1 {OBJECTS}", True),
        (f"allow service objectstorage-us-ashburn-1 {OBJECTS}", False),
        (f"allow service datascience {OBJECTS}", False),
        ("allow service objectstorage-eu-frankfurt-1 to read object-family in tenancy", False),
        (
            f"allow service objectstorage-eu-frankfurt-1 {OBJECTS} where ALL"
            " {target.bucket.name='other'}",
            False,
        ),
        (
            f"allow service objectstorage-eu-frankfurt-1 {OBJECTS} where ANY"
            " {target.bucket.name='other', target.bucket.name='stage'}",
            True,
        ),
    ],
    ids=str,
)
def test_a_staged_artifact_needs_the_service_of_its_region_and_its_bucket(
    text: str, given: bool
) -> None:
    assert gives(text, right("service-objectstorage", "object-family"), SCOPE) is given


def test_what_no_statement_gives_is_a_warning_with_the_statement() -> None:
    rights = needed_rights(SCOPE, staged=False, jobs=False)
    everything = ["Allow any-user to manage all-resources in tenancy"]
    assert {each.state for each in check_rights(rights, SCOPE, everything, [])} == {"ok"}
    found = list(check_rights(rights, SCOPE, [], None))
    assert {each.state for each in found} == {"warning"}
    assert "`allow dynamic-group falconry-deployments to read repos" in found[0].text


def test_a_scope_without_names_counts_a_compartment_that_may_be_the_right_one() -> None:
    unnamed = replace(SCOPE, compartment_name=None)
    assert isinstance(unnamed, Scope)
    text = "allow dynamic-group g to read repos in compartment whatever"
    assert gives(text, right("deployments", "repos"), unnamed, None)
