"""llama-index: OpenAILike's completions, chats and streams."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

options = {
    "model": os.environ["MODEL"],
    "api_base": f"{os.environ['URL']}/v1",
    "api_key": "none",
    "max_tokens": 8,
    "context_window": 512,
}
writer = OpenAILike(**options)
assert writer.complete("Explain falcons").text
assert list(writer.stream_complete("Explain falcons"))[-1].text
talker = OpenAILike(**options, is_chat_model=True)
question = [ChatMessage(role="user", content="What is a falcon?")]
assert talker.chat(question).message.content
assert list(talker.stream_chat(question))[-1].message.content
