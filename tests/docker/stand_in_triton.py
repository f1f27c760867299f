"""STAND-IN for Triton with the front model, for what a real one cannot be made to do at will.

It has the paths, tensors, statuses and event form of Triton 2.51 and of
model_repository/tensorrt_llm_bls. An answer is `max_tokens` words, one every `token_s`. What the
prompt says besides: `refuse STATUS REASON`, `break off`, `fail`. Prompt and answer have 512 tokens.
"""

import asyncio
import json
import threading
from contextlib import contextmanager

from aiohttp import web

MODEL = "tensorrt_llm_bls"
SEQUENCE = 512
LOG_PROB = -0.5
INPUTS = {
    "text_input": "STRING",
    "messages": "STRING",
    "max_tokens": "INT32",
    "fit_max_tokens": "BOOL",
    "return_log_probs": "BOOL",
    "stop_words": "STRING",
    "stream": "BOOL",
    "stop": "BOOL",
}


class StandIn:
    """The server's state, which a test may look at and change.

    Attributes:
        token_s: seconds a token takes.
        ready: whether it says that it is ready.
        has_model: whether there is a front model.
        has_chat: whether it has a chat template.
        texts: what it writes in place of words, the answers in their order.
        failing: the error that every generation gets.
        hanging: whether generations get no answer.
        seen: the bodies of all generations, with the tokens that were made for each.
        others: the targets of requests that a front must not pass on.
    """

    def __init__(self):
        self.token_s = 0.0
        self.ready = True
        self.has_model = True
        self.has_chat = True
        self.texts = []
        self.failing = None
        self.hanging = False
        self.seen = []
        self.others = []
        self.url = ""
        self.close_port = lambda: None
        self._stopped = set()

    @property
    def last(self):
        return self.seen[-1]

    def application(self):
        application = web.Application(client_max_size=64 << 20)
        application.add_routes(
            [
                web.get("/v2", self._server),
                web.get("/v2/health/live", self._server),
                web.get("/v2/health/ready", self._ready),
                web.get(f"/v2/models/{MODEL}/config", self._config),
                web.get("/metrics", self._metrics),
                web.post(f"/v2/models/{MODEL}/generate", self._generate),
                web.post(f"/v2/models/{MODEL}/generate_stream", self._generate_stream),
                web.post(f"/v2/models/{MODEL}/infer", self._infer),
                web.route("*", "/{path:.*}", self._other),
            ]
        )
        return application

    async def _server(self, request):
        return web.json_response({"name": "triton", "version": "2.51.0"})

    async def _ready(self, request):
        return web.Response(status=200 if self.ready else 400)

    async def _metrics(self, request):
        return web.Response(text="nv_inference_count 7\n")

    async def _config(self, request):
        if not self.has_model:
            return web.json_response({"error": "no such model"}, status=400)
        inputs = [{"name": name, "data_type": f"TYPE_{kind}"} for name, kind in INPUTS.items()]
        parameters = {"max_seq_len": str(SEQUENCE), "chat": json.dumps(self.has_chat)}
        return web.json_response(
            {
                "name": MODEL,
                "input": inputs,
                "parameters": {name: {"string_value": each} for name, each in parameters.items()},
            }
        )

    async def _generate(self, request):
        body = await request.json()
        if body.get("stop"):
            self._stopped.add(body.get("connection", body.get("id")))
            return web.json_response({"text_output": "", "finish_reason": "cancelled"})
        seen = {"body": body, "tokens": 0, "path": request.path}
        self.seen.append(seen)
        while self.hanging:
            await asyncio.sleep(0.05)
        if refusal := self._refusal(body):
            return web.json_response({"error": refusal[1]}, status=refusal[0])
        words = [word async for word in self._words(body, seen)]
        return web.json_response(self._final(body, seen, words))

    async def _infer(self, request):
        body = await request.json()
        self.seen.append({"body": body, "tokens": 0, "path": request.path})
        return web.json_response({"id": body["id"], "model_name": MODEL, "outputs": []})

    async def _other(self, request):
        self.others.append(request.raw_path)
        return web.Response(status=404)

    async def _generate_stream(self, request):
        body = await request.json()
        seen = {"body": body, "tokens": 0, "path": request.path}
        self.seen.append(seen)
        if refusal := self._refusal(body):
            event = f"data: {json.dumps({'error': refusal[1]})}\n\n"
            return web.Response(status=refusal[0], text=event, content_type="text/event-stream")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        async for word in self._words(body, seen):
            await self._send(response, {"text_output": word, **_log_probs(body, [word])})
            if "break off" in str(body.get("text_input")) and seen["tokens"] == 2:
                request.transport.abort()
                return response
            if "fail" in str(body.get("text_input")) and seen["tokens"] == 2:
                await self._send(response, {"error": "the engine has failed"})
                return response
        await self._send(response, self._final(body, seen, []))
        return response

    async def _words(self, body, seen):
        if self.texts:
            seen["tokens"], text = 1, self.texts.pop(0)
            for character in text:
                yield character
            return
        most = body["max_tokens"]
        if body.get("fit_max_tokens"):
            most = min(most, SEQUENCE - _prompt_tokens(body))
        for number in range(most):
            await asyncio.sleep(self.token_s)
            if {body.get("connection"), body.get("id")} & (self._stopped - {None}):
                seen["stopped"] = True
                return
            seen["tokens"] += 1
            yield f"w{number} "

    def _final(self, body, seen, words):
        return {
            "text_output": "".join(words),
            **_log_probs(body, words),
            **_token_ids(body, seen["tokens"]),
            "finish_reason": self._reason(body, seen),
            "prompt_tokens": _prompt_tokens(body),
            "completion_tokens": seen["tokens"],
        }

    def _reason(self, body, seen):
        if seen.get("stopped"):
            return "cancelled"
        return "length" if seen["tokens"] >= min(body["max_tokens"], SEQUENCE) else "stop"

    def _refusal(self, body):
        if self.failing:
            return 500, self.failing
        word, _, rest = str(body.get("text_input")).partition(" ")
        if word != "refuse":
            return None
        status, _, reason = rest.partition(" ")
        return int(status), reason

    async def _send(self, response, value):
        await response.write(f"data: {json.dumps(value)}\n\n".encode())


def _prompt_tokens(body):
    return len(body.get("input_ids") or str(body.get("text_input", "")).split())


def _token_ids(body, tokens):
    if not body.get("return_token_ids"):
        return {}
    ids = list(range(100, 100 + tokens))
    return {"token_ids": ids[0] if len(ids) == 1 else ids, "prompt_token_ids": [7, 8]}


def _log_probs(body, words):
    """Triton writes a tensor of one element as that element."""
    if not body.get("return_log_probs"):
        return {}
    tokens, values = [word.encode().hex() for word in words], [LOG_PROB] * len(words)
    return {
        "output_tokens": tokens[0] if len(tokens) == 1 else tokens,
        "output_log_probs": values[0] if len(values) == 1 else values,
    }


@contextmanager
def running_stand_in(**state):
    """A stand-in on a free port, in a thread of its own."""
    stand_in, started, loop = StandIn(), threading.Event(), asyncio.new_event_loop()
    vars(stand_in).update(state)

    async def start():
        runner = web.AppRunner(stand_in.application(), handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stand_in.url = site.name
        stand_in.close_port = lambda: asyncio.run_coroutine_threadsafe(close(site), loop).result(5)
        started.set()
        return runner

    async def close(site):
        """Takes no more connections, and keeps those that there are; as Triton told to stop."""
        site._server.close()

    def run():
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(asyncio.wait_for(runner.cleanup(), 5))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield stand_in
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
