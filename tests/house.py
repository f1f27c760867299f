"""Checks the rules of the house: who imports what, how long modules are, which words they use.

Each rule is a function that returns its violations as sentences; tests/test_house.py runs them on
this checkout, with tests/data/house.toml as the limits and the list of exceptions.

    python -m tests.house        writes lower numbers into house.toml where the code allows it
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RULES = ROOT / "tests/data/house.toml"
PACKAGES = ("falconry", "local_oci")


@dataclass(frozen=True)
class Import:
    """One module that another one imports.

    Attributes:
        type_only: whether it is inside `if TYPE_CHECKING:`.
    """

    importer: str
    imported: str
    type_only: bool

    def __str__(self) -> str:
        return f"{self.importer} -> {self.imported}"


@dataclass(frozen=True)
class Module:
    """A Python file of a package."""

    name: str
    path: Path
    text: str
    tree: ast.Module = field(repr=False)


@dataclass(frozen=True)
class Code:
    """The modules of some packages and all their imports, also those inside functions."""

    modules: Mapping[str, Module]
    imports: Sequence[Import]

    @classmethod
    def read(cls, root: Path, packages: Iterable[str] = PACKAGES) -> Code:
        """Reads every Python file of these packages below a directory."""
        modules = {}
        for package in packages:
            for path in sorted((root / package).rglob("*.py")):
                name = ".".join(path.relative_to(root).with_suffix("").parts)
                name = name.removesuffix(".__init__")
                text = path.read_text(encoding="utf-8")
                modules[name] = Module(name, path, text, ast.parse(text, str(path)))
        imports = [
            Import(name, imported, type_only)
            for name, module in modules.items()
            for imported, type_only in _imports(module, modules)
            if imported != name
        ]
        return cls(modules, list(dict.fromkeys(imports)))


def circles(code: Code) -> list[str]:
    """Finds a circle of imports; those that only type checkers see make none at run time."""
    graph: dict[str, set[str]] = {name: set() for name in code.modules}
    for each in code.imports:
        if not each.type_only and each.imported in graph:
            graph[each.importer].add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"import circle: {' -> '.join(reversed(error.args[1]))}"]
    return []


def crossings(code: Code) -> list[str]:
    """Finds imports between falconry and local_oci."""
    return [
        f"{each}: falconry and local_oci never import each other"
        for each in code.imports
        if _top(each.imported) in PACKAGES and _top(each.imported) != _top(each.importer)
    ]


def downward(code: Code, floors: Sequence[Sequence[str]], allowed: Sequence[str]) -> list[str]:
    """Finds imports from a lower floor; type-only imports count too.

    Args:
        code: the modules.
        floors: names of packages and modules, top floor first. The longest matching name decides.
        allowed: today's exceptions.
    """
    level = {name: number for number, floor in enumerate(floors) for name in floor}
    used: set[str] = set()

    def of(module: str) -> int | None:
        found = _longest(module, level)
        if found is None:
            return None
        used.add(found)
        return level[found]

    package = {_top(name) for name in level}
    problems = [
        f"{module} is on no floor; add it to floors"
        for module in code.modules
        if _top(module) in package and module not in package and of(module) is None
    ]
    found = {}
    for each in code.imports:
        here, there = of(each.importer), of(each.imported)
        if here is not None and there is not None and there > here:
            found[str(each)] = f"{each}: an import goes up the floors, never down"
    problems += [f"floors: there is no {name}; delete it" for name in level if name not in used]
    return [*problems, *_less(found, allowed, "down")]


def outside(
    code: Code,
    package: str,
    may: Sequence[str],
    allowed: Sequence[str],
    but: Sequence[str] = (),
) -> list[str]:
    """Finds what a package imports of the project beyond itself and what it may.

    Its modules `but` are not looked at.
    """
    found = {
        str(each): f"{each}: {package} imports only {', '.join(may) or 'itself'}"
        for each in code.imports
        if _within(each.importer, [package])
        and each.importer not in but
        and _top(each.imported) in PACKAGES
        and not _within(each.imported, [package, *may])
    }
    return _less(found, allowed, package)


def cloud_importers(
    code: Code, cloud: str, endings: Sequence[str], modules: Sequence[str], allowed: Sequence[str]
) -> list[str]:
    """Finds modules that import the object holding all state, and may not.

    Args:
        code: the modules.
        cloud: the module of that object. What it imports itself, however far, never may.
        endings: how the last part of a module's name ends that may.
        modules: others that may.
        allowed: today's exceptions.
    """
    imported: dict[str, set[str]] = {}
    for each in code.imports:
        imported.setdefault(each.importer, set()).add(each.imported)
    held: set[str] = set()
    waiting = list(imported.get(cloud, ()))
    while waiting:
        module = waiting.pop()
        if module not in held:
            held.add(module)
            waiting += imported.get(module, ())
    problems, found = [], {}
    for each in code.imports:
        if each.imported != cloud:
            continue
        if each.importer in held:
            problems.append(f"{each}: {cloud} holds it, so it never imports {cloud}")
        elif each.importer not in modules and not each.importer.endswith(tuple(endings)):
            found[str(each)] = f"{each}: only {', '.join(endings)} import {cloud}"
    return [*problems, *_less(found, allowed, "cloud")]


def service_imports(
    code: Code, machinery: Sequence[str], services: Sequence[str], allowed: Sequence[str]
) -> list[str]:
    """Finds services that machinery imports."""
    found = {
        str(each): f"{each}: {', '.join(machinery)} import no service"
        for each in code.imports
        if _within(each.importer, machinery) and _within(each.imported, services)
    }
    problems = [
        f"services: there is no {name}; delete it"
        for name in (*machinery, *services)
        if not any(_within(module, [name]) for module in code.modules)
    ]
    return [*problems, *_less(found, allowed, "services")]


def third_party(code: Code, places: Mapping[str, Sequence[str]]) -> list[str]:
    """Finds imports of a library outside the packages and modules that it belongs in.

    A type-only import is free: naming a library's client as a type is not using it.
    """
    problems = []
    for library, homes in places.items():
        importers = [
            each.importer
            for each in code.imports
            if _top(each.imported) == library and not each.type_only
        ]
        problems += [
            f"{importer} -> {library}: only {', '.join(homes) or 'nothing here'} may import it"
            for importer in dict.fromkeys(importers)
            if not _within(importer, homes)
        ]
        problems += [
            f"[third_party] {library}: {home} does not import it; delete the entry"
            for home in homes
            if not any(_within(importer, [home]) for importer in importers)
        ]
    return problems


def container_imports(root: Path, paths: Sequence[str]) -> list[str]:
    """Finds imports of falconry or local_oci in files that go into a container by themselves."""
    problems = []
    for path in python_files(root, paths):
        module = Module(path.stem, path, "", ast.parse(path.read_text(encoding="utf-8")))
        for name in dict.fromkeys(name for name, _ in _imports(module, {})):
            if _top(name) in PACKAGES:
                problems.append(
                    f"{path.relative_to(root)} -> {name}: the container does not have {_top(name)}"
                )
    return problems


def lengths(root: Path, paths: Sequence[str], limit: int) -> dict[str, int]:
    """Counts the lines of the modules that have more than the limit."""
    counted = {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(root, paths)
    }
    return {name: lines for name, lines in counted.items() if lines > limit}


def name_counts(code: Code, patterns: Iterable[str]) -> dict[str, int]:
    """Counts the uses of whole identifiers, by patterns such as `*_told`."""
    counted: Counter[str] = Counter()
    for module in code.modules.values():
        counted.update(_identifiers(module.tree))
    return {
        pattern: sum(uses for name, uses in counted.items() if fnmatchcase(name, pattern))
        for pattern in patterns
    }


def phrase_counts(code: Code, phrases: Iterable[str]) -> dict[str, int]:
    """Counts words anywhere in a module: in comments, texts and parts of names.

    Args:
        code: the modules.
        phrases: regular expressions; case and the ends of lines make no difference.
    """
    texts = [re.sub(r"\s+(?:#\s*)?", " ", module.text) for module in code.modules.values()]
    counts = {}
    for phrase in phrases:
        pattern = re.compile(rf"(?<![a-z])(?:{phrase})(?![a-z])", re.IGNORECASE)
        counts[phrase] = sum(len(pattern.findall(text)) for text in texts)
    return counts


def not_above(actual: Mapping[str, int], recorded: Mapping[str, int], table: str) -> list[str]:
    """Compares numbers with the recorded ones, which only ever go down."""
    problems = []
    for name in dict.fromkeys([*actual, *recorded]):
        now, then = actual.get(name, 0), recorded.get(name, 0)
        if now > then:
            problems.append(f"[{table}] {name}: {now}, and {then} is the most that there may be")
        elif now < then:
            problems.append(
                f"[{table}] {name}: {now} now, {then} recorded; run: python -m tests.house"
            )
    return problems


def lowered(text: str, actual: Mapping[str, Mapping[str, int]]) -> str:
    """The rules' text with lower numbers where the actual ones are lower.

    Args:
        text: of house.toml.
        actual: numbers by table and key; a key that is not there stands for 0.
    """
    lines, table = [], ""
    for line in text.splitlines(keepends=True):
        if heading := re.match(r"\[([\w.]+)\]", line):
            table = heading[1]
        row = re.match(r"""(?:"([^"]+)"|'([^']+)'|(\w+)) = (\d+)""", line)
        if row and table in actual:
            name = row[1] or row[2] or row[3]
            now = min(actual[table].get(name, 0), int(row[4]))
            if table == "modules.longer" and not now:
                continue
            line = line[: row.start(4)] + str(now) + line[row.end(4) :]
        lines.append(line)
    return "".join(lines)


def numbers(code: Code, root: Path, rules: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """All numbers that house.toml records, as they are now, by table."""
    sizes, words = rules["modules"], rules["words"]
    return {
        "modules.longer": lengths(root, sizes["counted"], sizes["limit"]),
        "words.names": name_counts(code, words["names"]),
        "words.phrases": phrase_counts(code, words["phrases"]),
    }


def record_lower_numbers(path: Path = RULES, root: Path = ROOT) -> None:
    """Writes lower numbers into the rules where the code allows it."""
    text = path.read_text(encoding="utf-8")
    actual = numbers(Code.read(root), root, read_rules(path))
    path.write_text(lowered(text, actual), encoding="utf-8")


def read_rules(path: Path = RULES) -> dict[str, Any]:
    """The limits and exceptions of this checkout."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def python_files(root: Path, paths: Sequence[str]) -> Iterator[Path]:
    """The Python files among some files and below some directories, which all exist."""
    for path in (root / name for name in paths):
        if not path.exists():
            raise FileNotFoundError(path)
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _less(found: Mapping[str, str], allowed: Sequence[str], table: str) -> list[str]:
    problems = [sentence for name, sentence in found.items() if name not in allowed]
    unneeded = [name for name in allowed if name not in found]
    return problems + [
        f"[exceptions] {table}: '{name}' is not needed; delete it" for name in unneeded
    ]


def _imports(module: Module, modules: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """What a module imports, and whether only type checkers see it."""
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package.pop()

    def names(statement: ast.stmt) -> Iterator[str]:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            base = package[: len(package) - statement.level + 1] if statement.level else []
            source = ".".join([*base, *([statement.module] if statement.module else [])])
            for alias in statement.names:
                submodule = f"{source}.{alias.name}"
                yield submodule if submodule in modules else source

    def walk(node: ast.AST, type_only: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.stmt):
            yield from ((name, type_only) for name in names(node))
        hidden: list[ast.stmt] = []
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            hidden = node.body
        for child in ast.iter_child_nodes(node):
            yield from walk(child, type_only or child in hidden)

    yield from walk(module.tree, False)


def _identifiers(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                if isinstance(node, ast.ImportFrom) and node.module:
                    yield from node.module.split(".")
                for alias in names:
                    yield from alias.name.split(".")
                    if alias.asname:
                        yield alias.asname
            case _:
                pass


def _top(module: str) -> str:
    return module.partition(".")[0]


def _within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _longest(module: str, names: Iterable[str]) -> str | None:
    return max((name for name in names if _within(module, [name])), key=len, default=None)


if __name__ == "__main__":
    record_lower_numbers()
