"""The check of other people's clients, as far as it needs none of them: its table and its list."""

from scripts.check_clients.__main__ import main
from scripts.check_clients.clients import Outcome, load_clients
from scripts.check_clients.table import merged, read_table, write_table
from tests.conftest import ROOT

CLIENTS = load_clients()


def outcome(client, result):
    return Outcome(client.name, "version 1", client.does, None, result, "2026-11-01")


def test_each_client_is_run_in_one_way_with_versions_that_are_fixed():
    for client in CLIENTS:
        assert sum(map(bool, (client.program, client.nvidia, client.command))) == 1, client.name
        assert all("==" in each or "@" in each[1:] for each in client.packages), client.name
        if client.program:
            assert (ROOT / "scripts/check_clients/programs" / client.program).is_file()


def test_a_row_is_kept_until_its_client_runs_again(tmp_path):
    path = tmp_path / "compatibility.md"
    first, second = CLIENTS[:2]
    write_table(path, merged(read_table(path), [outcome(first, "a | b\nc")], CLIENTS))
    write_table(path, merged(read_table(path), [outcome(second, "passed")], CLIENTS))
    rows = read_table(path)
    assert list(rows) == [each.name for each in CLIENTS]
    assert rows[first.name][3:] == ("a / b c", "2026-11-01")
    assert rows[second.name][3] == "passed"
    assert rows[CLIENTS[2].name][3:] == ("not run yet", "")


def test_the_document_has_a_row_for_each_client():
    assert list(read_table(ROOT / "docs/compatibility.md")) == [each.name for each in CLIENTS]


def test_an_unknown_client_is_answered_with_those_there_are(capsys):
    assert main(["--only", "nothing"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(each.name in said for each in CLIENTS)
