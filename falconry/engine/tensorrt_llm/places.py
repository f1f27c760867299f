"""Where things are inside the build container; `engine/build.py` is told by plan.json alone."""

from __future__ import annotations

from pathlib import PurePosixPath

ROOT = PurePosixPath("/falconry")

# Mounted read-only.
BUILD_SCRIPT = ROOT / "build.py"
ANSWER_SCRIPT = ROOT / "answer.py"
CHECKPOINT = ROOT / "checkpoint"
CALIBRATION = ROOT / "calibration"

# Mounted writable: removed after the build, kept as the engine, kept between builds.
SCRATCH = ROOT / "scratch"
OUTPUT = ROOT / "engine"
CACHE = ROOT / "cache"

PLAN = SCRATCH / "plan.json"
REPORT = SCRATCH / "report.json"
QUESTION = SCRATCH / "question.json"
ENGINE_ANSWERS = SCRATCH / "engine_answers.json"
REFERENCE_ANSWERS = SCRATCH / "reference_answers.json"
CONVERTED = SCRATCH / "checkpoint"
TIMING_CACHE = CACHE / "model.cache"
