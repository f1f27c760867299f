"""Soaks a server with 200 mixed requests at a time: `python -m scripts.soak`.

It serves the tiny Falcon, whose correct answers are known, on a real Triton with the front.
Complete, streamed, short, abandoned, stopped and malformed requests come over plain HTTP, OpenAI's
API and NVIDIA's client library. Tokens a second and the time to the first text are reported. The
exit status is 1 when an answer was wrong, or when the server has kept memory, threads, open files
or slots; 2 when the soak could not be run. The server's log stays in build/soak.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from falconry.errors import FalconryError, format_error_with_details
from falconry.pipeline import Workspace
from falconry.progress import Progress
from falconry.settings import load_settings
from scripts.real_triton import assembled_repository
from scripts.soak.load import CHECKPOINT
from scripts.soak.soak import SoakError, soak

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Soaks, prints the report, and returns the exit status."""
    options = _options()
    directory, progress = ROOT / "build" / "soak", Progress(sys.stdout)
    repository = _repository(directory, progress, options.set)

    def report(phase: str, fraction: float, figures: str) -> None:
        progress.running("soak", f"{phase} · {figures}", fraction)

    soaked = soak(repository, directory, options.seconds, report)
    faults = soaked.faults()
    if faults:
        progress.failed("soak", f"{len(faults)} faults")
    else:
        progress.done("soak", "no fault")
    print(soaked.report())
    for fault in faults:
        print(f"  {fault}")
    return int(bool(faults))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds", type=float, default=120, help="how long the load lasts, besides its warm-up"
    )
    parser.add_argument(
        "--set", default="", help='values of the profile local, such as "serving.port=9000"'
    )
    return parser.parse_args()


def _repository(directory: Path, progress: Progress, overrides: str) -> Path:
    """The tiny Falcon's repository, of the profile local."""
    settings = load_settings(ROOT, checkpoint=str(CHECKPOINT), overrides=overrides)
    workspace = Workspace.open(directory, progress)
    return assembled_repository(settings, workspace)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FalconryError as error:
        print(format_error_with_details(error), file=sys.stderr)
        sys.exit(2)
    except (SoakError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        sys.exit(2)
