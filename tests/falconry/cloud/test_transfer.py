import threading
import time
from concurrent.futures import CancelledError

import pytest

from falconry.deployment.transfer import RateLimiter, TransferProgress, UploadBody
from tests.clock import Clock


def test_bytes_go_as_fast_as_the_limit_says():
    clock = Clock()
    limiter = RateLimiter(2.0, clock.now, clock.sleep)
    for _ in range(100):
        limiter.take(100_000)
    assert clock.time == pytest.approx(10_000_000 / 2_000_000, abs=0.3)


def test_an_idle_time_is_not_saved_up():
    clock = Clock()
    limiter = RateLimiter(1.0, clock.now, clock.sleep)
    clock.sleep(1000)
    began = clock.time
    for _ in range(10):
        limiter.take(1_000_000)
    assert clock.time - began == pytest.approx(10.0, abs=0.3)


def test_several_threads_share_the_limit():
    limiter = RateLimiter(4.0)

    def send():
        for _ in range(5):
            limiter.take(100_000)

    threads = [threading.Thread(target=send) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 2_000_000 / 4_000_000 - 0.26


def test_without_a_limit_nothing_waits():
    clock = Clock()
    RateLimiter(None, clock.now, clock.sleep).take(10**12)
    assert clock.time == 0.0


@pytest.mark.parametrize(("rate", "piece"), [(None, 1 << 20), (0.001, 16 << 10), (1000, 1 << 20)])
def test_pieces_are_small_where_the_limit_is_low(rate, piece):
    assert RateLimiter(rate).piece_bytes == piece


def test_the_rate_and_the_time_left_are_told():
    clock, said = Clock(), []
    progress = TransferProgress(
        "sending", 100_000_000, lambda *words: said.append(words), clock.now
    )
    for _ in range(10):
        clock.sleep(1.0)
        progress.add(5_000_000)
    assert said[-1] == ("sending · 5.0 MB/s · 10 s left", 0.5)
    for _ in range(10):
        clock.sleep(1.0)
        progress.add(5_000_000)
    assert said[-1] == ("sending", 1.0)


def test_what_was_there_already_does_not_count_as_fast():
    clock, said = Clock(), []
    progress = TransferProgress(
        "sending", 100_000_000, lambda *words: said.append(words), clock.now
    )
    progress.skip(50_000_000)
    clock.sleep(1.0)
    progress.add(1_000_000)
    assert said == [("sending · 1.0 MB/s · 49 s left", 0.51)]


@pytest.mark.parametrize(
    ("left", "words"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (11_100, "3 h 05 min")]
)
def test_the_time_left_is_told_as_people_say_it(left, words):
    clock, said = Clock(), []
    total = 1_000_000 + round(left * 1_000_000)
    progress = TransferProgress("sending", total, lambda *told: said.append(told), clock.now)
    clock.sleep(1.0)
    progress.add(1_000_000)
    assert said[-1][0] == f"sending · 1.0 MB/s · {words} left"


def test_a_body_is_read_in_pieces_and_counted():
    said = []
    progress = TransferProgress("sending", 10, lambda *words: said.append(words))
    content = b"0123456789"
    body = UploadBody(
        10, lambda start, count: content[start : start + count], RateLimiter(None), progress
    )
    pieces = [body.read(4), body.read(4), body.read(4), body.read(4)]
    assert pieces == [b"0123", b"4567", b"89", b""]
    assert (len(body), body.tell()) == (10, 10)


def test_a_body_that_goes_back_counts_what_it_sends_again_once():
    said = []
    progress = TransferProgress("sending", 10, lambda *words: said.append(words))
    content = b"0123456789"
    body = UploadBody(
        10, lambda start, count: content[start : start + count], RateLimiter(None), progress
    )
    assert (body.read(7), body.tell()) == (b"0123456", 7)
    body.seek(0)
    assert body.read(10) == content
    assert said[-1] == ("sending", 1.0)


def test_a_body_that_is_not_wanted_any_more_is_neither_read_nor_sent_again():
    stopped = threading.Event()
    progress = TransferProgress("sending", 10, lambda *words: None)
    body = UploadBody(10, lambda start, count: bytes(count), RateLimiter(None), progress, stopped)
    body.read(4)
    stopped.set()
    with pytest.raises(CancelledError):
        body.read(4)
    with pytest.raises(CancelledError):
        body.seek(0)
