"""Tables of failures and their remedies, from those that the code itself looks them up in."""

from __future__ import annotations

from pathlib import Path

from falconry.data_files import read_toml
from falconry.deployment.failures import KNOWN
from falconry.docker_engine.registry_errors import MEANINGS
from falconry.endpoint.errors import (
    REMEDIES,
    REMEDIES_BY_CODE,
    REMEDIES_BY_WORDS,
    STREAM_REMEDIES,
)
from falconry.engine.tensorrt_llm.build_log import CLUES
from falconry.engine.toolchain import load_toolchains
from scripts.docs.markdown import code, table

ROOT = Path(__file__).resolve().parents[2]
_WHAT_TO_DO = "what to do"


def deployment_failures() -> str:
    """What the cloud and the container say when a deployment fails."""
    rows = [(each.symptom, each.remedy) for each in KNOWN]
    return table(("what the cloud or the container says", _WHAT_TO_DO), rows)


def build_failures() -> str:
    """What a GPU build reports."""
    rows = [(each.problem.replace("{0}", "…"), each.remedy) for each in CLUES]
    return table(("what the build reports", _WHAT_TO_DO), [row for row in rows if row[0] != "…"])


def registry_refusals() -> str:
    """What a registry's refusal means."""
    return table(
        ("what the error says", _WHAT_TO_DO), [(each.problem, each.remedy) for each in MEANINGS]
    )


def endpoint_refusals() -> str:
    """What an endpoint's refusal means."""
    rows = [(code(words), remedy) for words, remedy in REMEDIES_BY_WORDS.items()]
    rows += [(code(name), remedy) for name, remedy in REMEDIES_BY_CODE.items()]
    rows += [(f"{code(name)}, in a stream", text) for name, text in STREAM_REMEDIES.items()]
    rows += [(code(str(status)), remedy) for status, remedy in REMEDIES.items()]
    return table(("status, code or words of the answer", _WHAT_TO_DO), rows)


def retired_toolchains() -> str:
    """Releases that are refused, with the one to take."""
    retired = load_toolchains().retired
    rows = [(code(name), row.reason, code(row.take)) for name, row in retired.items()]
    return table(("toolchain", "why it is refused", "take"), rows)


def unsupported_models() -> str:
    """Checkpoints that are recognised and not built, with what to use instead."""
    tables = read_toml(ROOT / "falconry/checkpoint/unsupported_models.toml")
    rows = [
        (row["models"], f"{subject} {row['reason']}", row["instead"])
        for kind, subject in (("quantisations", "its config.json"), ("model_types", "it"))
        for row in tables[kind].values()
    ]
    return table(("models", "why", _WHAT_TO_DO), rows)
