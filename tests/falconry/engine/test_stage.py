"""The engine stage around its builder: what the mirror may and may not do to a build."""

import io
from pathlib import Path

from falconry.engine.stage import EngineStage
from falconry.errors import CloudError
from falconry.pipeline import Step, Workspace, run_stages
from falconry.progress import Progress
from falconry.settings import load_settings

ROOT = Path(__file__).parents[3]


def test_a_cloud_that_is_not_there_does_not_keep_an_engine_from_being_built(tmp_path):
    settings = load_settings(
        ROOT,
        checkpoint=str(ROOT / "tests/data/checkpoints/falcon-rw"),
        overrides=f"engine.store={tmp_path}/store",
    )
    said = io.StringIO()
    workspace = Workspace.open(tmp_path / "build" / "local", Progress(said))

    def no_cloud():
        raise CloudError("the cloud is away", remedy="wait")

    stage = EngineStage(settings, workspace, no_cloud)
    output = run_stages([Step("engine", lambda _: stage)], workspace)

    assert (output.path / "manifest.json").is_file()
    assert "continuing without the mirror: the cloud is away; wait" in said.getvalue()
