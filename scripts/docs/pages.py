"""Pages with generated parts: which there are, and what they should be.

A generated part is between two comments, `<!-- begin NAME -->` and `<!-- end NAME -->`. GitHub does
not show them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.docs import policy_statements, settings_tables, target_tables, trouble_tables

ROOT = Path(__file__).resolve().parents[2]
# By the names in the comments.
PARTS: Mapping[str, Callable[[], str]] = {
    "profile": settings_tables.profile_tables,
    "recipes": settings_tables.recipe_list,
    "cpu-recipe": settings_tables.cpu_recipe_tables,
    "gpu-recipe": settings_tables.gpu_recipe_tables,
    "toolchains": settings_tables.toolchain_table,
    "shapes": settings_tables.shape_table,
    "server-variables": settings_tables.server_variables,
    "targets": target_tables.target_table,
    "deployment-failures": trouble_tables.deployment_failures,
    "build-failures": trouble_tables.build_failures,
    "registry-refusals": trouble_tables.registry_refusals,
    "endpoint-refusals": trouble_tables.endpoint_refusals,
    "policies": policy_statements.statements,
    "unsupported-models": trouble_tables.unsupported_models,
    "retired-toolchains": trouble_tables.retired_toolchains,
}
_PART = re.compile(
    r"(<!-- begin (?P<name>[\w-]+)[^\n]*-->\n).*?(<!-- end (?P=name) -->)", re.DOTALL
)


def outdated_pages() -> dict[Path, str]:
    """The pages whose generated parts differ from the code, with the right text.

    Raises:
        KeyError: a page names a part that does not exist.
    """
    pages = {
        path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))
    }
    current = {path: renewed(text) for path, text in pages.items()}
    return {path: text for path, text in current.items() if text != pages[path]}


def renewed(text: str) -> str:
    """A page with its generated parts written anew."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]()}\n\n{found[3]}", text)


def part_names(text: str) -> list[str]:
    """The names of a page's generated parts."""
    return [found["name"] for found in _PART.finditer(text)]
