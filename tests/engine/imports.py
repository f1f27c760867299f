"""What a program that runs in NVIDIA's images imports."""

import ast


def imported_packages(script):
    """The top-level packages that a script names, read as Python 3.12, that of every image."""
    tree = ast.parse(script.read_text(), feature_version=(3, 12))
    return {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
