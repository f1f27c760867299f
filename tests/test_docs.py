"""README and docs/ are true: generated parts, links, lengths, and every command in them."""

import ast
import inspect
import re
import shlex
import subprocess
import tomllib
import xml.etree.ElementTree

import pytest

import tasks
from falconry.deployment.failures import KNOWN
from falconry.deployment.status import DeploymentStatus
from scripts.docs.pages import PARTS, outdated_pages, part_names, renewed
from scripts.docs.recording import Moment, svg, write
from scripts.docs.settings_tables import GpuRecipe, Recipe, Settings, attributes, sections
from scripts.docs.target_tables import targets
from tests.documents import ROOT, Page, pages
from tests.makefile import words_of

PAGES = pages()
NEEDS = {"gpu", "cloud", "time", "itself", "user"}
COMMANDS = tomllib.loads((ROOT / "tests/data/commands.toml").read_text())["commands"]
OPTIONS = {each.name: set(each.options) for each in targets()}
MOST_WORDS = {"README.md": 1_200}
# Looked up, not read.
REFERENCES = {"CHANGELOG.md", "SECURITY.md", "local_oci/README.md"}


def ids(each):
    return each.name


# --- generated parts --------------------------------------------------------------------------


def test_generated_parts_are_as_make_docs_writes_them():
    assert [path.name for path in outdated_pages()] == []


def test_every_generated_part_is_on_a_page():
    found = [name for page in PAGES for name in part_names(page.text)]
    assert sorted(found) == sorted(PARTS)


def test_a_part_that_is_out_of_date_is_written_anew():
    page = "a\n<!-- begin recipes: x -->\nold\n<!-- end recipes -->\nb\n"
    text = renewed(page)
    assert "old" not in text
    assert "| `falcon-7b` |" in text
    assert renewed(text) == text
    assert text.startswith("a\n<!-- begin recipes: x -->\n")
    assert text.endswith("<!-- end recipes -->\nb\n")


@pytest.mark.parametrize("model", [Settings, Recipe, GpuRecipe], ids=lambda model: model.__name__)
def test_every_key_has_a_meaning(model):
    found = [(each.title, own.key) for each in sections(model) for own in each.settings]
    assert len(found) > 5
    missing = [
        f"{each.title} {own.key}"
        for each in sections(model)
        for own in each.settings
        if not own.meaning
    ]
    assert missing == []


def test_a_docstring_gives_one_meaning_to_several_names():
    said = attributes("About.\n\nAttributes:\n    a, b: of both,\n        in two.\n    c: of c.")
    assert said == {"a": "of both, in two.", "b": "of both, in two.", "c": "of c."}


@pytest.mark.parametrize("failure", KNOWN, ids=lambda failure: failure.symptom[:20])
def test_the_words_on_the_page_lead_to_the_advice_beside_them(failure):
    first = next(each for each in KNOWN if re.search(each.pattern, failure.symptom, re.IGNORECASE))
    assert first is failure


def test_a_recorded_line_is_shown_as_long_as_it_stays():
    screen = ["$ make deploy", ""]
    moments = [Moment(0.0, tuple(screen))]
    for second, piece in ((1.0, "\r\x1b[K▸ engine"), (2.0, "\r\x1b[K✔ engine\nNext"), (3.0, " <")):
        write(screen, piece)
        moments.append(Moment(second, tuple(screen)))
    picture = svg(moments)
    assert re.findall(r">([^<>]+)</text>", picture) == [
        *("▸ engine", "Next", "$ make deploy", "✔ engine", "Next &lt;")
    ]
    xml.etree.ElementTree.fromstring(picture)


# --- links and lengths ------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page):
    broken = []
    for link in page.links():
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors()):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in REFERENCES], ids=ids)
def test_a_page_can_be_read_in_one_go(page):
    assert page.words() <= MOST_WORDS.get(page.name, 1_500)


def test_the_readme_leads_to_every_page():
    linked = {link.partition("#")[0] for link in Page(ROOT / "README.md").links()}
    assert {page.name for page in PAGES if page.name.startswith("docs/")} <= linked


# --- commands ---------------------------------------------------------------------------------


def test_every_command_of_a_page_is_in_the_table_and_nothing_else_is():
    found = {line for page in PAGES for line in page.commands()}
    known = [row["line"] for row in COMMANDS]
    assert sorted(found - set(known)) == []
    assert sorted(set(known) - found) == []
    assert len(known) == len(set(known))


def test_a_command_has_a_test_or_says_what_it_needs():
    for row in COMMANDS:
        assert set(row) <= {"line", "test", "needs"}
        assert "test" in row or "needs" in row, row
        assert row.get("needs", "gpu") in NEEDS, row


def test_the_tests_of_the_table_exist():
    functions = {}
    for row in COMMANDS:
        if "test" in row:
            path, _, name = row["test"].partition("::")
            if path not in functions:
                tree = ast.parse((ROOT / path).read_text())
                functions[path] = {
                    each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)
                }
            assert name in functions[path], row


def faults_of_make(line):
    """What there is not, of a line that calls make."""
    words = shlex.split(line.partition("make ")[2])
    words = [word for word in words if not word.startswith("--")]
    named = [word for word in words if "=" not in word]
    if not named or named[0] not in OPTIONS:
        return [f"no target: {line}"]
    allowed = {option for name in named for option in OPTIONS.get(name, ())} | {"JSON", "PYTHON"}
    given = dict(word.split("=", 1) for word in words if "=" in word)
    faults = [f"{name}= is no option of {line}" for name in given if name not in allowed]
    for name, directory in (("PROFILE", "profiles"), ("RECIPE", "engine/recipes")):
        value = given.get(name, "")
        if value and "…" not in value and not (ROOT / directory / f"{value}.toml").exists():
            faults.append(f"there is no {directory}/{value}.toml: {line}")
    return faults


def test_every_make_line_names_targets_and_options_that_exist():
    lines = [row["line"] for row in COMMANDS if re.search(r"(^|&& )make ", row["line"])]
    assert len(lines) > 20
    assert [fault for line in lines for fault in faults_of_make(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_make_in_a_sentence_names_targets_and_options_that_exist(page):
    spans = [span for span in page.spans() if re.match(r"make [a-z]", span)]
    assert [fault for span in spans for fault in faults_of_make(span)] == []


@pytest.mark.parametrize(
    "line",
    [
        "make deplyo",
        "make deploy PROMPT=x",
        "make deploy PROFILE=nowhere",
        "make engine RECIPE=falcon-8b",
    ],
)
def test_a_make_line_that_cannot_work_is_found(line):
    assert faults_of_make(line)


def test_make_has_a_variable_for_every_option_of_a_task():
    of_make = {"CMD", *words_of("OPTIONS")}
    assert {name for names in OPTIONS.values() for name in names} <= of_make


def test_the_page_names_the_keys_of_a_status():
    rows = Page(ROOT / "docs/commands.md").text.splitlines()
    (row,) = (line for line in rows if line.startswith("| `status` | `{"))
    assert re.findall(r'"(\w+)"', row) == list(DeploymentStatus("x").facts())


def test_the_page_has_the_shape_of_every_result_in_json():
    body = ast.parse((ROOT / "tasks.py").read_text()).body
    functions = {each.name: ast.unparse(each) for each in body if isinstance(each, ast.FunctionDef)}
    printing = {
        name.replace("_", "-")
        for name, source in functions.items()
        if name.replace("_", "-") in tasks.namespace.tasks
        and re.search("print_(result|state)|access.json|as_json", source)
    }
    table = Page(ROOT / "docs/commands.md").text.partition("## JSON")[2].partition("## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} >= printing
    assert len(printing) > 20


def test_no_option_has_a_default_that_hides_its_variable():
    """An option that is unset has "", 0 or False; see `falconry.targets.value_of`."""
    given = {
        f"{name} {each.name}": each.default
        for name, task in tasks.namespace.tasks.items()
        for each in list(inspect.signature(task.body).parameters.values())
        if each.default is not inspect.Parameter.empty
    }
    assert len(given) > 50
    assert [name for name, default in given.items() if default] == []


@pytest.mark.slow
def test_commands_that_only_print_do_so():
    lines = [
        row["line"].removeprefix("source <(").removesuffix(")")
        for row in COMMANDS
        if row.get("test", "").endswith("::test_commands_that_only_print_do_so")
    ]
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(
            shlex.split(line), cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "deploy" in done.stdout or "complete" in done.stdout
