"""The trial: an engine, an image and a deployment that answers, changes and is removed."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.cloud import emulator
from falconry.data_files import project_file
from falconry.errors import CloudError, EndpointError, FalconryError, SettingsError
from falconry.progress import Progress
from falconry.project import Project
from falconry.prove.answers import Answers
from falconry.prove.guardian import TAG, Task, finish_old_trials, guarded
from falconry.prove.report import REPORT, REPORT_JSON, Record, StepResult
from falconry.settings import Settings, load_settings

if TYPE_CHECKING:
    from falconry.cloud.session import Session
    from falconry.endpoint.endpoint import Endpoint

CHECKPOINT = "checkpoints/tiny-falcon"
RECIPE, OTHER_RECIPE = "cpu", "cpu-f32"
_SENTENCES = f"{CHECKPOINT}/sentences.json"
_MAX_TOKENS = 128
# So that no Python model of the server starts.
_BROKEN = 'deployment.environment.PYTHONHOME="/nowhere"'
_LOG_WAIT_S = 120.0
_MINUTES = 90
_LOG_PAUSE_S = 3.0


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that a trial may take.

    Attributes:
        minutes: from its begin until its removal begins.
        cost: the most that its instances may cost, None for no limit.
    """

    minutes: float
    cost: float | None = None

    def within(self, price_hour: float | None) -> Caps:
        """Returns the caps with so few minutes that the cost is kept.

        Raises:
            SettingsError: the cost is limited and the price is not known.
        """
        if self.cost is None:
            return self
        if price_hour is None:
            raise SettingsError(
                "cannot be kept: the price of the shape is not known",
                where="COST",
                remedy="give PRICES=table.toml with the price of the shape",
            )
        most = self.cost / price_hour * 60 if price_hour else self.minutes
        return replace(self, minutes=min(self.minutes, most))

    def __str__(self) -> str:
        return "" if self.cost is None else f"at most {self.cost:.2f} of the price table's currency"


def caps_of(minutes: int, cost: str) -> Caps:
    """Returns the caps that the options MINUTES and COST name.

    Raises:
        SettingsError: the cost is no positive number.
    """
    if not cost:
        return Caps(minutes or _MINUTES)
    try:
        most = float(cost)
    except ValueError:
        most = 0.0
    if not 0 < most < 1e6:
        raise SettingsError(f"{cost!r} is not a positive number", where="COST")
    return Caps(minutes or _MINUTES, most)


class StoppedTrial(KeyboardInterrupt):
    """The trial was ended by a signal or by its limit of time."""


def prove(
    profile: str, overrides: str, caps: Caps, prices: Path | None, progress: Progress
) -> Mapping[str, Any]:
    """Runs a trial of a profile, removes what it made, and returns its report.

    Args:
        profile: whose account is used; the model, the shape and all names are the trial's own.
        overrides: values of the profile besides.
        caps: the most that it may take.
        prices: a price table, needed to limit the cost.
        progress: where to report.
    """
    run = f"falconry-prove-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    settings = trial_settings(profile, run, overrides)
    caps = caps.within(_price(settings, prices))
    directory = Path("build/prove") / run
    for old in finish_old_trials(directory.parent):
        progress.done("prove", "removed", f"what {old} left")
    directory.mkdir(parents=True)
    local = settings.cloud.emulator
    task = Task(
        run=run,
        cloud=settings.cloud.model_dump_json(),
        seconds=caps.minutes * 60,
        ends_emulator=local is not None and emulator.is_stopped(local),
    )
    trial = _Trial(profile, run, overrides, directory, caps, progress)
    with guarded(directory, task):
        trial.run()
        progress.running("prove", "removing what the trial made")
    report: Mapping[str, Any] = json.loads((directory / REPORT_JSON).read_text(encoding="utf-8"))
    progress.done("prove", "reported", str(directory / REPORT))
    return report


def succeeded(report: Mapping[str, Any]) -> bool:
    """Whether each step of a trial was done, and everything was removed."""
    steps = all(each["outcome"] == "done" for each in report["steps"])
    return steps and report["ended"] and not any(each["problem"] for each in report["removed"])


def trial_settings(profile: str, run: str, overrides: str, recipe: str = RECIPE) -> Settings:
    """Returns a profile's settings for a trial: its account, and everything else the trial's own.

    The model is the tiny Falcon on a CPU, so that the trial needs no GPU.
    """
    own = [
        "engine.builder=openvino",
        f"cloud.project={run}",
        f"cloud.model_version_set={run}",
        f"cloud.log_group={run}",
        f"cloud.log={run}",
        f"cloud.tags='[\"{TAG}={run}\"]'",
        f"image.registry.prefix={run}",
        f"deployment.name={run}",
        "deployment.shape=VM.Standard.E4.Flex",
        "deployment.ocpus=2",
        "deployment.memory_gib=16",
        "deployment.openai=true",
    ]
    settings = load_settings(
        project_file(),
        profile,
        recipe=recipe,
        checkpoint=str(project_file(CHECKPOINT)),
        overrides=" ".join([*own, overrides]),
    )
    engine = settings.engine.model_copy(update={"mirror": None})
    # OCIR in the trial's compartment, where the removal looks.
    registry = settings.image.registry.model_copy(update={"host": None, "compartment_id": None})
    image = settings.image.model_copy(update={"registry": registry})
    if settings.cloud.emulator is None and image.base is None and image.reference is None:
        image = image.model_copy(update={"base": "debian:bookworm-slim"})
    return settings.model_copy(
        update={"profile": f"{settings.profile}-prove", "engine": engine, "image": image}
    )


def _price(settings: Settings, prices: Path | None) -> float | None:
    from falconry.shapes import read_prices

    deployment = settings.deployment
    table = read_prices(prices) if prices else None
    size = deployment.ocpus, deployment.memory_gib
    return table.of_instance(deployment.shape, *size) if table else None


class _Trial:
    def __init__(
        self,
        profile: str,
        run: str,
        overrides: str,
        directory: Path,
        caps: Caps,
        progress: Progress,
    ) -> None:
        self._profile, self._run, self._overrides = profile, run, overrides
        self._directory = directory
        self._caps = caps
        self._progress = progress
        self._answers = Answers()
        settings = trial_settings(profile, run, overrides)
        self._record = Record(
            run=run,
            profile=profile,
            began=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            region="",
            shape=settings.deployment.shape,
            limit_minutes=caps.minutes,
            cost_limit=str(caps) or None,
            emulated=settings.cloud.emulator is not None,
        )
        example = json.loads(project_file(_SENTENCES).read_text(encoding="utf-8"))["sentences"][0]
        self._prompt, self._expected = example["prompt"], example["answer"]

    def run(self) -> None:
        """Runs all steps; later ones only if those that they need succeeded."""
        from falconry.cloud.session import observe_answers

        observe_answers(self._answers)
        self._record.write(self._directory)
        with _stopped_after(self._caps.minutes * 60):
            try:
                needed = (
                    ("engine", self._engine),
                    ("image", self._image),
                    ("deploy", self._deploy),
                )
                if all(self._step(name, work) for name, work in needed):
                    for name, work in (
                        ("ask", self._ask),
                        ("stream", self._stream),
                        ("openai", self._openai),
                        ("logs", self._logs),
                        ("update", self._update),
                        ("roll back", self._roll_back),
                    ):
                        self._step(name, work)
                self._note(ended=True)
            except KeyboardInterrupt as error:
                self._note()
                self._progress.note(f"the trial stops: {error or 'interrupted'}")

    def _step(self, name: str, work: Callable[[], Mapping[str, Any]]) -> bool:
        started = time.monotonic()
        self._progress.running("prove", name)
        facts: Mapping[str, Any] = {}
        try:
            facts, outcome = work(), "done"
        except FalconryError as error:
            outcome = str(error)
        except KeyboardInterrupt as error:
            self._finish(name, started, f"stopped: {error}", facts)
            raise
        # A process image has passed no registry, so it shows nothing of one.
        shown = f"{name} (process)" if facts.get("kind") == "process" else name
        self._finish(shown, started, outcome, facts)
        return outcome == "done"

    def _finish(self, name: str, started: float, outcome: str, facts: Mapping[str, Any]) -> None:
        result = StepResult(name, time.monotonic() - started, outcome, facts)
        self._record.steps.append(result)
        self._note()
        if result.done:
            self._progress.done("prove", name, f"{result.seconds:.1f} s")
        else:
            self._progress.failed("prove", f"{name}: {outcome}")

    def _note(self, *, ended: bool = False) -> None:
        """Writes the record as it is now."""
        changed = {"answers": self._answers.facts(), "ended": ended, "steps": self._record.steps}
        self._record = replace(self._record, **changed)  # type: ignore[arg-type]
        self._record.write(self._directory)

    def _project(self, recipe: str = RECIPE, more: str = "") -> Project:
        overrides = f"{self._overrides} {more}"
        settings = trial_settings(self._profile, self._run, overrides, recipe)
        return Project(settings, self._progress)

    def _engine(self) -> Mapping[str, Any]:
        return {"engine": self._project().run_until("engine").summary}

    def _image(self) -> Mapping[str, Any]:
        from falconry.image.output import image_of

        output = self._project().run_until("image")
        kind = image_of({"image": output}).kind
        return {"kind": kind, "image": output.summary}

    def _deploy(self) -> Mapping[str, Any]:
        self._project().run_until("deployment", expires=f"{max(1, int(self._caps.minutes))}m")
        session, _ = self._deployed()
        self._record = replace(self._record, region=session.region)
        return {}

    def _ask(self) -> Mapping[str, Any]:
        answer = self._endpoint().answer(self._prompt, _MAX_TOKENS)
        return self._equal(answer)

    def _stream(self) -> Mapping[str, Any]:
        endpoint = self._endpoint()
        pieces = list(endpoint.stream(endpoint.body(self._prompt, _MAX_TOKENS)))
        return {**self._equal("".join(pieces)), "pieces": len(pieces)}

    def _openai(self) -> Mapping[str, Any]:
        from falconry.endpoint.openai_api import openai_client_of

        session, deployment = self._deployed()
        client = openai_client_of(deployment.model_deployment_url, session.signer())
        model = client.models.list().data[0].id
        answer = client.completions.create(
            model=model, prompt=self._prompt, max_tokens=_MAX_TOKENS, temperature=0
        )
        return self._equal(answer.choices[0].text)

    def _logs(self) -> Mapping[str, Any]:
        """Waits for the container's lines, which come late."""
        from falconry.deployment.logs import Logs

        session, deployment = self._deployed()
        deadline = time.monotonic() + _LOG_WAIT_S
        while not (lines := list(Logs(session).read(200, deployment.id))):
            if time.monotonic() > deadline:
                raise CloudError("no line has appeared in the log", where=deployment.id)
            time.sleep(_LOG_PAUSE_S)
        return {"lines": len(lines)}

    def _update(self) -> Mapping[str, Any]:
        self._project(OTHER_RECIPE).run_until("deployment")
        return self._ask()

    def _roll_back(self) -> Mapping[str, Any]:
        _, before = self._deployed()
        try:
            self._project(OTHER_RECIPE, _BROKEN).run_until("deployment", rollback=True)
        except CloudError as error:
            if "which answers" not in error.problem:
                raise
        else:
            raise CloudError("a server that cannot start was deployed", where=before.display_name)
        return self._ask()

    def _deployed(self) -> tuple[Session, Any]:
        from falconry.cloud.session import session_of
        from falconry.deployment.deployments import Deployments

        settings = trial_settings(self._profile, self._run, self._overrides)
        session = session_of(settings.cloud)
        return session, Deployments(session).in_use(settings.deployment.name)

    def _endpoint(self) -> Endpoint:
        from falconry.deployment.stage import endpoint_of

        session, deployment = self._deployed()
        return endpoint_of(deployment, session)

    def _equal(self, answer: str) -> Mapping[str, Any]:
        if answer != self._expected:
            raise EndpointError(
                f"the answer is not that of transformers: {answer!r}", where=self._prompt
            )
        return {"characters": len(answer)}


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    """Ends the body by StoppedTrial at the limit, and at SIGTERM and SIGHUP."""

    def stop(number: int, _: object) -> None:
        reason = {signal.SIGALRM: "its limit of time is over"}
        raise StoppedTrial(reason.get(signal.Signals(number), signal.Signals(number).name))

    numbers = (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
