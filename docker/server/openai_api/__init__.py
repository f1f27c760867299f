"""OpenAI's API for completions, chats and models, on the front model.

As in openai-python 3.54.0, whose types are made from OpenAI's OpenAPI document.
"""
