"""openai: models, completions, chats, both as streams, and an error as its own exception."""

import os

import openai

client = openai.OpenAI(base_url=f"{os.environ['URL']}/v1", api_key="none")
model = client.models.list().data[0].id
question = [{"role": "user", "content": "What is a falcon?"}]

completion = client.completions.create(model=model, prompt="Explain falcons", max_tokens=8)
assert completion.choices[0].text
pieces = client.completions.create(model=model, prompt="Explain", max_tokens=8, stream=True)
assert "".join(piece.choices[0].text for piece in pieces)
chat = client.chat.completions.create(model=model, messages=question, max_tokens=8)
assert chat.choices[0].message.content
chunks = client.chat.completions.create(
    model=model,
    messages=question,
    max_tokens=8,
    stream=True,
    stream_options={"include_usage": True},
)
assert list(chunks)[-1].usage.completion_tokens
try:
    client.completions.create(model=model, prompt="a " * 5000, max_tokens=8)
except openai.BadRequestError as error:
    assert error.code == "context_length_exceeded", error
else:
    raise AssertionError("a long prompt was answered")
