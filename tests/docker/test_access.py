"""Which requests the front passes on to Triton, and what it says of the others."""

import itertools
import json

import pytest

from tests.docker.front_support import front_module

MODEL = "/v2/models/tensorrt_llm_bls"
OPEN = {
    "/v2": "GET",
    "/v2/health/live": "GET",
    "/v2/health/ready": "GET",
    "/v2/models/stats": "GET",
    **{f"{MODEL}{end}": "GET" for end in ("", "/ready", "/config", "/stats")},
    f"{MODEL}/versions/1": "GET",
    f"{MODEL}/versions/1/stats": "GET",
    f"{MODEL}/infer": "POST",
    f"{MODEL}/generate": "POST",
    f"{MODEL}/versions/12/generate_stream": "POST",
}
# What Triton 2.51 has besides, and what its protocols' documents name.
CLOSED = [
    "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/mine/status",
    "/v2/systemsharedmemory/region/mine/register",
    "/v2/systemsharedmemory/unregister",
    "/v2/cudasharedmemory/status",
    "/v2/cudasharedmemory/region/mine/register",
    "/v2/cudasharedmemory/region/mine/unregister",
    "/v2/repository/index",
    "/v2/repository/mine/index",
    f"/v2/repository/models/{MODEL.rpartition('/')[2]}/load",
    f"/v2/repository/models/{MODEL.rpartition('/')[2]}/unload",
    "/v2/repository/mine/models/a/unload",
    "/v2/logging",
    "/v2/trace/setting",
    f"{MODEL}/trace/setting",
    f"{MODEL}/versions/1/trace/setting",
    f"{MODEL}/versions/1/load",
    "/v2/something/new",
    f"{MODEL}/something_new",
    "/v3/models",
    "/",
    "",
    "*",
]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "BREW"]


@pytest.fixture(scope="module")
def access():
    return front_module("access")


def spellings(path):
    """Other ways to write a path, which some server or proxy takes for the same."""
    yield from (
        f"/{path}",
        f"{path}/",
        f"{path}//",
        f"/.{path}",
        f"/v2/..{path}",
        f"/v2/%2e%2e{path}",
    )
    yield from (f"{path};x", f"{path}%00", f"{path}%20", f"{path}\x00", f"{path}\n", f"{path} ")
    yield from (path.upper(), path.title(), path.replace("/v2", "/v02"), path.replace("/v2", "/V2"))
    yield from (f"http://127.0.0.1:8000{path}", path.removeprefix("/"), f"/v2/health/live/..{path}")
    yield path.replace("e", "\u0435")  # Cyrillic
    for index, character in enumerate(path):
        for digits in (f"{ord(character):02x}", f"{ord(character):02X}", f"25{ord(character):02x}"):
            yield f"{path[:index]}%{digits}{path[index + 1 :]}"
        if character == "/":
            for doubled in ("//", "/./", "/%2f", "%5c", "\\", "/x/../"):
                yield f"{path[:index]}{doubled}{path[index + 1 :]}"


def refusal(access, method, target):
    with pytest.raises(front_module("errors").ApiError) as refused:
        access.open_route(method, target)
    return refused.value


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_is_passed_on_for_its_one_method(access, path):
    assert access.open_route(OPEN[path], path).path == path
    assert access.open_route(OPEN[path], f"{path}?a=/v2/logging").path == path
    for method in set(METHODS) - {OPEN[path]}:
        refused = refusal(access, method, path)
        assert refused.status == 405
        assert OPEN[path] in refused.message


@pytest.mark.parametrize("path", CLOSED)
def test_the_rest_is_closed_with_the_reason_for_every_method(access, path):
    for method in METHODS:
        refused = refusal(access, method, path)
        assert refused.status == 403
        assert "shared memory, logging, trace settings and the model repository" in refused.message
        assert "mine" not in refused.message


@pytest.mark.parametrize("path", [*CLOSED[:-3], *OPEN])
def test_no_other_spelling_of_a_path_is_open(access, path):
    # `stats` and the like can also be the name of a model, and that is what Triton takes it for.
    for method, spelling in itertools.product(["GET", "POST"], set(spellings(path)) - set(OPEN)):
        assert refusal(access, method, spelling).status == 403, spelling


@pytest.mark.parametrize(
    "name", ["..", ".", "a%2fb", "a/b/c", "", "a b", "\u0430", "a" * 300, "%2e"]
)
def test_a_models_name_is_no_way_out(access, name):
    assert refusal(access, "GET", f"/v2/models/{name}/config").status == 403


REGION = {"shared_memory_region": "secret-region", "shared_memory_byte_size": 8}


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [{"name": "a", "parameters": REGION}]},
        {"inputs": [{"name": "a"}, {"name": "b", "parameters": {"shared_memory_offset": 0}}]},
        {"inputs": [], "outputs": [{"name": "c", "parameters": REGION}]},
        {"inputs": [], "parameters": {"Shared_Memory_Region": "secret-region"}},
    ],
)
def test_a_body_that_names_a_region_is_refused_without_its_name(access, body):
    with pytest.raises(front_module("triton_bodies").InvalidBodyError) as refused:
        access.refuse_parameters(body, "connection")
    assert "shared memory is closed" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("where", [{"parameters": {"connection": "x"}}, None])
def test_only_the_front_names_a_connection(access, where):
    body = where or {"inputs": [{"parameters": {"connection": "x"}}]}
    with pytest.raises(front_module("triton_bodies").InvalidBodyError, match="connection"):
        access.refuse_parameters(body, "connection")


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [{"name": "shared_memory_region", "parameters": {"binary_data_size": 4}}]},
        {
            "outputs": [{"parameters": {"binary_data": True}}],
            "parameters": {"binary_data_output": True},
        },
        {"inputs": 5, "outputs": [7, None], "parameters": "shared_memory_region"},
    ],
)
def test_other_parameters_are_passed_on(access, body):
    access.refuse_parameters(body, "connection")


# Of http_server.cc and shared_memory_manager.cc of Triton 2.51, and shm_manager.cc of its Python
# backend.
REGION_ERRORS = [
    "Unable to find shared memory region: 'secret'",
    "Failed to increase the shared memory pool size for key 'triton_python_backend_shm_secret' to "
    "67108864 bytes. If you are running Triton inside docker, use '--shm-size' flag",
    "unable to get shared memory key 'secret_7' from backend shared memory manager",
    "Unable to open shm: '/secret'",
]


@pytest.mark.parametrize("error", REGION_ERRORS)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("data: ", "\n\n")])
def test_no_error_names_a_region(access, error, before, after):
    answer = f"{before}{json.dumps({'error': error}, separators=(',', ':'))}{after}".encode()
    without = access.error_without_regions(answer)
    assert b"secret" not in without
    assert without.endswith(after.encode())
    assert list(json.loads(without.decode().removeprefix("data: "))) == ["error"]
    assert "secret" not in access.without_regions(error)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error":"max_tokens is 0"}',
        b'{"text_output":"{\\"error\\": shared memory region"}',
        b'data: {"text_output":"shared memory"}\n\n',
    ],
)
def test_answers_and_other_errors_stay_as_they_are(access, answer):
    assert access.error_without_regions(answer) == answer
