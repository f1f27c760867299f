"""One request under way, with stand-ins for the engine's model and for the client."""

import asyncio
import gc
import weakref

import pytest

TABLE = [bytes([value]) for value in range(256)]
END = 256


class Engine:
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
    """Keeps what it is sent; disconnects after so many pieces."""

    def __init__(self, disconnects_after=None):
        self.pieces = []
        self.finals = 0
        self.failure = None
        self._disconnects_after = disconnects_after

    def disconnected(self):
        return self._disconnects_after is not None and len(self.pieces) >= self._disconnects_after

    def send(self, answer, *, final):
        self.pieces.append(answer.take_text())
        self.finals += final

    def fail(self, status, reason):
        self.finals += 1
        self.failure = (status, reason)


class Record:
    def __init__(self):
        self.first_tokens = []
        self.times_per_token = []
        self.count = 0

    def first_token(self, seconds):
        self.first_tokens.append(seconds)

    def tokens(self, count):
        self.count += count

    def time_per_token(self, seconds):
        self.times_per_token.append(seconds)


def tokens(text):
    """A response with a token for each byte, flat as Triton writes it."""
    ids = list(text.encode())
    return {"output_ids": ids[0] if len(ids) == 1 else ids, "sequence_length": len(ids)}


@pytest.fixture
def make_generation(answer_module, generation_module):
    """Makes a generation."""

    def make(client, stop_words=(), stream=True):
        return generation_module.Generation(
            "its id",
            None,
            None,
            {"id": "front-1", "streaming": stream},
            answer_module.Answer(TABLE, stop_words, {END}, 10),
            client,
            stream,
            0.0,
        )

    return make


@pytest.fixture
def run(make_generation):
    """Runs a generation to its end; gives it with its record."""

    def to_end(engine, client, stop_words=(), stream=True, before=None):
        async def awaited():
            generation, record = make_generation(client, stop_words, stream), Record()
            task = asyncio.create_task(generation.run(engine, record))
            if before:
                await before(generation)
            await asyncio.wait_for(task, 5)
            return generation, record

        return asyncio.run(awaited())

    return to_end


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
def test_each_token_has_its_own_log_probability(run, arrivals):
    engine = Engine(*([with_log_probs(*arrival)] for arrival in arrivals))
    generation, _ = run(engine, Client())
    assert generation.answer.take_tokens() == [b"a", b"b", b"c", b"d"]
    assert generation.answer.take_log_probs() == [-1, -2, -3, -4]
    assert generation.answer.cumulative == -10


def test_pieces_are_sent_as_they_come_and_the_last_is_final(run):
    engine, client = Engine([tokens("a")], [tokens("b"), tokens("c")], [tokens("d")]), Client()
    generation, record = run(engine, client)
    assert (client.pieces, client.finals) == (["a", "bc", "d", ""], 1)
    assert (generation.outcome, record.count) == ("stop", 4)
    assert len(record.first_tokens) == len(record.times_per_token) == 1
    assert engine.stopped == []


def test_an_answer_in_one_piece_is_one_response(run):
    engine, client = Engine([tokens("a")], [tokens("bc")]), Client()
    _, record = run(engine, client, stream=False)
    assert (client.pieces, client.finals) == (["abc"], 1)
    assert record.first_tokens == record.times_per_token == []


def test_a_response_without_tokens_or_with_padding_adds_nothing(run):
    engine = Engine(
        [{"output_ids": [], "sequence_length": 0}],
        [{}],
        [{"output_ids": [97, 98, 0, 0], "sequence_length": 2}],
    )
    client = Client()
    run(engine, client)
    assert "".join(client.pieces) == "ab"


def test_a_stop_word_ends_the_engines_request(run):
    engine, client = Engine([tokens("one st")], [tokens("op two")], then_waits=True), Client()
    generation, _ = run(engine, client, stop_words=[b"stop"])
    assert "".join(client.pieces) == "one "
    assert generation.outcome == "stop"
    assert engine.closed
    assert engine.stopped == ["front-1"]


def test_a_disconnected_client_ends_the_engines_request(run):
    engine, client = Engine(*[[tokens("a")]] * 3, then_waits=True), Client(disconnects_after=1)
    generation, _ = run(engine, client)
    assert generation.outcome == "cancelled"
    assert engine.closed
    assert engine.stopped == ["front-1"]


def test_a_generation_can_be_cancelled_while_it_waits(run):
    async def cancel(generation):
        await asyncio.sleep(0.01)
        generation.cancel()

    engine, client = Engine([tokens("a")], then_waits=True), Client()
    generation, _ = run(engine, client, before=cancel)
    assert (generation.outcome, client.pieces, client.finals) == ("cancelled", ["a", ""], 1)
    assert engine.stopped == ["front-1"]


def test_a_generation_can_be_cancelled_before_it_begins(run):
    async def cancel(generation):
        generation.cancel()

    engine, client = Engine(then_waits=True), Client()
    generation, _ = run(engine, client, before=cancel)
    assert (generation.outcome, client.finals) == ("cancelled", 1)


def test_an_error_of_the_engines_model_is_the_clients(run, engine_client_module):
    error = engine_client_module.EngineError(500, "no room in the cache")
    engine, client = Engine([tokens("a")], error), Client()
    generation, _ = run(engine, client)
    assert (client.failure, client.finals) == ((500, "no room in the cache"), 1)
    assert generation.outcome == "error"
    assert "no room" in generation.summary


def test_a_fault_of_our_own_does_not_leave_the_client_waiting(run):
    client = Client()
    run(Engine([{"output_ids": ["not a number"], "sequence_length": 1}]), client)
    assert client.failure[0] == 500
    assert client.finals == 1


def test_chunks_are_taken_whole_however_they_arrive(engine_client_module):
    payloads = [b'data: {"a":1}\n\n', b"x" * 300]
    wire = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in payloads) + b"0\r\n\r\n"
    for size in (1, 2, 7, 64, len(wire)):
        received, taken = bytearray(), []
        for begin in range(0, len(wire), size):
            received += wire[begin : begin + size]
            taken += engine_client_module._take_chunks(received)
        assert taken == payloads


class StopsSlowly(Engine):
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


def test_a_generation_is_not_taken_for_garbage_while_it_ends_the_engines_request(make_generation):
    engine, client = StopsSlowly(), Client()

    async def until(condition):
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)

    async def held():
        generation = make_generation(client)
        # Nobody has the task, as with asyncio.run_coroutine_threadsafe.
        asyncio.create_task(generation.run(engine, Record()))  # noqa: RUF006
        await until(lambda: client.pieces)
        generation.cancel()
        await until(lambda: engine.answered)
        gc.collect()
        assert engine.answered()
        engine.answered().set_result(None)
        await until(lambda: engine.stopped)

    asyncio.run(held())


def test_a_stop_by_id_ends_only_what_has_neither_connection_nor_token(generation_module):
    kinds = [(None, None), ("c", None), (None, "t"), ("d", "t")]
    generations = generation_module.Generations()
    for connection, token in kinds:
        generations.add(
            generation_module.Generation("same", connection, token, {}, None, None, True, 0.0)
        )

    def named(*by):
        return {(each.connection, each.stop_token) for each in generations.named(*by)}

    assert named("same", None, None) == {(None, None)}
    assert named("same", None, "t") == {(None, "t")}
    assert named("same", None, "wrong") == named("other", None, None) == set()
    assert named("", "c", None) == named("same", "c", "t") == {("c", None)}


def test_nobody_can_guess_the_id_of_a_request_to_the_engine(generation_module):
    generations = generation_module.Generations()
    ids = {generations.new_id().rpartition("-")[2] for _ in range(100)}
    assert len(ids) == 100
    assert min(map(len, ids)) >= 16
