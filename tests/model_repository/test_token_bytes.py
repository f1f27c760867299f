"""What bytes a token stands for, against what the tokenizers library decodes."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

TEXTS = [
    "naïve 日本 \n\t\x00 uber!",
    "👩‍👩‍👧 🇫🇷 👍🏽 𝄞 𠜎",
    "e\u0301 a\u0323\u0307 नमस्ते",
    "שלום עולם، مرحبا",
]


@pytest.fixture
def table(text_module, tmp_path):
    """The bytes of a tokenizer's tokens."""

    def read(tokenizer):
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        return text_module.read_token_bytes(tmp_path / "tokenizer.json")

    return read


def byte_level():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: place for place, piece in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens(["über"])
    return tokenizer


def byte_fallback():
    """As Llama's: SentencePiece's spaces, and a token for each byte that no other token covers."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "n", "ü", "日"]
    model = models.BPE(
        {piece: place for place, piece in enumerate(pieces)},
        [],
        unk_token="<unk>",
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_the_bytes_of_a_texts_tokens_are_the_text(table, make, text):
    tokenizer = make()
    token_bytes = table(tokenizer)
    ids = tokenizer.encode(text).ids
    assert b"".join(token_bytes[token_id] for token_id in ids).decode() == tokenizer.decode(ids)
    assert tokenizer.decode(ids) == text


def test_an_added_token_is_its_own_text(table):
    # The library's decoder takes its characters for bytes, and gives U+FFFD for the first.
    tokenizer = byte_level()
    ids = tokenizer.encode("so über").ids
    assert tokenizer.token_to_id("über") in ids
    token_bytes = table(tokenizer)
    assert b"".join(token_bytes[token_id] for token_id in ids).decode() == "so über"


@pytest.mark.parametrize(
    ("make", "special"), [(byte_level, "<|endoftext|>"), (byte_fallback, "</s>")]
)
def test_special_tokens_have_no_bytes(table, make, special):
    tokenizer = make()
    assert table(tokenizer)[tokenizer.token_to_id(special)] == b""


def test_a_byte_of_a_fallback_vocabulary_is_that_byte(table):
    tokenizer = byte_fallback()
    token_bytes = table(tokenizer)
    assert token_bytes[tokenizer.token_to_id("<0xF0>")] == b"\xf0"
    assert token_bytes[tokenizer.token_to_id("▁")] == b" "


def test_another_kind_of_vocabulary_is_refused(text_module, tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"decoder": {"type": "WordPiece"}, "model": {"vocab": {}}}))
    with pytest.raises(ValueError, match="byte-level"):
        text_module.read_token_bytes(file)


def test_a_tag_that_calls_a_tool_is_text_though_it_is_special(table):
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<tool_call>", "</tool_call>"])
    shown = b"".join(table(tokenizer)[each] for each in tokenizer.encode("<tool_call>x").ids)
    assert shown == b"<tool_call>x"
