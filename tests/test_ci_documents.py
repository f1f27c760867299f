"""The CI documents keep their published schemas, call what exists, and trust no input."""

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.makefile import words_of

ROOT = Path(__file__).parents[1]
VARIABLES = {"CMD", *words_of("OPTIONS")}
# Of SchemaStore and GitLab, as the package check-jsonschema ships them.
SCHEMAS = {"github-actions.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}


def document(name):
    return yaml.safe_load((ROOT / "docs/ci" / name).read_text())


def check_against_schema(path, schema):
    """The command check-jsonschema, in this process: it loads for two seconds."""
    from check_jsonschema import main as check_jsonschema

    return CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, str(path)])


def scripts(document):
    """Every shell text below `run` and `script` keys."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in {"run", "script", "after_script"}:
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)
    elif isinstance(document, list):
        for value in document:
            yield from scripts(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_they_call_what_there_is(name):
    commands = [
        command.replace("\\\n", " ")
        for script in scripts(document(name))
        for command in re.findall(r"\bmake (?:.|\\\n)*", script)
    ]
    assert len(commands) == 3
    for command in commands:
        target = re.match(r"make (?:--\w+ )?(\w+)", command)[1]
        assert target in words_of("TARGETS")
        assert set(re.findall(r"\b([A-Z]+)=", command)) <= VARIABLES


@pytest.mark.parametrize("name", SCHEMAS)
def test_they_keep_their_published_schemas(name):
    checked = check_against_schema(ROOT / "docs/ci" / name, SCHEMAS[name])
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(
    ("name", "line", "instead"),
    [
        ("github-actions.yml", "timeout-minutes: 180", "timeout-minutes: [180]"),
        ("gitlab-ci.yml", "when: always", "when: sometimes"),
    ],
)
def test_a_document_that_breaks_its_schema_is_refused(tmp_path, name, line, instead):
    text = (ROOT / "docs/ci" / name).read_text()
    assert line in text
    broken = tmp_path / name
    broken.write_text(text.replace(line, instead))
    assert check_against_schema(broken, SCHEMAS[name]).exit_code == 1


def test_no_expression_of_github_stands_inside_a_shell_command():
    found = list(scripts(document("github-actions.yml")))
    assert found
    assert not [script for script in found if "${{" in script]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_recipe_reaches_make_by_the_environment_alone(name):
    # make would expand $(shell ...) in a value of its command line.
    assert not [script for script in scripts(document(name)) if "RECIPE" in script]
    workflow = document(name)
    assert "RECIPE" in (workflow.get("env") or workflow.get("variables"))


def test_every_action_is_pinned_by_its_commit():
    text = (ROOT / "docs/ci/github-actions.yml").read_text()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" +# v\d+\.\d+\.\d+", comment), action


def test_a_job_may_read_the_repository_and_nothing_else():
    workflow = document("github-actions.yml")
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert "HF_TOKEN" not in job.get("env", {})
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}
