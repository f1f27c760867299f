import re

from falconry.image.preflight.rules import load_rules


def test_each_pattern_begins_with_literal_characters_by_which_it_is_found_fast():
    for rule in load_rules().contents:
        assert re.match(r"[-A-Za-z0-9_:/\"]{1,}", rule.pattern), rule.name


def test_allowances_name_rules_that_there_are_and_have_a_reason():
    rules = load_rules()
    names = {rule.name for rule in [*rules.files, *rules.contents]}
    for allowance in rules.allowed:
        assert set(allowance.rules) <= names
        assert allowance.reason
        assert allowance.globs


def test_patterns_take_no_time_that_grows_with_the_square_of_a_text():
    hostile = [
        b"-----BEGIN PRIVATE KEY-----" + b"\n" * 200_000,
        b"-----BEGIN PRIVATE KEY-----\n" + b"Aa: a\n" * 50_000,
        b"://" + b"a" * 300_000 + b":",
        b"://a:" * 60_000,
        b'"auth" ' * 40_000,
        b"hf_" * 100_000,
    ]
    for rule in load_rules().contents:
        for text in hostile:
            assert list(re.finditer(rule.pattern.encode(), text)) == [], rule.name
