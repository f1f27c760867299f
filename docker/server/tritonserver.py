"""The image's `tritonserver`: the real server behind the front.

    tritonserver.py REAL_TRITONSERVER [tritonserver's own arguments]

Triton and the front are children of this process, which ends when one of them does; signals go to
Triton. Only `--http-port` and `--http-address` are taken from the arguments. Without an option for
metrics, Triton serves its own on a free loopback port, and the front publishes them.
"""

import argparse
import contextlib
import os
import socket
import sys
import traceback

from supervisor import Supervisor

_LOOPBACK = "127.0.0.1"
# The address of Triton's own HTTP port, for the model tensorrt_llm_bls.
_TRITON_HTTP = "FALCONRY_TRITON_HTTP"


def main() -> None:
    """Runs Triton and the front until both have ended."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("server")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--http-address", default="0.0.0.0")
    parser.add_argument("--metrics-port", type=int)
    parser.add_argument("--metrics-address")
    options, others = parser.parse_known_args()
    inner, metrics = _free_ports(2)
    if options.metrics_port is not None:
        metrics = options.metrics_port
    if options.metrics_address is not None:  # by default that of HTTP
        others.append(f"--metrics-address={options.metrics_address}")
    os.environ[_TRITON_HTTP] = f"{_LOOPBACK}:{inner}"
    command = [
        options.server,
        *others,
        f"--http-address={_LOOPBACK}",
        f"--http-port={inner}",
        f"--metrics-port={metrics}",
    ]
    own = (options.http_address, options.http_port)
    upstream = f"http://{_LOOPBACK}:{inner}"
    metrics_url = f"http://{_reachable(options.metrics_address)}:{metrics}/metrics"
    sys.exit(Supervisor(command, lambda beats: _serve(own, upstream, metrics_url, beats)).run())


def _serve(own: tuple[str, int], upstream: str, metrics: str, beats: int) -> None:
    """Runs the front in a process of its own, and ends that."""
    from front import serve
    from health import BrokenServerError
    from settings import InvalidSettingError

    address, port = own
    status = 1
    try:
        serve(address, port, upstream, metrics, beats)
        status = 0
    except OSError as error:
        print(f"cannot listen on {address}:{port}: {error.strerror}", file=sys.stderr)
    except (BrokenServerError, InvalidSettingError) as error:
        print(f"front: {error}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _reachable(address: str | None) -> str:
    """The address to reach a server that listens on `address`."""
    return _LOOPBACK if address in (None, "0.0.0.0", "::") else address


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((_LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in sockets]


if __name__ == "__main__":
    main()
