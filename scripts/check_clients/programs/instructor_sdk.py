"""instructor: a pydantic model in JSON-schema mode."""

import os

import instructor
import openai
from pydantic import BaseModel, Field


class Bird(BaseModel):
    """A bird."""

    name: str = Field(max_length=12)
    flies: bool


client = instructor.from_openai(
    openai.OpenAI(base_url=f"{os.environ['URL']}/v1", api_key="none"),
    mode=instructor.Mode.JSON_SCHEMA,
)
bird = client.chat.completions.create(
    model=os.environ["MODEL"],
    messages=[{"role": "user", "content": "Name a bird."}],
    response_model=Bird,
    max_tokens=120,
    max_retries=0,
)
assert isinstance(bird, Bird)
