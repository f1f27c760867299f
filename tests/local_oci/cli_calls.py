"""Every call of unmodified oci-cli and oracle-ads that is tried here, and what comes of it.

The table in local_oci's README is made of it: `python -m tests.local_oci.cli_calls` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass

# Services of the CLI, as its first words.
SERVICES = (
    *("os", "iam", "limits", "data-science", "model-deployment", "logging", "logging-search"),
    *("artifacts", "monitoring", "vault", "data-flow", "fn"),
)
# How many words of a command name what it is about.
_SUBJECT_WORDS = {"artifacts container": 3}


@dataclass(frozen=True)
class Call:
    """A command of the CLI.

    Attributes:
        words: what the table shows: the command without its options.
        options: `@name` stands for a value that is known, or the output of an earlier call.
        absent: the SDK's name of the operation that is answered with 501; empty if it works.
        name: what its output is called.
        addressed: whether it takes the cloud's address (`--endpoint`).
        shown: what the table says in place of the verb.
    """

    words: str
    options: tuple[str, ...] = ()
    absent: str = ""
    name: str = ""
    addressed: bool = True
    shown: str = ""

    @property
    def subject(self) -> str:
        """What the command is about, such as `oci os bucket`."""
        words = self.words.split()
        three = " ".join(words[:2]) in _SUBJECT_WORDS or len(words) > 3
        return " ".join(words[: 3 if three else 2 if len(words) > 2 else 1])

    @property
    def verb(self) -> str:
        """What it does to that."""
        return self.shown or self.words[len(self.subject) :].strip()


def _call(text: str, absent: str = "", name: str = "") -> Call:
    words, _, options = text.partition(" --")
    return Call(words, tuple(f"--{options}".split()) if options else (), absent, name)


_IN = "--compartment-id @tenancy"
_B = "--bucket-name b"
_DEPLOYMENT = "--model-deployment-id @deployment"
_WAIT = "--wait-for-state SUCCEEDED --wait-interval-seconds 1"
_G = "--log-group-id @group"

CLI: tuple[Call, ...] = (
    _call("os ns get"),
    _call("os ns get-metadata"),
    _call(f"os bucket create --name b {_IN}"),
    _call(f"os bucket list {_IN}"),
    _call("os bucket get --name b --fields approximateCount --fields approximateSize"),
    _call('os bucket update --name b --metadata {"a":"b"}'),
    _call(f"os object put {_B} --name a/x --file @file"),
    _call(f"os object put {_B} --name a/large --file @large --part-size 1 --force"),
    _call(f"os object head {_B} --name a/x"),
    _call(f"os object list {_B}"),
    _call(f"os object get {_B} --name a/x --file @out"),
    _call(f"os object rename {_B} --name a/x --new-name a/y"),
    _call(
        f"os object copy {_B} --source-object-name a/y --destination-bucket b"
        " --destination-object-name a/z --wait-for-state COMPLETED --wait-interval-seconds 1"
    ),
    _call(f"os object bulk-upload {_B} --src-dir @directory"),
    _call(f"os object bulk-download {_B} --download-dir @out-directory"),
    _call(f"os object sync {_B} --src-dir @directory"),
    _call(f"os object list-object-versions {_B}", "object_storage.list_object_versions"),
    _call(f"os object restore {_B} --name a/y", "object_storage.restore_objects"),
    _call(f"os multipart list {_B}"),
    _call(f"os preauth-request list {_B}"),
    _call(
        f"os preauth-request create {_B} --name p --access-type ObjectRead --object-name a/y"
        " --time-expires 2099-01-01T00:00:00Z",
        "object_storage.create_preauthenticated_request",
    ),
    _call(f"os retention-rule list {_B}"),
    _call(f"os work-request list {_IN}"),
    _call(f"os object delete {_B} --name a/y --force"),
    _call(f"os object bulk-delete {_B} --force"),
    _call("os bucket delete --name b --force"),
    _call("iam region list"),
    _call("iam region-subscription list"),
    _call("iam tenancy get --tenancy-id @tenancy"),
    _call("iam compartment list"),
    _call(f"iam compartment get {_IN}"),
    _call("iam user list"),
    _call("iam user get --user-id @user"),
    _call("iam group list"),
    _call("iam dynamic-group list"),
    _call("iam policy list --compartment-id @tenancy"),
    _call(
        f"iam policy create {_IN} --name p --description d --statements []",
        "identity.create_policy",
    ),
    _call("iam availability-domain list"),
    _call("iam auth-token create --user-id @user --description d --query data.id", name="token"),
    _call("iam auth-token list --user-id @user"),
    _call("iam auth-token delete --user-id @user --auth-token-id @token --force"),
    _call(f"limits service list {_IN}"),
    _call(f"limits definition list {_IN}"),
    _call(f"limits value list {_IN} --service-name data-science"),
    _call(
        f"limits resource-availability get {_IN} --service-name data-science"
        " --limit-name ds-gpu-a10-count"
    ),
    _call(f"logging log-group create {_IN} --display-name cli"),
    _call(f"logging log-group list {_IN} --display-name cli --query data[0].id", name="group"),
    _call(f"logging log-group get {_G}"),
    _call(f"logging log-group update {_G} --description d --force"),
    _call(f"logging log create {_G} --display-name l --log-type CUSTOM"),
    _call(f"logging log list {_G} --query data[0].id", name="log"),
    _call(f"logging log get {_G} --log-id @log"),
    _call(f"logging log update {_G} --log-id @log --is-enabled true --force"),
    _call(f"logging work-request list {_IN}"),
    _call("logging service list", "logging.list_services"),
    _call(f"logging agent-configuration list {_IN}", "logging.list_unified_agent_configurations"),
    _call(f"data-science project create {_IN} --query data.id", name="project"),
    _call(f"data-science project list {_IN}"),
    _call("data-science project get --project-id @project"),
    _call("data-science project update --project-id @project --description d --force"),
    _call(f"data-science model create {_IN} --project-id @project --query data.id", name="model"),
    _call("data-science model create-model-artifact --model-id @model --model-artifact-file @zip"),
    _call("data-science model head-model-artifact --model-id @model"),
    _call("data-science model get-artifact-content --model-id @model --file @out"),
    _call(f"data-science model list {_IN}"),
    _call("data-science model get --model-id @model"),
    _call("data-science model update --model-id @model --description d --force"),
    _call("data-science model create-model-provenance --model-id @model --repository-url x"),
    _call("data-science model get-model-provenance --model-id @model"),
    _call("data-science model deactivate --model-id @model"),
    _call("data-science model activate --model-id @model"),
    _call(
        f"data-science model change-compartment {_IN} --model-id @model",
        "data_science.change_model_compartment",
    ),
    _call(
        f"data-science model-version-set create {_IN} --project-id @project --name cli"
        " --query data.id",
        name="set",
    ),
    _call(f"data-science model-version-set list {_IN}"),
    _call("data-science model-version-set get --model-version-set-id @set"),
    _call("data-science model-version-set delete --model-version-set-id @set --force"),
    _call(f"data-science model-deployment-shape list {_IN}"),
    _call(
        f"data-science model-deployment create {_IN} --project-id @project --display-name cli"
        f" --model-deployment-configuration-details @configuration {_WAIT}"
    ),
    _call(
        f"data-science model-deployment list {_IN} --display-name cli --query data[0].id",
        name="deployment",
    ),
    _call(f"data-science model-deployment get {_DEPLOYMENT}"),
    _call(f"model-deployment inference-result predict {_DEPLOYMENT} --request-body {{}}"),
    _call(f"data-science model-deployment update {_DEPLOYMENT} --description d --force {_WAIT}"),
    _call(f"data-science model-deployment deactivate {_DEPLOYMENT} {_WAIT}"),
    _call(f"data-science model-deployment activate {_DEPLOYMENT} {_WAIT}"),
    _call(
        f"data-science work-request list {_IN} --resource-id @deployment --query data[0].id",
        name="request",
    ),
    _call("data-science work-request get --work-request-id @request"),
    _call("data-science work-request list-work-request-logs --work-request-id @request"),
    _call("data-science work-request list-work-request-errors --work-request-id @request"),
    _call(f"data-science model-deployment delete {_DEPLOYMENT} --force {_WAIT}"),
    _call("data-science model delete --model-id @model --force"),
    _call(f"data-science job list {_IN}"),
    _call(f"data-science job-run list {_IN}"),
    _call(f"data-science job-shape list {_IN}"),
    _call("data-science container list", "data_science.list_containers"),
    _call(f"data-science model-group list {_IN}", "data_science.list_model_groups"),
    _call(f"data-science notebook-session list {_IN}", "data_science.list_notebook_sessions"),
    _call(f"data-science pipeline list {_IN}", "data_science.list_pipelines"),
    _call(f"data-science schedule list {_IN}", "data_science.list_schedules"),
    _call("data-science project delete --project-id @project --force"),
    Call(
        "logging-search search-logs",
        (
            *("--search-query", "@query", "--time-start", "@start", "--time-end", "@end"),
            *("--limit", "10"),
        ),
    ),
    _call(f"logging log delete {_G} --log-id @log --force"),
    _call(f"logging log-group delete {_G} --force"),
    _call(f"artifacts container repository create {_IN} --display-name cli"),
    _call(
        f"artifacts container repository list {_IN} --display-name cli --query data.items[0].id",
        name="repository",
    ),
    _call("artifacts container repository get --repository-id @repository"),
    _call("artifacts container repository delete --repository-id @repository --force"),
    _call(f"artifacts container image list {_IN}"),
    _call(f"artifacts container configuration get {_IN}"),
    _call(
        f"artifacts container image-signature list {_IN}",
        "artifacts.list_container_image_signatures",
    ),
    _call(f"monitoring metric list {_IN}", "monitoring.list_metrics"),
    _call(f"vault secret list {_IN}"),
    _call(f"data-flow application list {_IN}", "data_flow.list_applications"),
    _call(f"fn application list {_IN}", "functions.list_applications"),
    Call(
        "raw-request",
        ("--http-method", "GET", "--target-uri", "@projects"),
        addressed=False,
        shown="GET",
    ),
    Call(
        "iam region list",
        ("--auth", "security_token", "--profile", "CLI"),
        shown="list with `--auth security_token`",
    ),
)

# What ads_client.py does, and why what does not work does not.
ADS: dict[str, tuple[tuple[str, ...], str]] = {
    "DataScienceModel": (
        ("create", "from_id", "list", "list_df", "update", "download_artifact", "delete"),
        "`create(bucket_uri=…)`, `download_artifact(bucket_uri=…)`: ocifs takes the address of"
        " Object Storage from the region's name alone. Upload large artifacts with the SDK or the"
        " CLI, and call `export_model_artifact`",
    ),
    "ModelVersionSet": (("create", "from_id", "list", "delete"), ""),
    "ModelDeployment": (
        (
            *("deploy", "list", "list_df", "predict", "logs", "deactivate", "activate"),
            *("update", "delete"),
        ),
        "",
    ),
    "GenericModel": (("delete", "delete_deployment"), ""),
    "Job": (("create", "delete"), ""),
}


def table() -> str:
    """The table of all calls, as Markdown."""
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for call in CLI:
        works, absent = rows.setdefault(f"`oci {call.subject}`", ([], []))
        if call.absent:
            absent.append(f"`{call.verb}` ({call.absent})")
        elif call.verb not in works:
            works.append(call.verb)
    lines = ["| unmodified | works | does not |", "|---|---|---|"]
    lines += [
        f"| {name} | {', '.join(works)} | {', '.join(absent)} |"
        for name, (works, absent) in rows.items()
    ]
    lines += [
        f"| ads `{name}` | {', '.join(works)} | {why} |" for name, (works, why) in ADS.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
