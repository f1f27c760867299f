"""OpenAI's API for completions, chat completions and models, on top of the front model.

As in openai-python 3.54.0, whose types are made from OpenAI's OpenAPI document.
"""
