"""The Invoke tasks: one for each make target, a few lines each. The work is done in falconry/."""

from __future__ import annotations

import ast
import atexit
import dataclasses
import gc
import json
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task

from falconry.files import user_path
from falconry.progress import FAILED, Progress
from falconry.streams import prepare_standard_streams, typed_text
from falconry.targets import (
    SELECTION,
    as_json,
    ignore_closed_output,
    print_result,
    run_program,
    target,
)

if TYPE_CHECKING:
    from falconry.pipeline import Output
    from falconry.project import Project
    from falconry.proxy.access import Access
    from falconry.targets import Select

# A run with nothing to do mostly imports, which creates many objects and no garbage. Without these
# two lines collections, on the way and at the end, take a fifth of the CPU time of an idle deploy.
# Everything else is imported after them.
gc.set_threshold(200_000)
atexit.register(gc.freeze)
prepare_standard_streams()


def facts(output: Output) -> dict[str, str]:
    """Returns a stage's output as JSON has it."""
    return {"path": str(output.path), "digest": output.digest, "summary": output.summary}


def print_state(selected: Project) -> None:
    """Prints the deployment's status where the result is asked for as JSON."""
    if as_json():
        print_result(selected.status().facts(), "")


def run_script(name: str, *flags: str, **options: str | int) -> None:
    """Runs a program of scripts/ with those of its options that are set."""
    words = [*flags, *(f"--{option}={value}" for option, value in options.items() if value)]
    run_program(shlex.join(["python", "-m", f"scripts.{name}", *words]))


@target()
def help(c: Context) -> None:
    """Show the targets."""
    # The source has the docstrings even where Python has none (PYTHONOPTIMIZE=2).
    body = ast.parse(Path(__file__).read_text(encoding="utf-8")).body
    texts = {
        each.name: ast.get_docstring(each) for each in body if isinstance(each, ast.FunctionDef)
    }
    width = max(map(len, namespace.tasks)) + 2
    # In a pipe each target has one line, for grep.
    columns = max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 1000
    lines = [
        textwrap.fill(
            str(texts[name.replace("-", "_")]),
            columns,
            initial_indent=f"  make {name:<{width}}",
            subsequent_indent=" " * (len("  make ") + width),
        )
        for name in sorted(namespace.tasks)
    ]
    lines += [
        '\nPROFILE=, RECIPE=, CHECKPOINT=, SET="section.key=value ..." say what is built.',
        "`.venv/bin/invoke --help <target>` shows a target's options.",
    ]
    with ignore_closed_output():
        Progress().note("\n".join(lines))


@target()
def doctor(c: Context, project: Select) -> None:
    """Say what this machine and account have and lack, and what to do."""
    from falconry import findings

    found = project().diagnose()
    if as_json():
        print_result(findings.as_json(found), "")
    else:
        with ignore_closed_output():
            findings.show(found, Progress())
    if findings.failures(found):
        raise Exit("", code=1)


@target()
def policies(c: Context, project: Select) -> None:
    """Print the policy statements that the profile needs, for copying."""
    from falconry.deployment.policies import policy_facts, policy_text

    scope = project().policies()
    print_result(policy_facts(scope), policy_text(scope))


@target(prices="a price table in TOML, for the cost of a build by a job")
def plan(c: Context, project: Select, prices: str = "") -> None:
    """Say which stages would run and why; run nothing."""
    table = shlex.quote(str(user_path(prices).absolute())) if prices else ""
    with ignore_closed_output():
        stages = project(*([f"engine.job.prices={table}"] if table else [])).plan()
        if as_json():
            print_result([dataclasses.asdict(stage) for stage in stages], "")


@target(cancel="end the job runs that are building it in Oracle's cloud")
def engine(c: Context, project: Select, cancel: bool = False) -> None:
    """Build the engine: ENGINE_RUN=job by a job in Oracle's cloud, which CANCEL=1 ends."""
    if cancel:
        ended = project().cancel_builds()
        print_result(ended, "\n".join(f"cancelled {each}" for each in ended) or "none is running")
        return
    output = project().run_until("engine")
    print_result(facts(output), f"Next: make deploy (engine: {output.path})")


@target()
def repository(c: Context, project: Select) -> None:
    """Assemble and verify the Triton model repository."""
    output = project().run_until("repository")
    print_result(facts(output), f"Next: make deploy (repository: {output.path})")


@target(file="where to write the zip; it is not needed for a deployment")
def artifact(c: Context, project: Select, file: str = "") -> None:
    """Describe the model artifact; FILE= writes it as a zip."""
    path = user_path(file).absolute()  # before loading the project leaves this directory
    if file:
        written = facts(project().write_artifact(path))
        print_result({**written, "file": str(path)}, f"Next: make deploy ({path})")
    else:
        output = project().run_until("artifact")
        print_result(facts(output), f"Next: make deploy (what the artifact holds: {output.path})")


@target(compose="other backends: backends=... repoagents=... caches=...")
def image(c: Context, project: Select, compose: str = "") -> None:
    """Build the server image, check it and push it; COMPOSE= for other backends."""
    overrides = [f"image.compose={shlex.quote(compose)}"] if compose else []
    output = project(*overrides).run_until("image")
    print_result(facts(output), "Next: make deploy")


@target(
    image="any container image; the profile's own when left out",
    artifact="a zip, or a directory with what would be in it; the profile's own when left out",
    command="words in place of the image's CMD",
    health="path of the health check; the profile's when left out",
    timeout="seconds until it must be healthy; 600 as in the cloud when left out",
)
def check_image(
    c: Context,
    project: Select,
    image: str = "",
    artifact: str = "",
    command: str = "",
    health: str = "",
    timeout: int = 0,
) -> None:
    """Run an image and an artifact under OCI's container contract: IMAGE=, ARTIFACT=."""
    kept = project().check_image(
        image, artifact, command, health, timeout or 600, as_json=as_json()
    )
    if not kept:
        raise Exit("", code=1)


@target(
    rollback="return to what answered before if the new deployment fails",
    expires="when make reap may stop it: 4h, 90m or 1d12h from now, or never",
)
def deploy(c: Context, project: Select, rollback: bool = False, expires: str = "") -> None:
    """Run every stage, until the endpoint is ACTIVE and answers; ROLLBACK=1 goes back if not."""
    output = project().run_until("deployment", rollback=rollback, expires=expires)
    print_result(facts(output), 'Next: make query PROMPT="Explain Cloud Computing to a school kid"')


@target(
    prompt="the question; its answer is printed",
    body="any JSON request instead, sent unchanged",
    max_tokens="the most tokens that the answer to a prompt may have; 128 when left out",
    stream="print the answer as it comes",
)
def query(
    c: Context,
    *,
    prompt: str = "",
    body: str = "",
    max_tokens: int = 0,
    project: Select,
    stream: bool = False,
) -> None:
    """Ask the endpoint: PROMPT="..." or BODY='{...}'; STREAM=1 prints as it comes."""
    with ignore_closed_output():
        request = typed_text(prompt) or None, typed_text(body) or None, max_tokens or 128
        if as_json():
            print_result(project().answer(*request), "")
        else:
            project().query(*request, stream=stream)


@target(port="of this machine's loopback; 8090 when left out")
def proxy(c: Context, project: Select, port: int = 0) -> None:
    """Sign requests of local clients that cannot: curl, openai, browsers; PORT=8090."""

    def ready(url: str, access: Access) -> None:
        files = {"token": str(access.token_file), "authorization": str(access.authorization_file)}
        lines = access.introduction(url, shows_token=sys.stdout.isatty())
        print_result({"url": url, **files}, "\n".join(lines))

    project().proxy(port or 8090, ready)


@target(
    concurrency="longest requests that shall be answered at a time",
    prices="a price table in TOML, see falconry/shapes/prices.py",
)
def shapes(c: Context, project: Select, concurrency: int = 0, prices: str = "") -> None:
    """Rank the cloud's shapes that hold the engine: CONCURRENCY=, PRICES=table.toml."""
    from falconry.shapes.advice import table

    path = user_path(prices).absolute() if prices else None
    advice = project().shapes(concurrency or 1, path)
    print_result(advice.facts(), table(advice))


@target()
def engines(c: Context, project: Select) -> None:
    """List the engines in the store, the newest first."""
    stored = project().engines()
    lines = [str(engine) for engine in stored] or ["The store is empty; run: make engine"]
    print_result([engine.facts() for engine in stored], "\n".join(lines))


@target(keep="how many of the newest engines and images stay")
def prune(c: Context, project: Select, keep: int = 0) -> None:
    """Remove all engines and local images but the newest KEEP= of each and those in use."""
    selected, keep = project(), keep or 3
    engines, images = selected.prune(keep), selected.prune_images(keep)
    removed = [*(each.facts() for each in engines), *(each.facts() for each in images)]
    lines = [f"removed {each}" for each in (*engines, *images)] or ["nothing to remove"]
    print_result(removed, "\n".join(lines))


@target(prices="a price table in TOML, for the cost; see falconry/shapes/prices.py")
def status(c: Context, project: Select, prices: str = "") -> None:
    """Show what is deployed; invoke's exit status is 0 when ACTIVE, 3 when nothing is, else 1."""
    path = user_path(prices).absolute() if prices else None
    found = project().status(path)
    if found.state or as_json():
        print_result(found.facts(), "\n".join(found.table()))
        complaint = ""
    else:
        complaint = f"{FAILED} nothing is deployed: {found.error}"
    if found.exit_status:
        raise Exit(complaint, code=found.exit_status)


@target(
    lines="how many of the newest lines; 200 when left out", follow="continue with each new line"
)
def logs(c: Context, project: Select, lines: int = 0, follow: bool = False) -> None:
    """Show the deployment's logs; FOLLOW=1 continues with each new line."""
    output = Progress()

    def show(line: str) -> None:
        output.note(json.dumps({"line": line}) if as_json() else line)

    with ignore_closed_output():
        project().logs(lines or 200, show, follow=follow)


@target(expires="as for deploy")
def activate(c: Context, project: Select, expires: str = "") -> None:
    """Start the deployment that was deactivated."""
    selected = project()
    selected.activate(expires)
    print_state(selected)


@target()
def deactivate(c: Context, project: Select) -> None:
    """Stop the deployment; it keeps its URL, and costs nothing."""
    selected = project()
    selected.deactivate()
    print_state(selected)


@target(
    minutes="the most that it may take until its removal; 90 when left out",
    cost="the most that its instances may cost; needs PRICES",
    prices="a price table in TOML, see docs/spending.md",
)
def prove(
    c: Context,
    profile: str = "",
    override: str = "",
    minutes: int = 0,
    cost: str = "",
    prices: str = "",
) -> None:
    """Try every stage on the profile's account, remove all of it, report: MINUTES=, COST=."""
    from falconry.prove.trial import caps_of, prove, succeeded

    path = user_path(prices).absolute() if prices else None
    progress = Progress(sys.stderr if as_json() else sys.stdout)
    report = prove(profile or "local", override, caps_of(minutes, cost), path, progress)
    print_result(report, f"Next: read build/prove/{report['run']}/report.md")
    if not succeeded(report):
        raise Exit("", code=1)


@target()
def reap(c: Context, project: Select) -> None:
    """Deactivate the compartment's deployments whose EXPIRES= is over, none without one."""
    found = project().reap()
    lines = [str(each) for each in found] or ["no deployment has an end"]
    print_result([each.facts() for each in found], "\n".join(lines))
    if any(each.failed for each in found):
        raise Exit("", code=1)


@target(keep="how many of the newest models stay", delete="delete the others")
def prune_models(c: Context, project: Select, keep: int = 0, delete: bool = False) -> None:
    """Deactivate the catalog's models but the newest KEEP= and those in use; DELETE=1 deletes."""
    models = project().prune_models(keep or 3, delete=delete)
    lines = [f"{each.outcome:<12}{each.made}  {each.id}" for each in models] or ["no models"]
    print_result([dataclasses.asdict(each) for each in models], "\n".join(lines))


@target()
def down(c: Context, project: Select) -> None:
    """Delete the deployment and stop the local cloud."""
    ended = project().down()
    if as_json():
        print_result(ended, "")


@target(everything="the engine store as well")
def clean(c: Context, project: Select, everything: bool = False) -> None:
    """Take everything down and remove what was built (the engine store stays)."""
    removed = project().clean(everything=everything)
    if as_json():
        print_result(removed, "")


@target()
def lint(c: Context) -> None:
    """Check style, formatting and types."""
    run_program("ruff check . && ruff format --check . && mypy")


@target(arguments="passed on to pytest")
def test(c: Context, arguments: str = "") -> None:
    """Check style and run the tests, mypy's check among them."""
    run_program(f"ruff check . && ruff format --check . && pytest {arguments}")


@target(arguments="passed on to pytest")
def test_fast(c: Context, arguments: str = "") -> None:
    """Check style and run the tests that need no server, no Docker engine and no make."""
    run_program(f"ruff check . && ruff format --check . && pytest -m unit {arguments}")


@target()
def docs(c: Context) -> None:
    """Write the generated parts of the pages in docs/."""
    run_script("docs")


@target(
    only="one of engine, generation, falcon3, served, noop, image, mirror, upload",
    quick="fewer repetitions",
)
def bench(c: Context, only: str = "", quick: bool = False) -> None:
    """Measure against other tools, as ratios; sets them up first (7 GB in build/bench)."""
    run_script("bench", *["--quick"] * quick, only=only)


@target(only="a client's name", nvidia="a checkout of NVIDIA's tensorrtllm_backend")
def check_clients(c: Context, only: str = "", nvidia: str = "") -> None:
    """Run other people's clients, unmodified, against the served model; docs/compatibility.md."""
    run_script("check_clients", only=only, nvidia=nvidia)


@target(duration="seconds of the load", override=SELECTION["override"])
def soak(c: Context, duration: int = 0, override: str = "") -> None:
    """Serve 200 mixed requests at a time for DURATION=120 seconds; no wrong answer, no leak."""
    run_script("soak", seconds=duration, set=override)


@target(seed="decides all", examples="inputs a surface", only="readers, served or local_cloud")
def fuzz(c: Context, seed: int = 0, examples: int = 0, only: str = "") -> None:
    """Give every reader and both HTTP surfaces damaged inputs: SEED=, EXAMPLES=10000."""
    run_script("fuzz", seed=seed, examples=examples, only=only)


@target(
    seed="decides all that is random",
    kills="how many processes are killed",
    rounds="only these, to continue a run or to repeat faults: 17,25,329-380",
)
def torture(c: Context, seed: int = 0, kills: int = 0, rounds: str = "") -> None:
    """Kill, fill and starve deploys and a served load at random: SEED=1, KILLS=300."""
    run_script("torture", seed=seed, kills=kills, rounds=rounds)


@target()
def lock(c: Context) -> None:
    """Pin all dependencies, with their digests, in requirements.lock."""
    run_program(
        "uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --quiet"
        " --generate-hashes --no-header --no-emit-index-url --no-emit-find-links"
        " --output-file requirements.lock"
    )


namespace = Collection(*[each for each in list(globals().values()) if isinstance(each, Task)])
