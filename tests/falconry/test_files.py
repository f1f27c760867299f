import errno
import multiprocessing
import os
import signal
import time

import pytest

from falconry.errors import MachineError, SettingsError
from falconry.files import (
    atomic_write,
    file_lock,
    remove,
    remove_stale,
    translate_disk_errors,
    user_path,
)


def test_an_output_appears_when_it_is_whole(tmp_path):
    place = tmp_path / "out"
    with atomic_write(place) as output:
        output.write_text("half")
        assert not place.exists()
        output.write_text("whole")
    assert place.read_text() == "whole"
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_writing_leaves_the_old_output_and_nothing_else(tmp_path):
    place = tmp_path / "out"
    place.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(place) as output:
        output.write_text("half")
        raise ZeroDivisionError
    assert place.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_directory_appears_when_it_is_whole(tmp_path):
    place = tmp_path / "out"
    with atomic_write(place, directory=True) as output:
        (output / "file").write_text("x")
        assert not place.exists()
    assert (place / "file").read_text() == "x"


def write_until_killed(place, started):
    with atomic_write(place) as output:
        output.write_text("half")
        started.set()
        time.sleep(60)


def test_what_a_killed_run_left_is_swept_away(tmp_path):
    place = tmp_path / "out"
    place.write_text("old")
    started = multiprocessing.Event()
    writer = multiprocessing.Process(target=write_until_killed, args=(place, started))
    writer.start()
    started.wait(30)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert place.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    remove_stale(tmp_path)
    assert os.listdir(tmp_path) == ["out"]


def test_what_a_living_process_is_making_is_not_swept_away(tmp_path):
    with atomic_write(tmp_path / "out") as output:
        output.write_text("half")
        remove_stale(tmp_path)
        assert output.read_text() == "half"
    assert (tmp_path / "out").read_text() == "half"


def test_read_only_trees_can_be_removed(tmp_path):
    tree = tmp_path / "tree" / "inner"
    tree.mkdir(parents=True)
    (tree / "file").touch(mode=0o444)
    tree.chmod(0o555)
    remove(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_refusing_disk_is_one_clear_sentence(tmp_path, number):
    with pytest.raises(MachineError) as failure, translate_disk_errors(tmp_path / "out"):
        raise OSError(number, "x")
    text = str(failure.value)
    assert str(tmp_path / "out") in text
    assert os.strerror(number).lower() in text
    assert "\n" not in text


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    with pytest.raises(MachineError, match="no space left"), atomic_write(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "x")
    assert os.listdir(tmp_path) == []


def hold(path, held, release):
    with file_lock(path, lambda holder: None):
        held.set()
        release.wait(30)


def test_a_second_run_waits_and_names_the_holder(tmp_path):
    held, release = multiprocessing.Event(), multiprocessing.Event()
    holder = multiprocessing.Process(target=hold, args=(tmp_path / "lock", held, release))
    holder.start()
    held.wait(30)
    named = []

    def on_wait(name):
        named.append(name)
        release.set()

    with file_lock(tmp_path / "lock", on_wait):
        pass
    holder.join()
    assert f"process {holder.pid}" in named[0]


def test_a_stopped_holder_is_not_waited_for(tmp_path):
    held, release = multiprocessing.Event(), multiprocessing.Event()
    holder = multiprocessing.Process(target=hold, args=(tmp_path / "lock", held, release))
    holder.start()
    held.wait(30)
    os.kill(holder.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        said = rf"process {holder.pid} .* is stopped.*; continue"
        with pytest.raises(MachineError, match=said), file_lock(tmp_path / "lock", print):
            pass
    finally:
        holder.kill()
        holder.join()


def test_a_killed_holder_holds_nothing(tmp_path):
    held, release = multiprocessing.Event(), multiprocessing.Event()
    holder = multiprocessing.Process(target=hold, args=(tmp_path / "lock", held, release))
    holder.start()
    held.wait(30)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    waited = []
    with file_lock(tmp_path / "lock", waited.append):
        pass
    assert waited == []


@pytest.mark.parametrize("text", ["~no-such-user/x", "a\0b", "\ud800"])
def test_what_is_no_path_is_refused_in_one_sentence(text):
    with pytest.raises(SettingsError, match="is not a path"):
        user_path(text)


def test_a_path_may_begin_at_the_users_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(user_path("~/checkpoint")) == "/home/someone/checkpoint"
