"""The Invoke tasks: one a make target, a few lines each. What they do stands in falconry/."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import gc
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ThreadException
from invoke.tasks import task

from falconry.errors import FalconryError, GoesOnError, ReaderGoneError, SettingsError, told
from falconry.files import disk_errors_told
from falconry.progress import FAILED, Progress, silence

if TYPE_CHECKING:
    from falconry.pipeline import Output
    from falconry.project import Project

ROOT = Path(__file__).resolve().parent

# A run with nothing to do mostly imports. That makes a great many objects and no garbage, and
# looking through them for some, meanwhile and at the end, would be a third of its time. So all else
# is imported after this.
gc.set_threshold(200_000)
atexit.register(gc.freeze)

# What a shell makes of a program that SIGPIPE ended, as it ends others in the midst of their work.
READER_GONE = 141

SELECTION = {
    "profile": "profiles/<name>.toml; local when left out",
    "recipe": "engine/recipes/<name>.toml, in place of the profile's",
    "checkpoint": "a Hugging Face Falcon directory, or hub:<repository>@<commit>",
    "override": 'any other value of the profile: "section.key=value ..."',
}


def target(**options: str) -> Callable[[Callable[..., None]], Any]:
    """An Invoke task whose failures are one line and an exit status that is not 0."""

    def decorate(body: Callable[..., None]) -> Any:
        @functools.wraps(body)
        def told_of(*arguments: Any, **named: Any) -> None:
            try:
                with disk_errors_told(ROOT / "build"):
                    body(*arguments, **named)
            except FalconryError as error:
                raise Exit(f"{FAILED} {told(error)}", code=1) from None
            except ReaderGoneError:
                raise Exit("", code=READER_GONE) from None
            except ThreadException as error:  # of a program that a Context runs
                if any(each.type is not BrokenPipeError for each in error.exceptions):
                    raise
                silence(sys.stdout)
                raise Exit("", code=READER_GONE) from None
            except GoesOnError as interrupt:
                raise Exit(f"Interrupted; {interrupt}.", code=130) from None
            except KeyboardInterrupt:
                raise Exit("Interrupted; run the same again to go on.", code=130) from None

        return task(help=options)(told_of)

    return decorate


def flag(variable: str) -> bool:
    """Whether make was asked for something with `=1`."""
    return os.environ.get(variable, "") not in ("", "0")


def as_json() -> bool:
    """Whether `make JSON=1` asked for results that a program reads."""
    return flag("FALCONRY_JSON")


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """What only tells: it is done when its reader has had enough of it, as `head` has."""
    with contextlib.suppress(ReaderGoneError):
        yield


def tell(result: Any, line: str) -> None:
    """Ends a target: a line for people, or with JSON=1 the result alone on standard output."""
    with telling():
        Progress().note(json.dumps(result, indent=1) if as_json() else line)


def facts(output: Output) -> dict[str, str]:
    """A stage's output for a program that goes on with it."""
    return {"path": str(output.path), "digest": output.digest, "summary": output.summary}


def project(
    profile: str = "", recipe: str = "", checkpoint: str = "", override: str = ""
) -> Project:
    """The project with what the command line selects, or make through the environment."""
    from falconry.project import Project
    from falconry.settings import load_settings

    settings = load_settings(
        ROOT,
        profile or os.environ.get("FALCONRY_PROFILE") or "local",
        recipe=recipe or os.environ.get("FALCONRY_RECIPE"),
        checkpoint=checkpoint or os.environ.get("FALCONRY_CHECKPOINT"),
        overrides=override or os.environ.get("FALCONRY_SET"),
    )
    os.chdir(ROOT)
    return Project(settings, Progress(sys.stderr if as_json() else sys.stdout))


def number(variable: str, default: int) -> int:
    """A positive number from make.

    Raises:
        SettingsError: it is none.
    """
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(
            f"{text!r} is not a positive number", where=variable[len("FALCONRY_") :]
        )
    return int(text)


@target()
def help(c: Context) -> None:
    """Show the targets."""
    lines = [
        f"  make {name:<12}{(each.__doc__ or '').splitlines()[0]}"
        for name, each in sorted(namespace.tasks.items())
    ]
    lines += [
        '\nPROFILE=, RECIPE=, CHECKPOINT= and SET="section.key=value ..." select what is built.',
        "`.venv/bin/invoke --help <target>` tells a target's options.",
    ]
    with telling():
        Progress().note("\n".join(lines))


@target(**SELECTION)
def doctor(
    c: Context, profile: str = "", recipe: str = "", checkpoint: str = "", override: str = ""
) -> None:
    """Say what this machine and account have and lack, and what to do."""
    from falconry.doctor import finding

    findings = project(profile, recipe, checkpoint, override).diagnose()
    if as_json():
        tell(finding.facts(findings), "")
    else:
        with telling():
            finding.tell(findings, Progress())
    if not finding.healthy(findings):
        raise Exit("", code=1)


@target(**SELECTION)
def plan(
    c: Context, profile: str = "", recipe: str = "", checkpoint: str = "", override: str = ""
) -> None:
    """Say which stages would run and why; run nothing."""
    with telling():
        stages = project(profile, recipe, checkpoint, override).plan()
        if as_json():
            tell([dataclasses.asdict(stage) for stage in stages], "")


@target(**SELECTION)
def engine(
    c: Context, profile: str = "", recipe: str = "", checkpoint: str = "", override: str = ""
) -> None:
    """Build the engine from the checkpoint."""
    output = project(profile, recipe, checkpoint, override).bring_up_to("engine")
    tell(facts(output), f"Next: make deploy (engine: {output.path})")


@target(**SELECTION)
def repository(
    c: Context, profile: str = "", recipe: str = "", checkpoint: str = "", override: str = ""
) -> None:
    """Assemble and verify the Triton model repository."""
    output = project(profile, recipe, checkpoint, override).bring_up_to("repository")
    tell(facts(output), f"Next: make deploy (repository: {output.path})")


@target(**SELECTION, file="where to write the zip; it is not needed for a deployment")
def artifact(
    c: Context,
    profile: str = "",
    recipe: str = "",
    checkpoint: str = "",
    override: str = "",
    file: str = "",
) -> None:
    """Describe the model artifact; FILE= writes it as a zip."""
    place = file or os.environ.get("FALCONRY_FILE", "")
    absolute_place = Path(place).expanduser().absolute()
    selected = project(profile, recipe, checkpoint, override)
    if not place:
        output = selected.bring_up_to("artifact")
        tell(facts(output), f"Next: make deploy (what the artifact holds: {output.path})")
        return
    output = selected.write_artifact(absolute_place)
    tell({**facts(output), "file": str(absolute_place)}, f"Next: make deploy ({absolute_place})")


@target(**SELECTION, compose="other backends: backends=... repoagents=... caches=...")
def image(
    c: Context,
    profile: str = "",
    recipe: str = "",
    checkpoint: str = "",
    override: str = "",
    compose: str = "",
) -> None:
    """Build the server image, check it and push it; COMPOSE= for other backends."""
    chosen = compose or os.environ.get("FALCONRY_COMPOSE", "")
    words = [override or os.environ.get("FALCONRY_SET", "")]
    words += [f"image.compose={shlex.quote(chosen)}"] if chosen else []
    output = project(profile, recipe, checkpoint, " ".join(words)).bring_up_to("image")
    tell(facts(output), "Next: make deploy")


@target(
    **SELECTION,
    image="any container image; the profile's own when left out",
    artifact="a zip, or a directory with what would be in it; the profile's own when left out",
    command="words in place of the image's CMD",
    health="path of the health check; the profile's when left out",
    timeout="seconds until it must be healthy; 600 as in the cloud when left out",
)
def check_image(
    c: Context,
    profile: str = "",
    recipe: str = "",
    checkpoint: str = "",
    override: str = "",
    image: str = "",
    artifact: str = "",
    command: str = "",
    health: str = "",
    timeout: int = 0,
) -> None:
    """Run an image and an artifact under OCI's container contract: IMAGE=, ARTIFACT=."""
    kept = project(profile, recipe, checkpoint, override).check_image(
        image or os.environ.get("FALCONRY_IMAGE", ""),
        artifact or os.environ.get("FALCONRY_ARTIFACT", ""),
        command or os.environ.get("FALCONRY_COMMAND", ""),
        health or os.environ.get("FALCONRY_HEALTH", ""),
        timeout or number("FALCONRY_TIMEOUT", 600),
        as_json=as_json(),
    )
    if not kept:
        raise Exit("", code=1)


@target(**SELECTION, rollback="return to what answered before if the new deployment fails")
def deploy(
    c: Context,
    profile: str = "",
    recipe: str = "",
    checkpoint: str = "",
    override: str = "",
    rollback: bool = False,
) -> None:
    """Run every stage, until the endpoint is ACTIVE and answers; ROLLBACK=1 goes back if not."""
    chosen = project(profile, recipe, checkpoint, override)
    output = chosen.bring_up_to("deployment", rollback=rollback or flag("FALCONRY_ROLLBACK"))
    tell(facts(output), 'Next: make query PROMPT="Explain Cloud Computing to a school kid"')


@target(
    profile=SELECTION["profile"],
    prompt="the question; its answer is printed",
    body="any JSON request instead, sent as it stands",
    max_tokens="the most tokens that the answer may have",
    stream="print the answer as it comes",
)
def query(
    c: Context,
    prompt: str = "",
    body: str = "",
    max_tokens: int = 128,
    profile: str = "",
    stream: bool = False,
) -> None:
    """Ask the endpoint: PROMPT="..." or BODY='{...}'; STREAM=1 prints as it comes."""
    stream = stream or flag("FALCONRY_STREAM")
    prompt = prompt or os.environ.get("FALCONRY_PROMPT", "")
    body = body or os.environ.get("FALCONRY_BODY", "")
    with telling():
        project(profile).query(prompt or None, body or None, max_tokens, stream=stream)


@target(
    **SELECTION,
    concurrency="longest requests that shall be answered at a time",
    prices="a price table in TOML, see falconry/shapes/prices.py",
)
def shapes(
    c: Context,
    profile: str = "",
    recipe: str = "",
    checkpoint: str = "",
    override: str = "",
    concurrency: int = 0,
    prices: str = "",
) -> None:
    """Rank the cloud's shapes that hold the engine: CONCURRENCY=, PRICES=table.toml."""
    from falconry.shapes.table import table

    named = prices or os.environ.get("FALCONRY_PRICES", "")
    path = Path(named).expanduser().absolute() if named else None
    wanted = concurrency or number("FALCONRY_CONCURRENCY", 1)
    advice = project(profile, recipe, checkpoint, override).shapes(wanted, path)
    tell(advice.facts(), table(advice))


@target(profile=SELECTION["profile"])
def engines(c: Context, profile: str = "") -> None:
    """List the engines in the store, the newest first."""
    stored = project(profile).engines()
    lines = [str(engine) for engine in stored] or ["The store is empty; run: make engine"]
    tell([engine.facts() for engine in stored], "\n".join(lines))


@target(profile=SELECTION["profile"], keep="how many of the newest engines and images stay")
def prune(c: Context, profile: str = "", keep: int = 0) -> None:
    """Remove all engines and local images but the newest KEEP= of each and those in use."""
    wanted = keep or number("FALCONRY_KEEP", 3)
    chosen = project(profile)
    engines, images = chosen.prune(wanted), chosen.prune_images(wanted)
    gone = [*(engine.facts() for engine in engines), *(image.facts() for image in images)]
    lines = [f"removed {each}" for each in (*engines, *images)] or ["nothing to remove"]
    tell(gone, "\n".join(lines))


@target(profile=SELECTION["profile"], override=SELECTION["override"])
def status(c: Context, profile: str = "", override: str = "") -> None:
    """Show what is deployed; invoke's exit status is 0 when ACTIVE, 3 when nothing is, else 1."""
    found = project(profile, override=override).status()
    if found.state or as_json():
        tell(found.facts(), "\n".join(found.table()))
        complaint = ""
    else:
        complaint = f"{FAILED} nothing is deployed: {found.error}"
    if found.exit_status:
        raise Exit(complaint, code=found.exit_status)


@target(
    profile=SELECTION["profile"],
    override=SELECTION["override"],
    lines="how many of the newest lines",
    follow="go on with each line that comes",
)
def logs(
    c: Context, profile: str = "", override: str = "", lines: int = 200, follow: bool = False
) -> None:
    """Show the deployment's logs; FOLLOW=1 goes on with each line that comes."""
    with telling():
        project(profile, override=override).logs(lines, follow=follow or flag("FALCONRY_FOLLOW"))


@target(profile=SELECTION["profile"], override=SELECTION["override"])
def activate(c: Context, profile: str = "", override: str = "") -> None:
    """Start the deployment that was deactivated."""
    project(profile, override=override).activate()


@target(profile=SELECTION["profile"], override=SELECTION["override"])
def deactivate(c: Context, profile: str = "", override: str = "") -> None:
    """Stop the deployment; it keeps its URL, and costs nothing."""
    project(profile, override=override).deactivate()


@target(
    profile=SELECTION["profile"],
    override=SELECTION["override"],
    keep="how many of the newest models stay",
    delete="delete the others, instead of deactivating them",
)
def prune_models(
    c: Context, profile: str = "", override: str = "", keep: int = 0, delete: bool = False
) -> None:
    """Deactivate the catalog's models but the newest KEEP= and those in use; DELETE=1 deletes."""
    wanted = keep or number("FALCONRY_KEEP", 3)
    models = project(profile, override=override).prune_models(
        wanted, delete=delete or flag("FALCONRY_DELETE")
    )
    lines = [f"{each.outcome:<12}{each.made}  {each.id}" for each in models] or ["no models"]
    tell([dataclasses.asdict(each) for each in models], "\n".join(lines))


@target(profile=SELECTION["profile"])
def down(c: Context, profile: str = "") -> None:
    """Delete the deployment and stop the local cloud."""
    project(profile).down()


@target(profile=SELECTION["profile"], everything="the engine store as well")
def clean(c: Context, profile: str = "", everything: bool = False) -> None:
    """Take everything down and remove what was built (the engine store stays)."""
    project(profile).clean(everything=everything)


@target()
def lint(c: Context) -> None:
    """Check style, formatting and types."""
    c.run("ruff check . && ruff format --check . && mypy", pty=False)


@target(arguments="passed on to pytest")
def test(c: Context, arguments: str = "") -> None:
    """Run the linters and the whole test suite."""
    lint(c)
    c.run(f"pytest {arguments}", pty=False)


@target(arguments="passed on to pytest")
def test_fast(c: Context, arguments: str = "") -> None:
    """Check style and run the tests that need no server, no Docker engine and no make."""
    c.run(f"ruff check . && ruff format --check . && pytest -m unit {arguments}", pty=False)


@target(
    only="one of engine, generation, served, noop, upload",
    quick="fewer repetitions",
)
def bench(c: Context, only: str = "", quick: bool = False) -> None:
    """Measure against other tools, as ratios; sets them up first (7 GB in build/bench)."""
    chosen = only or os.environ.get("FALCONRY_ONLY", "")
    words = [
        f"--only {shlex.quote(chosen)}" if chosen else "",
        "--quick" if quick or flag("FALCONRY_QUICK") else "",
    ]
    c.run(f"python -m scripts.bench {' '.join(words)}", pty=False)


@target(duration="seconds of the load", override=SELECTION["override"])
def soak(c: Context, duration: int = 0, override: str = "") -> None:
    """Serve 200 mixed requests at a time for DURATION=120 seconds; no wrong answer, no leak."""
    seconds = duration or number("FALCONRY_DURATION", 120)
    values = shlex.quote(override or os.environ.get("FALCONRY_SET", ""))
    c.run(f"python -m scripts.soak --seconds {seconds} --set {values}", pty=False)


@target()
def lock(c: Context) -> None:
    """Pin all dependencies, with their digests, in requirements.lock."""
    c.run(
        "uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --quiet"
        " --generate-hashes --no-header --no-emit-index-url --no-emit-find-links"
        " --output-file requirements.lock"
    )


namespace = Collection(
    help,
    doctor,
    plan,
    engine,
    repository,
    artifact,
    image,
    check_image,
    deploy,
    query,
    shapes,
    engines,
    prune,
    status,
    logs,
    activate,
    deactivate,
    prune_models,
    down,
    clean,
    lint,
    test,
    test_fast,
    bench,
    soak,
    lock,
)
