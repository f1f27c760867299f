"""Tables of what can be set: profiles, recipes, toolchains, shapes, the server's variables."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from falconry.data_files import Table, read_toml
from falconry.engine.spec import RECIPES, Recipe, recipe_names
from falconry.engine.tensorrt_llm.recipe import GpuRecipe
from falconry.engine.toolchain import load_toolchains
from falconry.oci_facts import load_cpu_shapes, load_shapes
from falconry.settings import Settings
from scripts.docs.markdown import code, table

ROOT = Path(__file__).resolve().parents[2]
_HEAD = ("key", "type", "default", "meaning")
_NAME = re.compile(r"^ {4}(?P<names>\w+(?:, \w+)*): (?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of a TOML table, as its model describes it."""

    section: str
    key: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Section:
    """A TOML table with its keys.

    Attributes:
        title: as it is written in TOML; empty for the top level.
        about: how the model describes itself.
    """

    title: str
    about: str
    settings: tuple[Setting, ...]


def profile_tables() -> str:
    """Every key of a profile."""
    return _tables(sections(Settings))


def cpu_recipe_tables() -> str:
    """Every key of a recipe for CPUs."""
    return _tables(sections(Recipe))


def gpu_recipe_tables() -> str:
    """Every key of a recipe for GPUs."""
    return _tables(sections(GpuRecipe))


def recipe_list() -> str:
    """The recipes with their descriptions."""
    rows = []
    for name in recipe_names():
        values = read_toml(ROOT / RECIPES / f"{name}.toml")
        rows.append((code(name), code(values["builder"]), values["description"]))
    return table(("recipe", "builder", "what it makes"), rows)


def toolchain_table() -> str:
    """The rows of engine/toolchains.toml."""
    toolchains = load_toolchains()
    rows = []
    for row in toolchains.rows:
        mark = " (default)" if row.release == toolchains.default else ""
        architectures = ", ".join(map(str, row.sm))
        versions = (row.tensorrt_llm, row.tensorrt, row.cuda, row.driver)
        rows.append((f"{code(row.release)}{mark}", *versions, architectures))
    head = ("release", "TensorRT-LLM", "TensorRT", "CUDA", "driver from", "GPU architectures (SM)")
    return table(head, rows)


def shape_table() -> str:
    """The shapes that engines are built for."""
    rows = [
        (code(each.name), f"{each.gpus} × {each.gpu}", f"{each.gpu_memory_gib:g}", str(each.sm))
        for each in load_shapes()
    ]
    rows += [
        (code(each.name), f"CPU, {each.ocpus} OCPUs, {each.memory_gib:g} GiB at most", "", "")
        for each in load_cpu_shapes()
    ]
    return table(("shape", "processors", "GiB a GPU", "SM"), rows)


def server_variables() -> str:
    """The environment variables of the server's container."""
    directory = str(ROOT / "docker/server")
    sys.path.insert(0, directory)
    try:
        from settings import FrontSettings  # type: ignore[import-not-found]
    finally:
        sys.path.remove(directory)
    meanings = attributes(FrontSettings.__doc__ or "")
    rows = [
        (code(f"FALCONRY_{each.name.upper()}"), code(str(each.default)), meanings[each.name])
        for each in fields(FrontSettings)
    ]
    return table(("variable", "default", "meaning"), rows)


def sections(model: type[Table]) -> list[Section]:
    """The TOML tables of a model, the top level first."""
    schema = model.model_json_schema()
    return list(_sections(schema, schema.get("$defs", {}), ""))


def attributes(docstring: str) -> dict[str, str]:
    """What the section `Attributes:` of a docstring says of each name."""
    found: dict[str, str] = {}
    names: list[str] = []
    _, _, body = docstring.partition("Attributes:\n")
    lines = body.splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=4)
    for line in (each[margin - 4 :] for each in lines):
        if match := _NAME.match(line):
            names = match["names"].split(", ")
            found |= dict.fromkeys(names, match["text"])
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found


def _tables(found: list[Section]) -> str:
    parts = []
    for each in found:
        rows = [(code(own.key), own.kind, own.default, own.meaning) for own in each.settings]
        title = f"### `{each.title}`\n\n{each.about}\n\n" if each.title else ""
        parts.append(f"{title}{table(_HEAD, rows)}")
    return "\n\n".join(parts)


def _sections(
    schema: Mapping[str, Any], models: Mapping[str, Any], path: str, many: bool = False
) -> Iterator[Section]:
    words = str(schema.get("description", ""))
    meanings = attributes(words)
    settings, below = [], []
    for key, own in schema["properties"].items():
        name = f"{path}.{key}" if path else key
        model, is_list = _model_of(own, models)
        if model is not None and not is_list:
            below.append((model, name, False))
            continue
        if model is not None:
            below.append((model, name, True))
        default = _default(own, required=key in schema.get("required", ()))
        settings.append(Setting(path, key, _kind(own), default, meanings.get(key, "")))
    title = f"[[{path}]]" if many else f"[{path}]" if path else ""
    about = " ".join(words.partition("Attributes:")[0].split())
    yield Section(title, about, tuple(settings))
    for model, name, is_many in below:
        yield from _sections(model, models, name, is_many)


def _model_of(
    own: Mapping[str, Any], models: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, bool]:
    """The model of a key that is a table, or a list of tables."""
    for each in own.get("anyOf", [own]):
        for kind, is_list in ((each, False), (each.get("items", {}), True)):
            if "$ref" in kind:
                model = models[kind["$ref"].rpartition("/")[2]]
                if "properties" in model:
                    return model, is_list
    return None, False


def _kind(own: Mapping[str, Any]) -> str:
    choices = [each for each in own.get("anyOf", [own]) if each.get("type") != "null"]
    return " or ".join(dict.fromkeys(map(_one_kind, choices)))


def _one_kind(own: Mapping[str, Any]) -> str:
    if "enum" in own or "const" in own:
        return ", ".join(code(str(each)) for each in own.get("enum", [own.get("const")]))
    if own.get("type") == "array":
        items = own.get("items", {})
        return "list of tables" if "$ref" in items else f"list of {_kind(items)}"
    if own.get("type") == "object":
        return "table of texts"
    named = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}
    word = "path" if own.get("format") == "path" else named[own["type"]]
    least = own.get("minimum", own.get("exclusiveMinimum"))
    if least is None:
        return word
    above = "above" if "exclusiveMinimum" in own else "from"
    most = f" to {own['maximum']:g}" if "maximum" in own else ""
    return f"{word} {above} {least:g}{most}"


def _default(own: Mapping[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    value = own.get("default")
    if value in (None, [], {}):
        return ""
    return code(value if isinstance(value, str) else json.dumps(value))
