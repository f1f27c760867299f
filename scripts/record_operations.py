"""Records the operations of Oracle's services, which local_oci answers with 501 or emulates.

Run it after a change of the SDK's version:

    .venv/bin/python -m scripts.record_operations
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "local_oci/http/operations.txt"

# The SDK's packages and modules of the services that share local_oci's port, or that the CLI and
# ADS turn to beside them.
CLIENTS = {
    "data_science": "data_science_client",
    "object_storage": "object_storage_client",
    "artifacts": "artifacts_client",
    "identity": "identity_client",
    "limits": "limits_client",
    "logging": "logging_management_client",
    "loggingingestion": "logging_client",
    "loggingsearch": "log_search_client",
    "resource_search": "resource_search_client",
    "monitoring": "monitoring_client",
    "secrets": "secrets_client",
    "vault": "vaults_client",
    "data_flow": "data_flow_client",
    "functions": "functions_management_client",
}
_HEAD = """\
# Operations of Oracle's services: method, path and the SDK's name. Recorded from oci {version} by
# scripts/record_operations.py; those that local_oci does not emulate are answered with 501.
"""
_OPERATION = re.compile(
    r'resource_path = "(?P<path>[^"]+)"\s+method = "(?P<method>[A-Z]+)"'
    r'\s+operation_name = "(?P<name>\w+)"'
)
_BASE = re.compile(r"'base_path': '([^']*)'")


def record() -> str:
    """The record as it should be."""
    import oci

    lines = set()
    for package, module in CLIENTS.items():
        spec = importlib.util.find_spec(f"oci.{package}.{module}")
        if spec is None or spec.origin is None:
            raise LookupError(f"oci.{package}.{module}")
        source = Path(spec.origin).read_text(encoding="utf-8")
        found = _BASE.search(source)
        base = found[1].rstrip("/") if found else ""
        for match in _OPERATION.finditer(source):
            lines.add(f"{match['method']} {base}{match['path']} {package}.{match['name']}")
    return _HEAD.format(version=oci.__version__) + "\n".join(sorted(lines)) + "\n"


def main() -> None:
    """Writes the record."""
    RECORD.write_text(record(), encoding="utf-8")
    print(RECORD)


if __name__ == "__main__":
    main()
