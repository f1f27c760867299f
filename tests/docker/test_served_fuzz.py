"""Random requests to a real Triton with the tiny Falcon: scripts/fuzz/served.py."""

from scripts.fuzz.served import against


def test_no_request_makes_the_server_fail_hang_or_blame_itself(triton, triton_log):
    assert against(triton, triton_log, seed=14, examples=300).failures == ()
