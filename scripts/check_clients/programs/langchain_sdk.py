"""langchain-openai: chats, streams and structured output by a JSON schema."""

import os

from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

model = ChatOpenAI(
    base_url=f"{os.environ['URL']}/v1", api_key="none", model=os.environ["MODEL"], max_tokens=8
)
assert model.invoke("What is a falcon?").content
assert "".join(chunk.content for chunk in model.stream("What is a falcon?"))


class Bird(BaseModel):
    """A bird."""

    name: str = Field(max_length=12)
    flies: bool


structured = ChatOpenAI(
    base_url=f"{os.environ['URL']}/v1", api_key="none", model=os.environ["MODEL"], max_tokens=120
).with_structured_output(Bird, method="json_schema")
assert isinstance(structured.invoke("Name a bird."), Bird)
