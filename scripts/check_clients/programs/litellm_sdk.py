"""litellm: chats and completions of an OpenAI-compatible server, streamed and whole."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks GitHub for prices

import litellm

options = {"api_base": f"{os.environ['URL']}/v1", "api_key": "none", "max_tokens": 8}
question = [{"role": "user", "content": "What is a falcon?"}]
model = os.environ["MODEL"]

chat = litellm.completion(model=f"openai/{model}", messages=question, **options)
assert chat.choices[0].message.content
chunks = litellm.completion(model=f"openai/{model}", messages=question, stream=True, **options)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
text = litellm.text_completion(
    model=f"text-completion-openai/{model}", prompt="Explain falcons", **options
)
assert text.choices[0].text
