"""What ends an assistant's message by default: the begin of the next one, as templates have it."""

import json

import pytest
from tokenizers import Tokenizer

from tests.conftest import ROOT
from tests.model_repository.preprocessing import served

TOKENIZER = ROOT / "checkpoints/tiny-falcon/tokenizer.json"
FALCON3 = (ROOT / "tests/data/chat_templates/falcon3-instruct.jinja").read_text()
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN = json.loads((ROOT / "checkpoints/tiny-falcon/tokenizer_config.json").read_text())
NONE = "{{ raise_exception('no') }}"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")


@pytest.fixture
def turns(tmp_path):
    """The turns of a template, with a tokenizer that has these special tokens."""
    opened = []

    def of(template, special=()):
        tokenizer = Tokenizer.from_file(str(TOKENIZER))
        tokenizer.add_special_tokens(list(special))
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        chat = {"template": template, "special_tokens": {"eos_token": "<|endoftext|>"}}
        (tmp_path / "chat.json").write_text(json.dumps(chat))
        opened.append(served("chat").ChatTemplate.read(tmp_path / "chat.json"))
        encoder = served("encoding").Encoder(tmp_path / "tokenizer.json")
        found = served("turns").Turns.of(opened[-1], encoder, [11])
        return [tokenizer.id_to_token(each) for each in found.ids], sorted(found.texts)

    yield of
    for each in opened:
        each.close()


def test_falcon3s_roles_end_an_answer_as_tokens_or_as_text(turns):
    ids, texts = turns(FALCON3, ROLES)
    assert (sorted(ids), texts) == (sorted(ROLES), [])
    assert turns(FALCON3) == ([], sorted(ROLES))


def test_chatmls_tags_do(turns):
    ids, texts = turns(CHATML, ["<|im_end|>", "<|im_start|>"])
    assert (sorted(ids), texts) == (["<|im_end|>", "<|im_start|>"], [])


def test_the_name_of_a_role_on_a_line_of_its_own_does(turns):
    assert turns(PLAIN["chat_template"]) == ([], ["\nUser:"])


def test_a_template_that_takes_no_conversation_says_nothing(turns):
    assert turns(NONE) == ([], [])
