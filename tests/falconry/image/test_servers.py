"""What the server images are built from."""

import io
import re
import tarfile
from pathlib import Path

import pytest

from falconry.engine.toolchain import load_toolchains
from falconry.errors import SettingsError
from falconry.image.build import copied_stages
from falconry.image.server_images import (
    composed_image,
    cpu_image,
    locked_rows,
    server_files,
    server_image,
    trtllm_image,
)
from falconry.settings import load_settings

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()


def members(context):
    with tarfile.open(fileobj=io.BytesIO(context)) as tar:
        return {
            member.name: tar.extractfile(member).read() if member.isfile() else None
            for member in tar.getmembers()
        }


def test_rows_of_the_lock_keep_their_version_and_every_digest():
    rows = locked_rows(LOCK, ["idna"])
    version, *digests = [line.strip(" \\") for line in rows.splitlines()]
    assert re.fullmatch(r"idna==[\d.]+", version)
    assert digests
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in digests)
    whole = LOCK.split(f"{version} \\\n")[1]
    assert len(digests) == len(re.match(r"(?:    --hash\S+.*\n)+", whole)[0].splitlines())


def test_a_package_that_is_not_locked_is_named():
    with pytest.raises(SettingsError, match="has no row for left-pad; run: make lock"):
        locked_rows(LOCK, ["idna", "left-pad"])


def test_the_profile_s_builder_decides_the_image():
    assert server_image(load_settings(ROOT)).name == "triton-cpu"
    assert server_image(load_settings(ROOT, "oci")).name == "triton-trtllm"


def test_the_cpu_image_needs_a_base():
    settings = load_settings(ROOT)
    without = settings.model_copy(
        update={"image": settings.image.model_copy(update={"base": None})}
    )
    with pytest.raises(SettingsError, match=r"image\.base"):
        cpu_image(without)


@pytest.mark.parametrize("row", load_toolchains().rows)
def test_a_gpu_image_stands_on_its_toolchain_and_says_which_that_is(row):
    source = trtllm_image(row)
    assert source.bases["BASE"].startswith(row.image)
    assert source.version == row.release
    assert source.labels["io.falconry.tensorrt-llm"] == row.tensorrt_llm
    assert source.labels["io.falconry.tensorrt"] == row.tensorrt
    assert source.labels["io.falconry.sm"] == ",".join(map(str, row.sm))
    assert "org.opencontainers.image.licenses" in source.labels


def test_a_gpu_image_is_taken_by_digest_where_that_is_known():
    row = load_toolchains().row(None)
    digest = f"sha256:{64 * 'a'}"
    pinned = trtllm_image(row.model_copy(update={"digest": digest}))
    assert pinned.bases["BASE"] == f"{row.image}@{digest}"


# Everything that a build context holds: no engine, no tokenizer and no credential.
CONTEXT = {
    "Dockerfile",
    "requirements.txt",
    "server/access.py",
    "server/admission.py",
    "server/compression.py",
    "server/connections.py",
    "server/entrypoint.py",
    "server/errors.py",
    "server/front.py",
    "server/front_model.py",
    "server/health.py",
    "server/infer.py",
    "server/metrics.py",
    "server/model_configs.py",
    "server/openai_api/__init__.py",
    "server/openai_api/fields.py",
    "server/openai_api/formats.py",
    "server/openai_api/logprobs.py",
    "server/openai_api/messages.py",
    "server/openai_api/refusals.py",
    "server/openai_api/requests.py",
    "server/openai_api/responses.py",
    "server/openai_api/routes.py",
    "server/openai_api/tool_calls.py",
    "server/parts.py",
    "server/processes.py",
    "server/proxy.py",
    "server/request_bodies.py",
    "server/request_log.py",
    "server/running.py",
    "server/settings.py",
    "server/supervisor.py",
    "server/triton_bodies.py",
    "server/triton_client.py",
    "server/tritonserver.py",
}


def sources():
    local, oci = load_settings(ROOT), load_settings(ROOT, "oci")
    composed = composed_image("backends=onnxruntime,python", load_toolchains().row(None), oci.image)
    return [server_image(local), server_image(oci), composed]


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_the_build_context_is_this_list_of_files(source):
    names = {name for name, data in members(source.context(None)).items() if data is not None}
    assert names == CONTEXT


def test_a_file_beside_the_servers_code_is_not_in_the_context(tmp_path, monkeypatch):
    server = tmp_path / "docker/server"
    server.mkdir(parents=True)
    for name in ("front.py", ".env", "id_rsa", "model.safetensors"):
        (server / name).write_text("x")
    monkeypatch.setattr("falconry.image.server_images.project_file", tmp_path.joinpath)
    assert server_files() == {"server/front.py": b"x"}


def test_certificates_are_in_the_context_and_decide_nothing(tmp_path):
    source = server_image(load_settings(ROOT))
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("certificates")
    assert members(source.context(bundle))["certificates/ca.crt"] == b"certificates"
    assert "certificates/ca.crt" not in members(source.context(None))
    assert source.context(bundle) == source.context(bundle)


def test_every_file_of_the_server_and_the_base_are_ingredients():
    source = server_image(load_settings(ROOT))
    other = server_image(load_settings(ROOT, overrides="image.base=debian:bookworm-slim"))
    assert source.inputs()["base"] != other.inputs()["base"]
    assert source.inputs()["files"] == other.inputs()["files"]


def test_the_stages_that_an_image_only_copies_from_are_found():
    for name in ("triton-cpu", "triton-trtllm"):
        assert copied_stages((ROOT / f"docker/{name}.Dockerfile").read_text()) == ["build"]
    dockerfile = """
FROM a AS only-named
# a comment
from b as Base
RUN true
FROM Base AS tools
RUN make
FROM Base
COPY --from=tools /x /
RUN true
"""
    assert copied_stages(dockerfile) == ["tools"]
