"""Checkpoint to answer, by the commands that a user types."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
from tokenizers import Tokenizer
from tritonclient.utils import InferenceServerException

from tests.chromium import browser, needs_chromium
from tests.documents import Page
from tests.end_to_end.walkthrough import answer_of, deployed_by_step_1_4, deployment_of

ROOT = Path(__file__).parents[2]
TINY = ROOT / "checkpoints/tiny-falcon"
FAMILIES = ROOT / "tests/data/checkpoints"
CLOUD = "Explain Cloud Computing to a school kid"
# The request of the user's document, as it stands there.
DOCUMENT = """{"text_input": "Explain Cloud Computing to a school kid", "max_tokens": 30, \
"bad_words": ["now", "process"], "stop_words": [""], "top_k": 20, "top_p": 1, "end_id": 3, \
"pad_id": 2}"""


@pytest.fixture(scope="module")
def deployed(clone):
    """A clone in which `make deploy` has run once."""
    output = clone.ok("deploy").output
    assert "ACTIVE" in output
    assert output.rstrip().endswith(f'Next: make query PROMPT="{CLOUD}"')
    return clone


def test_the_answer_is_the_one_that_transformers_gives(deployed, sentences):
    for prompt in (CLOUD, *list(sentences)[-2:]):
        assert deployed.ok("query", f"PROMPT={prompt}").answer == sentences[prompt]


def test_the_documents_request_works_as_it_stands(deployed):
    answer = deployed.ok("query", f"BODY={DOCUMENT}").answer
    assert answer.startswith("Cloud")


def test_the_walkthroughs_request_prints_the_answer(deployed):
    _, own = deployment_of(deployed)
    (text,) = answer_of(deployed, own.model_deployment_url)
    assert text.startswith("Cloud")


def test_a_deployment_as_in_the_walkthrough_answers_its_request(deployed):
    """Oracle's own mapping, and the artifact that `make deploy` has made."""
    with deployed_by_step_1_4(deployed) as url:
        (text,) = answer_of(deployed, url)
    assert text.startswith("Cloud")


def test_shell_and_make_characters_in_a_prompt_arrive_as_typed(deployed):
    prompt = "cost $HOME $(shell echo no) `x` \"q\" 'p' \\ % # é"
    body = json.dumps({"text_input": prompt, "max_tokens": 1, "exclude_input_in_output": False})
    assert deployed.ok("query", f"BODY={body}").answer.startswith(prompt)
    assert deployed.run("query", f"PROMPT={prompt}").status == 0


def test_deploying_again_does_nothing_and_says_so(deployed):
    before = deployed.state()
    output = deployed.ok("deploy").output
    assert output.count("up to date") == 5
    assert "made" not in output
    assert deployed.state() == before


def test_deploying_again_asks_the_cloud_once_and_the_deployment_one_question(deployed):
    health, deployments, question = deployed.requests_of("deploy")
    assert health.startswith("GET /_local/health")
    assert deployments.startswith("GET /20190101/modelDeployments?")
    assert question.startswith("POST /ocid1.datasciencemodeldeployment.")


@pytest.mark.parametrize(
    "words",
    [
        ("help",),
        *(
            # They print by what `status` prints by.
            pytest.param(words, marks=pytest.mark.long)
            for words in (("plan",), ("status", "JSON=1"), ("shapes",), ("engines",), ("doctor",))
        ),
        ("status",),
        ("logs",),
        ("query", f"PROMPT={CLOUD}", "STREAM=1"),
    ],
    ids=" ".join,
)
def test_what_only_tells_ends_quietly_when_its_reader_has_had_enough(deployed, words):
    assert deployed.unread(*words) == (0, "")


@pytest.mark.parametrize("target", ["deploy", "lint"])
def test_work_stops_without_a_traceback_when_nobody_reads_of_it(deployed, target):
    status, complaints = deployed.unread(target)
    assert status != 0
    assert complaints.splitlines()[-1].startswith("make: ***")
    assert "Traceback" not in complaints
    assert "BrokenPipe" not in complaints


def test_a_plan_of_what_is_done_runs_nothing(deployed):
    output = deployed.ok("plan").output
    assert output.count("up to date") == 5


def test_status_and_logs_tell_of_the_deployment(deployed):
    status = deployed.ok("status").output
    assert "ACTIVE" in status
    assert "http://127.0.0.1:" in status
    assert "Started HTTPService" in deployed.ok("logs", "LINES=5000").output


def test_status_as_json_tells_what_is_deployed(deployed):
    output = deployed.ok("status", "JSON=1").output
    found = json.loads(output[output.index("{") :])  # after what goes to standard error
    assert found["state"] == "ACTIVE"
    assert found["verified"] is True
    assert (deployed.directory / "build/store" / found["engine"]).is_dir()
    assert found["artifact"] in deployed.ok("artifact", "JSON=1").output


def test_programs_get_answers_and_logs_as_json(deployed, sentences):
    answer = json.loads(deployed.ok("query", f"PROMPT={CLOUD}", "MAX_TOKENS=2", "JSON=1").output)
    assert sentences[CLOUD].startswith(answer["text_output"])
    assert answer["completion_tokens"] == 2
    lines = deployed.ok("logs", "LINES=3", "JSON=1").output.splitlines()
    assert [list(json.loads(line)) for line in lines] == [["line"]] * 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"text_input": "x", "max_tokens": "5"}', "max_tokens must be a whole number"),
        ("{", "BODY: is not JSON"),
        ("[]", "BODY: is not a JSON object"),
    ],
)
def test_a_wrong_question_is_one_clear_line(deployed, body, said):
    """What a server refuses: tests/model_repository/test_contract.py and test_front_model.py."""
    assert said in deployed.fails("query", f"BODY={body}")


def test_nothing_to_ask_is_one_clear_line(deployed):
    assert 'PROMPT="..."' in deployed.fails("query")


@pytest.fixture
def proxied(deployed):
    """`make proxy` of that deployment: its URL, its token, and the directory of its files."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = deployed.start_until("Ctrl-C closes it.", "proxy", f"PORT={port}")
    directory = deployed.directory / f"build/local/proxy/{port}"
    token = (directory / "token").read_text()
    try:
        yield f"http://127.0.0.1:{port}", token, directory
    finally:
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert "✔ proxy        closed" in output
    assert "✘" not in output
    assert token not in output
    assert not directory.exists()


def test_tritons_own_client_goes_through_the_proxy(proxied, sentences):
    url, token, _ = proxied
    client = tritonclient.http.InferenceServerClient(url.removeprefix("http://"))

    def headers():  # the client writes into what it is given
        return {"Authorization": f"Bearer {token}"}

    assert client.is_server_live(headers=headers())
    assert client.is_model_ready("ensemble", headers=headers())
    assert client.get_model_metadata("ensemble", headers=headers())["name"] == "ensemble"
    query = tritonclient.http.InferInput("QUERY", [1, 1], "BYTES")
    query.set_data_from_numpy(np.array([[CLOUD.encode()]], dtype=object))
    length = tritonclient.http.InferInput("REQUEST_OUTPUT_LEN", [1, 1], "INT32")
    length.set_data_from_numpy(np.array([[1]], dtype=np.int32))
    answer = client.infer("preprocessing", [query, length], headers=headers())
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    assert answer.as_numpy("INPUT_ID").tolist() == [tokenizer.encode(CLOUD).ids]
    query = tritonclient.http.InferInput("text_input", [1, 1], "BYTES")
    query.set_data_from_numpy(np.array([[CLOUD.encode()]], dtype=object))
    length = tritonclient.http.InferInput("max_tokens", [1, 1], "INT32")
    length.set_data_from_numpy(np.array([[128]], dtype=np.int32))
    answer = client.infer("ensemble", [query, length], headers=headers())
    assert answer.as_numpy("text_output").tolist() == [sentences[CLOUD].encode()]
    with pytest.raises(InferenceServerException, match="this needs the token"):
        client.infer("ensemble", [query, length])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_gets_what_the_page_says(deployed, proxied):
    url, _, directory = proxied
    written = {
        "http://127.0.0.1:8090": url,
        "build/local/proxy/8090": directory.relative_to(deployed.directory).as_posix(),
        "curl ": "curl --silent --show-error ",
    }
    transcripts = Page(ROOT / "docs/serving.md").transcripts()
    lines = [(line, said) for line, said in transcripts if line.startswith("curl ")]
    assert len(lines) > 7
    for line, said in lines:
        for word, instead in written.items():
            line = line.replace(word, instead)
        done = subprocess.run(
            ["sh", "-c", line], cwd=deployed.directory, capture_output=True, text=True, check=True
        )
        printed = "\n".join(each for each in done.stdout.splitlines() if each)
        if "/metrics" in line:
            assert "nv_inference_request_success" in printed
            assert "falconry_front_" in printed
        else:
            # An ellipsis on the page is a number or a word that differs from run to run.
            pattern = re.escape(in_one_event(said)).replace("…", r"[\w-]+")
            assert re.fullmatch(pattern, in_one_event(printed)), f"{line}\n{printed}"


def in_one_event(printed):
    """A stream as its last event with all texts and the first one's token; else what it is.

    Tokens that a busy machine makes together come in one event.
    """
    if not printed.startswith("data: "):
        return printed
    events = [json.loads(line.removeprefix("data: ")) for line in printed.splitlines()]
    text = "".join(event["text_output"] for event in events)
    return json.dumps({**events[0], **events[-1], "text_output": text}, ensure_ascii=False)


@needs_chromium
def test_the_proxys_page_streams_the_answer_that_make_query_gives(proxied, sentences):
    url, token, _ = proxied
    with browser() as page:
        page.open(f"{url}/")
        page.wait(lambda: "this needs the token" in page.text("#about"))
        page.complaints()
        page.open(f"{url}/#token={token}")
        page.wait(lambda: "falconry on VM.Standard.E4.Flex" in page.text("#about"))
        assert token not in page.run("return location.href")
        # Each text that the answer gets, as it is shown.
        page.run(
            "window.shown = []; new MutationObserver((changes) => changes.forEach((change) =>"
            " change.addedNodes.forEach((node) => shown.push(node.textContent))))"
            ".observe(document.querySelector('#answer'), {childList: true})"
        )
        page.type("#prompt", CLOUD)
        page.click("#ask")
        page.wait(lambda: "tokens/s" in page.text("#figures") and page.idle("#ask"))
        page.screenshot(ROOT / "build/screenshots/proxy.png")
        assert page.text("#answer") == sentences[CLOUD]
        pieces = [each for each in page.run("return shown") if each]
        assert len(pieces) > 5
        assert "".join(pieces) == sentences[CLOUD]
        curl, python = page.text("#curl"), page.text("#python")
        assert page.complaints() == []
        page.type("#prompt", 'it\'s "one" \\ line $HOME é')
        awkward = page.text("#curl"), page.text("#python")
    for command in (["sh", "-c", curl], [sys.executable, "-c", python]):
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        texts = [
            json.loads(line[5:])["text_output"]
            for line in printed.splitlines()
            if line[:5] == "data:"
        ]
        assert ("".join(texts) if texts else printed.removesuffix("\n")) == sentences[CLOUD]
    for command in (["sh", "-c", awkward[0]], [sys.executable, "-c", awkward[1]]):
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.long  # test_families.py serves it, test_stage.py of the cloud replaces a deployment
def test_another_family_is_deployed_in_its_place_and_answers_as_transformers_does(deployed):
    """In shards and with grouped heads."""
    checkpoint = FAMILIES / "falcon-40b"
    deployed.ok("deploy", f"CHECKPOINT={checkpoint}", "RECIPE=cpu-f32")
    recorded = json.loads((checkpoint / "reference.json").read_text())["prompts"][0]
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    body = {"text_input": recorded["text"], "max_tokens": 64, "end_id": -1}
    answer = deployed.ok("query", f"BODY={json.dumps(body)}").answer
    expected = tokenizer.decode(recorded["output_ids"])
    # A character that the last token leaves unfinished is not shown.
    assert answer == expected.rstrip("\ufffd") or answer == expected


def test_down_leaves_no_process(deployed):
    output = deployed.ok("down", "JSON=1").output
    # After what goes to standard error.
    assert json.loads(output[output.index("{") :]) == {
        "deployment": "deleted",
        "local_cloud": "stopped",
    }
    assert deployed.processes() == []
    assert "not running" in deployed.fails("query", f"PROMPT={CLOUD}")
    assert "not running" in deployed.fails("status")
    deployed.ok("down")


@pytest.mark.long  # test_openai_serving.py and the contract's tests have the mapping
def test_deploy_comes_back_after_down(deployed, sentences):
    """With Oracle's own mapping, which is one setting away."""
    deployed.ok("down")
    output = deployed.ok("deploy", "SET=deployment.environment.CONTAINER_TYPE=TRITON").output
    assert output.count("up to date") >= 1
    assert "ACTIVE" in output
    assert deployed.ok("query", f"PROMPT={CLOUD}").answer == sentences[CLOUD]
    streamed = deployed.ok("query", f"PROMPT={CLOUD}", "STREAM=1").answer
    assert streamed == sentences[CLOUD]
    _, own = deployment_of(deployed)
    assert answer_of(deployed, own.model_deployment_url)[0].startswith("Cloud")


@pytest.mark.long  # test_silence.py tells of it, test_cli.py of local_oci ends it
def test_a_cloud_that_is_silent_is_told_of_and_ends_though_it_has_lost_its_directory(deployed):
    build = deployed.directory / "build"
    os.kill(int((build / "local/cloud/lock").read_text()), signal.SIGSTOP)
    assert "does not answer within 8 s; end it and start it again" in deployed.fails("status")
    shutil.rmtree(build)
    assert "stopped" in deployed.ok("down").output
    assert deployed.processes() == []
