"""Ids that only one request has, and the tokens that stop it."""

import json

import pytest

from tests.docker.front_support import front_module

TOKEN = "a token of the client's"


@pytest.fixture(scope="module")
def running():
    return front_module("running")


@pytest.fixture
def requests(running):
    return running.RunningRequests()


def refused(requests, body, verb="generate"):
    with (
        pytest.raises(front_module("triton_bodies").InvalidBodyError) as error,
        requests.begin(body, verb),
    ):
        pass
    return str(error.value)


def test_two_requests_of_one_id_have_ids_of_their_own(requests):
    body = {"id": "everybody's", "text_input": "x"}
    with requests.begin(body, "generate") as one, requests.begin(body, "generate") as other:
        assert one.unique_id != other.unique_id
        assert one.token != other.token
        for each in (one, other):
            assert each.content == {"id": each.unique_id, "text_input": "x"}
            assert each.unique_id.startswith("everybody_s.")
            assert each.token not in each.unique_id
    assert body == {"id": "everybody's", "text_input": "x"}


@pytest.mark.parametrize("verb", ["generate", "infer"])
@pytest.mark.parametrize("own", [None, TOKEN])
def test_a_stop_with_the_token_is_one_for_that_request_alone(requests, verb, own):
    given = {} if own is None else with_token(own, verb)
    with requests.begin({"id": "x", **given}, verb) as one, requests.begin({"id": "x"}, verb):
        assert own in (None, one.token)
        with requests.begin({**stop(verb), **with_token(one.token, verb)}, verb) as stopping:
            assert stopping.stops
            assert stopping.content["id"] == one.unique_id
            assert one.token not in str(stopping.content)
    # Once its request has ended, a token stops nothing.
    with requests.begin({**stop(verb), **with_token(one.token, verb)}, verb) as late:
        assert late.content["id"] != one.unique_id


@pytest.mark.parametrize("verb", ["generate", "infer"])
def test_an_id_stops_nothing(requests, verb):
    with requests.begin({"id": "victim"}, verb) as victim:
        for guess in ("victim", victim.unique_id):
            assert "give the stop_token" in refused(requests, {"id": guess, **stop(verb)}, verb)
            wrong = {"id": guess, **stop(verb), **with_token(guess, verb)}
            with requests.begin(wrong, verb) as stopping:
                assert stopping.content["id"] not in ("victim", victim.unique_id)


def stop(verb):
    return {"inputs": [{"name": "stop", "data": [True]}]} if verb == "infer" else {"stop": True}


def with_token(token, verb):
    return {"parameters": {"stop_token": token}} if verb == "infer" else {"stop_token": token}


@pytest.mark.parametrize(
    ("body", "verb", "stops"),
    [
        ({"stop": False}, "generate", False),
        ({"stop": [False]}, "generate", False),
        ({"stop": [True]}, "generate_stream", True),
        ({"inputs": [{"name": "stop", "data": [[False]]}]}, "infer", False),
        ({"inputs": [{"name": "stop", "data": [[True]]}]}, "infer", True),
        ({"inputs": [{"name": "stop", "parameters": {"binary_data_size": 1}}]}, "infer", True),
        ({"inputs": [{"name": "text_input", "data": ["stop"]}, 5]}, "infer", False),
        ({"inputs": 5}, "infer", False),
    ],
)
def test_what_is_a_stop_is_seen_in_every_form(requests, body, verb, stops):
    if stops:
        assert "stop_token" in refused(requests, body, verb)
    else:
        with requests.begin(body, verb) as one:
            assert not one.stops


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"id": 5}, "id must be text"),
        ({"id": ["a"]}, "id must be text"),
        ({"stop_token": 5}, "stop_token must be text"),
        ({"stop_token": "short"}, "16 to 200 characters"),
        ({"stop_token": "x" * 201}, "16 to 200 characters"),
        ({"stop_token": "x\r\nX-Injected: 1" * 2}, "printable ASCII"),
        ({"stop_token": "\u00e9" * 20}, "printable ASCII"),
    ],
)
def test_what_can_be_no_id_or_token_is_refused(requests, body, said):
    assert said in refused(requests, body)


def test_a_token_that_another_request_has_is_refused(requests):
    with requests.begin({"stop_token": TOKEN}, "generate"):
        assert "another request" in refused(requests, {"stop_token": TOKEN})
    with requests.begin({"stop_token": TOKEN}, "generate") as again:
        assert again.token == TOKEN


@pytest.mark.parametrize(
    "client_id", ["mine", 'qu"o\\te', "Gr\u00fc\u00dfe\n", "x" * 500, "-", "request"]
)
@pytest.mark.parametrize(
    "form",
    [
        '{"aaa":1.5,"id":%s,"model_name":"one","text_output":"%s"}',
        '{"id":%s,"model_name":"one","outputs":[{"data":["%s"]}]}',
        'data: {"id":%s,"model_name":"one","text_output":"%s"}\n\n',
    ],
)
def test_answers_have_the_clients_own_id(requests, client_id, form):
    text = "the text of the answer"
    with requests.begin({"id": client_id}, "generate") as one:
        answer = one.answer((form % (quoted(one.unique_id), text)).encode())
    assert answer == (form % (quoted(client_id), text)).encode()


def test_an_answer_without_an_id_stays_without_and_errors_say_what_triton_says(requests):
    for body in ({}, {"id": ""}):
        with requests.begin(body, "generate") as one:
            given = f'{{"aaa":1,"id":"{one.unique_id}","model_name":"m"}}'
            assert one.answer(given.encode()) == b'{"aaa":1,"model_name":"m"}'
            error = f'{{"error":"[request id: {one.unique_id}] expected 1 inputs"}}'
            assert one.answer(error.encode()) == (
                b'{"error":"[request id: <id_unknown>] expected 1 inputs"}'
            )


def test_the_first_event_has_the_token_unless_it_is_an_error(requests):
    with requests.begin({}, "generate_stream") as one:
        event = one.first_event(b'data: {"text_output":"a"}\n\n')
        assert event == f'data: {{"stop_token":"{one.token}","text_output":"a"}}\n\n'.encode()
        error = b'data: {"error":"no"}\n\n'
        assert one.first_event(error) == error


def quoted(text):
    """As Triton writes it: JSON with characters as they are."""
    return json.dumps(text, ensure_ascii=False)
