"""The command line: serve, start, stop, status, session, check-image."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from local_oci.contract_check import command as check_image
from local_oci.daemon import (
    ALREADY_SERVED,
    AlreadyServedError,
    DaemonError,
    ServeError,
    ServeOptions,
    require_registry,
    running_endpoint,
    start,
    stop,
)
from local_oci.home import DiskFullError, Home, StateError
from local_oci.limits import START_TIMEOUT_SECONDS, STOP_GRACE_SECONDS
from local_oci.runtime.images import ProcessImages
from local_oci.runtime.isolation import AUTO, Isolation
from local_oci.services.sessions import command as session

_NOT_RUNNING = 3  # as `service status` has it (LSB)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        options = _parser().parse_args(arguments)
    except OSError as error:  # of a path that no file system holds, for instance
        print(f"{error.filename}: {error.strerror or error}", file=sys.stderr)
        return 2
    if options.verb == check_image.VERB:
        return check_image.run(options)
    home = Home(options.directory.resolve())
    command = {
        "serve": _serve,
        "start": _start,
        "stop": _stop,
        "status": _status,
        session.VERB: session.run,
    }[options.verb]
    try:
        return command(home, options)
    except (ServeError, DaemonError, StateError, DiskFullError) as error:
        print(error, file=sys.stderr)
        return ALREADY_SERVED if isinstance(error, AlreadyServedError) else 1
    except OSError as error:
        print(f"{error.filename or home.root}: {error.strerror or error}", file=sys.stderr)
        return 1


def _serve(home: Home, options: argparse.Namespace) -> int:
    from local_oci.serving import serve  # half a second of imports that no other verb needs

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("uvicorn.error", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    serve(
        ServeOptions(
            home=home,
            host=options.host,
            port=options.port,
            images=dict(options.image),
            isolation=options.isolation,
            start_timeout=options.start_timeout,
            stop_grace=options.stop_grace,
            registry=options.registry,
        )
    )
    return 0


def _start(home: Home, options: argparse.Namespace) -> int:
    endpoint = start(
        home,
        [
            f"--directory={home.root}",
            f"--host={options.host}",
            f"--port={options.port}",
            f"--isolation={options.isolation}",
            f"--start-timeout={options.start_timeout}",
            f"--stop-grace={options.stop_grace}",
            *(["--registry"] if options.registry else []),
        ],
    )
    if options.registry:
        require_registry(home, endpoint)  # a server that runs already may have none
    # Not an argument of `serve`: a server that runs already shall know the images as well.
    ProcessImages(home.images).register(dict(options.image))
    print(endpoint)
    return 0


def _stop(home: Home, options: argparse.Namespace) -> int:
    print("stopped" if stop(home) else "not running")
    return 0


def _status(home: Home, options: argparse.Namespace) -> int:
    endpoint = running_endpoint(home)
    if endpoint is None:
        print("not running")
        return _NOT_RUNNING
    print(f"running at {endpoint}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="local_oci",
        description="A local Oracle Cloud for model deployments, spoken to by the oci SDK.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for name, text in (
        ("serve", "serve a cloud until SIGTERM or SIGINT"),
        ("start", "serve a cloud in the background and print its endpoint"),
    ):
        _add_serve_options(verbs.add_parser(name, help=text, description=text))
    for name, text in (
        ("stop", "stop a cloud and all processes of its deployments"),
        ("status", "report whether a cloud runs, and where"),
    ):
        _add_directory(verbs.add_parser(name, help=text, description=text))
    _add_directory(session.add_command(verbs))
    check_image.add_command(verbs)
    return parser


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory",
        type=Path,
        required=True,
        metavar="D",
        help="where the cloud keeps its state; its SDK config file is D/config",
    )


def _add_serve_options(parser: argparse.ArgumentParser) -> None:
    _add_directory(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="port to listen on; 0, the default, is the port of last time or any free one",
    )
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="REF=DIR",
        help="process image: deployments of the container image REF run programs from DIR/bin; "
        "can be given several times and is remembered",
    )
    parser.add_argument(
        "--isolation",
        choices=[AUTO, *Isolation],
        default=AUTO,
        help="how far deployments are set apart from this machine (%(default)s)",
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=START_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="how long a deployment may take to become healthy (%(default)g)",
    )
    parser.add_argument(
        "--stop-grace",
        type=int,
        choices=range(STOP_GRACE_SECONDS + 1),  # `stop` waits no longer than for the default
        default=STOP_GRACE_SECONDS,
        metavar="SECONDS",
        help="how long a container may take to end after SIGTERM, at most %(default)d, the default",
    )
    parser.add_argument(
        "--registry",
        action="store_true",
        help="serve a container registry as well, by the program docker-registry; its address is "
        "in D/registry-host, and the directory has one from then on",
    )


def _image(text: str) -> tuple[str, Path]:
    reference, separator, directory = text.partition("=")
    path = Path(directory).resolve()
    if not separator or not reference:
        raise argparse.ArgumentTypeError(f"'{text}' is not REF=DIR")
    if not (path / "bin").is_dir():
        raise argparse.ArgumentTypeError(f"{path} has no directory 'bin'")
    return reference, path
