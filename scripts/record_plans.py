"""Records `make plan` for each GPU recipe and toolchain in tests/data/plans.

Run it after a change that is meant to change commands, keys or checks, and read the difference:

    .venv/bin/python -m scripts.record_plans
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from pathlib import Path

from falconry.engine.spec import recipe_names
from falconry.engine.toolchain import load_toolchains
from falconry.progress import Progress
from falconry.project import Project
from falconry.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
PLANS = ROOT / "tests" / "data" / "plans"

# A shape that each recipe was written for.
SHAPES = {
    "tiny": "VM.GPU.A10.1",
    "falcon-rw-1b": "VM.GPU.A10.1",
    "falcon-7b": "VM.GPU.A10.1",
    "falcon2-11b": "BM.GPU.A100-v2.8",
    "falcon-40b": "BM.GPU.A100-v2.8",
    "falcon-180b": "BM.GPU.A100-v2.8",
    "falcon3-1b": "VM.GPU.A10.1",
    "falcon3-3b": "VM.GPU.A10.1",
    "falcon3-7b": "VM.GPU.A10.1",
    "falcon3-7b-fp8": "BM.GPU.L40S.4",
    "falcon3-10b": "VM.GPU.A10.2",
    "falcon3-10b-awq": "VM.GPU.A10.1",
}

# A user must name a checkpoint if the recipe pins no commit; this commit represents any.
CHECKPOINTS = {
    recipe: f"hub:tiiuae/{model}@{40 * '0'}"
    for recipe, model in {
        "falcon-180b": "falcon-180B",
        "falcon3-3b": "Falcon3-3B-Instruct",
        "falcon3-7b": "Falcon3-7B-Instruct",
        "falcon3-7b-fp8": "Falcon3-7B-Instruct",
        "falcon3-10b": "Falcon3-10B-Instruct",
        "falcon3-10b-awq": "Falcon3-10B-Instruct",
    }.items()
}

# The key before the image's name, and its beginning in the image's tag.
_IMAGE_KEY = re.compile(
    r"(?<=    key        )[0-9a-f]{64}(?=\n    image )|(?<=-)[0-9a-f]{12}(?=\n)"
)


def gpu_recipes() -> list[str]:
    """The names of the recipes for GPUs."""
    return [name for name in recipe_names() if not name.startswith("cpu")]


def releases() -> list[str]:
    """The releases of all toolchains."""
    return [row.release for row in load_toolchains().rows]


def plan_text(recipe: str, release: str, checkpoint: str | None = None) -> str:
    """What `make plan` prints, without what differs between machines and users.

    Args:
        recipe: a GPU recipe's name.
        release: a toolchain's.
        checkpoint: as for CHECKPOINT=.
    """
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as store:
        settings = load_settings(
            ROOT,
            "oci",
            recipe=recipe,
            checkpoint=checkpoint or CHECKPOINTS.get(recipe),
            overrides=f"engine.toolchain={release} engine.store={store}/store "
            f"deployment.shape={SHAPES[recipe]} cloud.config_file=/no/account",
        )
        before = Path.cwd()
        os.chdir(ROOT)  # as tasks.py does
        try:
            Project(settings, Progress(said)).plan()
        finally:
            os.chdir(before)
        text = said.getvalue().replace(store, "build").replace(f"{ROOT}/", "$PROJECT/")
    text = text.replace("source=build/", "source=$PROJECT/build/")
    # The image's key changes with every edit in docker/, which these plans do not test.
    text = re.sub(_IMAGE_KEY, "$IMAGE_KEY", text)
    return re.sub(r"--user=\d+:\d+", "--user=$USER:$GROUP", text)


def main() -> None:
    """Writes all of them."""
    PLANS.mkdir(exist_ok=True)
    for recipe in gpu_recipes():
        for release in releases():
            path = PLANS / f"{recipe}-{release}.txt"
            path.write_text(plan_text(recipe, release), encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
