"""One request under way, with stand-ins for the engine's model and for the client."""

import asyncio
import gc
import weakref

import pytest

TABLE = [bytes([value]) for value in range(256)]
END = 256


class Inner:
    """Gives what it is told to, each list after the event loop has had its turn."""

    def __init__(self, *arrivals, then_waits=False):
        self._arrivals = arrivals
        self._waits = then_waits
        self.closed = False
        self.stopped = []

    async def generate(self, body):
        try:
            for arrival in self._arrivals:
                await asyncio.sleep(0)
                if isinstance(arrival, Exception):
                    raise arrival
                yield arrival
            if self._waits:
                await asyncio.Event().wait()
        finally:
            self.closed = True

    async def stop(self, request_id):
        self.stopped.append(request_id)


class Client:
    """Keeps what it is sent; goes after so many pieces."""

    def __init__(self, goes_after=None):
        self.pieces = []
        self.finals = 0
        self.failure = None
        self._goes_after = goes_after

    def gone(self):
        return self._goes_after is not None and len(self.pieces) >= self._goes_after

    def send(self, answer, *, final):
        self.pieces.append(answer.take_text())
        self.finals += final

    def fail(self, status, reason):
        self.finals += 1
        self.failure = (status, reason)


class Record:
    def __init__(self):
        self.first_tokens = []
        self.count = 0

    def first_token(self, seconds):
        self.first_tokens.append(seconds)

    def tokens(self, count):
        self.count += count


def tokens(text):
    """A response with a token for each byte, flat as Triton writes it."""
    ids = list(text.encode())
    return {"output_ids": ids[0] if len(ids) == 1 else ids, "sequence_length": len(ids)}


@pytest.fixture
def converse(answer_module, conversation_module):
    """Makes a conversation."""

    def make(client, stop_words=(), stream=True):
        return conversation_module.Conversation(
            "its id",
            None,
            {"id": "front-1", "streaming": stream},
            answer_module.Answer(TABLE, stop_words, END, 10),
            client,
            stream,
            0.0,
        )

    return make


@pytest.fixture
def hold(converse):
    """Holds a conversation to its end; gives it with its record."""

    def run(inner, client, stop_words=(), stream=True, before=None):
        async def held():
            conversation, record = converse(client, stop_words, stream), Record()
            task = asyncio.create_task(conversation.hold(inner, record))
            if before:
                await before(conversation)
            await asyncio.wait_for(task, 5)
            return conversation, record

        return asyncio.run(held())

    return run


def with_log_probs(text, values):
    return {**tokens(text), "output_log_probs": values[0] if len(values) == 1 else values}


@pytest.mark.parametrize(
    "arrivals",
    [
        pytest.param([("a", [-1]), ("bc", [-2, -3]), ("", []), ("d", [-4])], id="new ones"),
        pytest.param(
            [("a", [-1]), ("bc", [-1, -2, -3]), ("", [-1, -2, -3]), ("d", [-1, -2, -3, -4])],
            id="all so far",
        ),
        pytest.param([("ab", [-1, -2]), ("cd", [-1, -2, -3, -4, -9])], id="one more at the end"),
        pytest.param([("abcd", [-1, -2, -3, -4, -9])], id="in one piece"),
    ],
)
def test_each_token_has_its_own_log_probability(hold, arrivals):
    inner = Inner(*([with_log_probs(*arrival)] for arrival in arrivals))
    conversation, _ = hold(inner, Client())
    assert conversation.answer.take_tokens() == [b"a", b"b", b"c", b"d"]
    assert conversation.answer.take_log_probs() == [-1, -2, -3, -4]
    assert conversation.answer.cumulative == -10


def test_pieces_are_sent_as_they_come_and_the_last_is_final(hold):
    inner, client = Inner([tokens("a")], [tokens("b"), tokens("c")], [tokens("d")]), Client()
    conversation, record = hold(inner, client)
    assert (client.pieces, client.finals) == (["a", "bc", "d", ""], 1)
    assert (conversation.outcome, record.count) == ("stop", 4)
    assert len(record.first_tokens) == 1
    assert inner.stopped == []


def test_an_answer_in_one_piece_is_one_response(hold):
    inner, client = Inner([tokens("a")], [tokens("bc")]), Client()
    hold(inner, client, stream=False)
    assert (client.pieces, client.finals) == (["abc"], 1)


def test_a_response_without_tokens_or_with_padding_adds_nothing(hold):
    inner = Inner(
        [{"output_ids": [], "sequence_length": 0}],
        [{}],
        [{"output_ids": [97, 98, 0, 0], "sequence_length": 2}],
    )
    client = Client()
    hold(inner, client)
    assert "".join(client.pieces) == "ab"


def test_a_stop_word_ends_the_inner_request(hold):
    inner, client = Inner([tokens("one st")], [tokens("op two")], then_waits=True), Client()
    conversation, _ = hold(inner, client, stop_words=[b"stop"])
    assert "".join(client.pieces) == "one "
    assert conversation.outcome == "stop"
    assert inner.closed
    assert inner.stopped == ["front-1"]


def test_a_client_that_has_gone_ends_the_inner_request(hold):
    inner, client = Inner(*[[tokens("a")]] * 3, then_waits=True), Client(goes_after=1)
    conversation, _ = hold(inner, client)
    assert conversation.outcome == "cancelled"
    assert inner.closed
    assert inner.stopped == ["front-1"]


def test_a_conversation_can_be_cancelled_while_it_waits(hold):
    async def cancel(conversation):
        await asyncio.sleep(0.01)
        conversation.cancel()

    inner, client = Inner([tokens("a")], then_waits=True), Client()
    conversation, _ = hold(inner, client, before=cancel)
    assert (conversation.outcome, client.pieces, client.finals) == ("cancelled", ["a", ""], 1)
    assert inner.stopped == ["front-1"]


def test_a_conversation_can_be_cancelled_before_it_begins(hold):
    async def cancel(conversation):
        conversation.cancel()

    inner, client = Inner(then_waits=True), Client()
    conversation, _ = hold(inner, client, before=cancel)
    assert (conversation.outcome, client.finals) == ("cancelled", 1)


def test_an_error_of_the_inner_model_is_the_clients(hold, inner_module):
    error = inner_module.InnerError(500, "no room in the cache")
    inner, client = Inner([tokens("a")], error), Client()
    conversation, _ = hold(inner, client)
    assert (client.failure, client.finals) == ((500, "no room in the cache"), 1)
    assert conversation.outcome == "error"
    assert "no room" in conversation.summary


def test_a_fault_of_our_own_does_not_leave_the_client_waiting(hold):
    client = Client()
    hold(Inner([{"output_ids": ["not a number"], "sequence_length": 1}]), client)
    assert client.failure[0] == 500
    assert client.finals == 1


def test_chunks_are_taken_whole_however_they_arrive(inner_module):
    payloads = [b'data: {"a":1}\n\n', b"x" * 300]
    wire = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in payloads) + b"0\r\n\r\n"
    for size in (1, 2, 7, 64, len(wire)):
        received, taken = bytearray(), []
        for begin in range(0, len(wire), size):
            received += wire[begin : begin + size]
            taken += inner_module._take_chunks(received)
        assert taken == payloads


class StopsSlowly(Inner):
    """Its answer to a stop comes by a future that only who waits for it holds.

    As with asyncio's streams: StreamReaderProtocol has its reader by a weak reference.
    """

    def __init__(self):
        super().__init__([tokens("a")], then_waits=True)
        self.answered = None

    async def stop(self, request_id):
        answered = asyncio.get_running_loop().create_future()
        self.answered = weakref.ref(answered)
        await answered
        await super().stop(request_id)


def test_a_conversation_is_not_taken_for_garbage_while_it_ends_the_inner_request(converse):
    inner, client = StopsSlowly(), Client()

    async def until(condition):
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)

    async def held():
        conversation = converse(client)
        # Nobody has the task, as with asyncio.run_coroutine_threadsafe.
        asyncio.create_task(conversation.hold(inner, Record()))  # noqa: RUF006
        await until(lambda: client.pieces)
        conversation.cancel()
        await until(lambda: inner.answered)
        gc.collect()
        assert inner.answered()
        inner.answered().set_result(None)
        await until(lambda: inner.stopped)

    asyncio.run(held())
