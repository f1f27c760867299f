"""What an exception means for the user: a message, an exit status, and the setting that is wrong.

What libraries raise about a machine's surroundings becomes an error that names the setting.
Classes are compared by name: to import a library only for a comparison takes longer than most runs.
Which setting is wrong is not guessed from a text: the variables that the library reads are checked.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from falconry.errors import (
    DetachedOperation,
    FalconryError,
    MachineError,
    OutputClosedError,
    format_error_with_details,
)
from falconry.files import atomic_write_text
from falconry.progress import FAILED
from falconry.streams import silence

# As requests and httpx read them; a variable in small letters wins.
_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
# What is sent in a header, which takes ASCII alone.
_SENT = ("HF_TOKEN", "OCIR_AUTH_TOKEN", "OCIR_USERNAME")
# Packages that make requests through a SOCKS proxy: for requests and the oci SDK, and for httpx.
_SOCKS_PACKAGES = ("socks", "socksio")

_OF_A_PROXY = re.compile(
    r"socks|prox(y|ies)\b|failed to parse|invalid port|port could not be", re.IGNORECASE
)
_OF_AUTHORITIES = re.compile(r"certificate|x509|pem|\bssl\b|no such file", re.IGNORECASE)
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
_HOST = re.compile(r"host='([^']+)'")
_REMEDIES = {
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "free some memory and run again",
    errno.EACCES: "give yourself the right to use it",
}
_TRACEBACK = "last-error.txt"
# The status that a shell gives a program that SIGPIPE ended, and for Ctrl-C.
_CLOSED_OUTPUT = 141
_INTERRUPTED = 130


def ending(error: BaseException, directory: Path) -> tuple[str, int]:
    """The message and the exit status of a run that an exception ends.

    Args:
        error: any exception.
        directory: where the traceback of a bug is written.
    """
    threads = getattr(error, "exceptions", ())  # those of Invoke that print a program's output
    if threads and all(getattr(each, "type", None) is BrokenPipeError for each in threads):
        silence(sys.stdout)
        return "", _CLOSED_OUTPUT
    if isinstance(error, OutputClosedError):
        return "", _CLOSED_OUTPUT
    if isinstance(error, DetachedOperation):
        return f"Interrupted; {error}.", _INTERRUPTED
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted; run the same again to continue.", _INTERRUPTED
    explained = error if isinstance(error, FalconryError) else explain_exception(error, directory)
    return f"{FAILED} {format_error_with_details(explained)}", 1


def setting_error(
    error: BaseException, environment: Mapping[str, str] = os.environ
) -> MachineError | None:
    """Finds the wrong setting of the environment that a library failed for, if any."""
    for each in _chain(error):
        text = str(each)
        found = None
        if isinstance(each, UnicodeEncodeError):
            found = _token_problem(environment)
        elif _OF_AUTHORITIES.search(text) and not getattr(each, "filename", None):
            found = _authority_problem(environment)
        if found is None and _OF_A_PROXY.search(text):
            found = proxy_problem(environment)
        if found:
            return found
        if _NOT_TRUSTED in text:
            host = _HOST.search(text)
            return MachineError(
                "a server's certificate is not trusted here",
                where=host[1] if host else None,
                remedy="name your authority's certificates in REQUESTS_CA_BUNDLE",
            )
    return None


def explain_exception(error: BaseException, directory: Path) -> FalconryError:
    """Explains an exception that no part of the project has translated.

    Args:
        error: a library's, or a bug's.
        directory: where the traceback of a bug is written.
    """
    if found := setting_error(error):
        return found
    if isinstance(error, OSError) and error.errno is not None:
        return MachineError(
            (error.strerror or os.strerror(error.errno)).lower(),
            where=error.filename and os.fsdecode(error.filename),
            remedy=_REMEDIES.get(error.errno),
        )
    if isinstance(error, MemoryError):
        return MachineError("this machine has no memory left", remedy="free some and run again")
    if isinstance(error, ImportError):
        return MachineError(
            f"a Python package cannot be used ({_first_line(error)})",
            remedy="remove .venv and run make again",
        )
    return _bug(error, directory)


def proxy_problem(environment: Mapping[str, str] = os.environ) -> MachineError | None:
    """Finds a proxy's variable that the libraries cannot use, if any."""
    for name in _PROXIES:
        if text := environment.get(name):
            problem = _problem_of_proxy(text)
            if problem:
                return MachineError(
                    problem,
                    where=name,
                    remedy="name a proxy such as http://proxy.example:3128, or leave it out",
                )
    return None


def _problem_of_proxy(text: str) -> str | None:
    """What is wrong with a proxy's URL, without the user and password that it may have."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port, host = url.port, url.hostname
    except ValueError as error:
        return f"is not the URL of a proxy ({error})"
    if url.scheme.startswith("socks"):
        missing = [each for each in _SOCKS_PACKAGES if importlib.util.find_spec(each) is None]
        return "names a SOCKS proxy, and no library for one is installed" if missing else None
    if url.scheme not in ("http", "https"):
        return f"is not the URL of a proxy (it begins with '{url.scheme}')"
    return None if host and port != 0 else "is not the URL of a proxy (it names no host)"


def _authority_problem(environment: Mapping[str, str]) -> MachineError | None:
    import ssl

    remedy = "name a file of certificates in PEM form, or leave it out"
    for name in _AUTHORITIES:
        text = environment.get(name)
        if not text:
            continue
        path = Path(text)
        if not path.exists():
            return MachineError(f"names {text}, which does not exist", where=name, remedy=remedy)
        if path.is_file():
            try:
                ssl.create_default_context(cafile=text)
            except OSError as error:
                reason = f"names {text}, which cannot be used ({error.strerror or error})"
                return MachineError(reason, where=name, remedy=remedy)
    return None


def _token_problem(environment: Mapping[str, str]) -> MachineError | None:
    for name in _SENT:
        if not environment.get(name, "").isascii():
            return MachineError(
                "holds characters that a token cannot have",
                where=name,
                remedy="copy the token once more",
            )
    return None


def _bug(error: BaseException, directory: Path) -> FalconryError:
    """Names an error by its kind alone: its text may hold a secret."""
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    path = directory / _TRACEBACK
    try:
        atomic_write_text(path, "".join([*traceback.format_tb(error.__traceback__), name, "\n"]))
        remedy = f"report this as a bug, with {path}"
    except (OSError, FalconryError):
        remedy = "report this as a bug"
    return FalconryError(f"an unexpected error ({name})", remedy=remedy)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["without a message"])[0]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was raised from or wraps, outermost first."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if each in seen:
            continue
        seen.append(each)
        yield each
        context = None if each.__suppress_context__ else each.__context__
        beside = [each.__cause__, context, getattr(each, "reason", None), *each.args]
        waiting += [found for found in beside if isinstance(found, BaseException)]
