"""A local cloud that is silent, refuses its client or has lost its directory: told, and ended."""

import io
import os
import re
import shutil
import signal
import threading
import time

import pytest
from oci.data_science import DataScienceClient

from falconry.cloud import emulator
from falconry.cloud import session as session_module
from falconry.cloud.session import Session
from falconry.cloud.work_requests import Operation, Watch, wait_for
from falconry.deployment.catalog import Catalog
from falconry.errors import CloudError, MachineError
from falconry.progress import Progress
from falconry.project import Project
from falconry.settings import EmulatorSettings, load_settings
from tests.falconry.cloud.conftest import ROOT
from tests.local_oci.support import LocalCloud, processes_of

SILENT = r"the local cloud \(process \d+\) does not answer within 0.5 s; .*make down"


@pytest.fixture
def short_waits(monkeypatch):
    monkeypatch.setattr(emulator, "_ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(session_module, "_LOCAL_TIMEOUT_S", (1.0, 0.5))


@pytest.fixture
def own_cloud(tmp_path, short_waits):
    """A cloud that the test may stop."""
    cloud = LocalCloud(tmp_path / "cloud").start()
    yield cloud
    if cloud.process.poll() is None:
        cloud.process.send_signal(signal.SIGCONT)
        cloud.stop()


@pytest.fixture
def own_settings(own_cloud, tmp_path, monkeypatch):
    """The default profile, for that cloud."""
    monkeypatch.chdir(tmp_path)
    return load_settings(
        ROOT,
        overrides=f"cloud.config_file={own_cloud.directory}/config"
        f" cloud.emulator.directory={own_cloud.directory}",
    )


@pytest.fixture
def stopped(own_cloud):
    os.kill(own_cloud.process.pid, signal.SIGSTOP)


def down(settings):
    """What `make down` prints."""
    output = io.StringIO()
    Project(settings, Progress(output)).down()
    return output.getvalue()


def test_silence_is_told_before_a_request_is_sent(own_settings, stopped):
    for use in (Session, lambda cloud: emulator.why_start(cloud.emulator)):
        with pytest.raises(CloudError, match=SILENT):
            use(own_settings.cloud)


def test_silence_during_a_request_is_told(own_settings, own_cloud):
    session = Session(own_settings.cloud)
    os.kill(own_cloud.process.pid, signal.SIGSTOP)
    with pytest.raises(CloudError, match=SILENT):
        Catalog(session).project()


@pytest.mark.parametrize("has_directory", [True, False])
def test_the_end_of_the_cloud_during_a_wait_is_told(
    own_settings, own_cloud, has_directory, monkeypatch
):
    monkeypatch.setattr(emulator, "_RESTART_S", 1)
    client = Session(own_settings.cloud).client(DataScienceClient)
    own_cloud.process.kill()
    own_cloud.process.wait()
    if not has_directory:
        shutil.rmtree(own_cloud.directory)
    watch = Watch(timeout_s=3600, report=lambda step, fraction: None)
    with pytest.raises(CloudError, match=r"has not been started again for 1 s; .*make deploy"):
        wait_for(client, Operation("ocid1.workrequest.oc1..aa", "creation"), watch)


def test_an_earlier_absence_does_not_count(own_settings, own_cloud, monkeypatch):
    monkeypatch.setattr(emulator, "_RESTART_S", 0)
    monkeypatch.setattr(emulator, "_LONGEST_PAUSE_S", 0.2)
    own_cloud.process.kill()
    own_cloud.process.wait()
    local = own_settings.cloud.emulator
    emulator.require_return(local)
    time.sleep(0.3)
    emulator.require_return(local)
    with pytest.raises(CloudError, match="has not been started again"):
        emulator.require_return(local)


def test_a_wait_continues_when_the_cloud_is_started_again(own_settings, own_cloud, monkeypatch):
    monkeypatch.setattr(emulator, "_RESTART_S", 20)
    session = Session(own_settings.cloud)
    own_cloud.process.kill()
    own_cloud.process.wait()
    restart = threading.Timer(1, own_cloud.start)
    restart.start()
    assert Catalog(session).project()
    restart.join()


def test_a_silent_cloud_is_taken_down(own_settings, own_cloud, stopped):
    output = down(own_settings)
    assert re.search(f"warning: the deployment is not deleted: .*{SILENT}", output)
    assert re.search("local cloud +stopped", output)
    assert processes_of(own_cloud.directory) == []


@pytest.mark.parametrize(
    "why",
    [
        pytest.param("key", marks=pytest.mark.long),  # refused as for the clock
        "clock",
        pytest.param("no key", marks=pytest.mark.long),
    ],
)
def test_a_cloud_that_refuses_its_client_is_taken_down(own_settings, own_cloud, why):
    config = own_cloud.directory / "config"
    if why == "key":
        text = re.sub("fingerprint.*", "fingerprint=" + ":".join(["00"] * 16), config.read_text())
        config.write_text(text)
    elif why == "no key":
        (own_cloud.directory / "api_key.pem").unlink()
    else:
        own_cloud.fault(kind="clock_skew", path="*modelDeployments", seconds=3600, times=9)
    output = down(own_settings)
    assert "warning: the deployment is not deleted: " in output
    assert re.search("local cloud +stopped", output)
    assert processes_of(own_cloud.directory) == []
    assert re.search("local cloud +not running", down(own_settings))


def test_a_cloud_that_has_lost_its_directory_is_taken_down(own_settings, own_cloud, stopped):
    shutil.rmtree(own_cloud.directory)
    assert re.search("local cloud +stopped", down(own_settings))
    assert processes_of(own_cloud.directory) == []


@pytest.mark.parametrize(
    ("program", "limit_s", "told"),
    [("exec sleep 60", 0.2, "within 0.2 s"), ("kill -STOP $$", 60, r"process \d+ is stopped")],
)
def test_a_command_of_the_local_cloud_that_does_not_end_is_one_sentence(
    program, limit_s, told, tmp_path, monkeypatch
):
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\n{program}\n")
    slow.chmod(0o755)
    monkeypatch.setattr(emulator.sys, "executable", str(slow))
    monkeypatch.setattr(emulator, "_COMMAND_TIMEOUT_S", limit_s)
    monkeypatch.setattr(emulator, "_LOOK_S", 0.1)
    with pytest.raises(MachineError, match=f"did not start.* {told}") as raised:
        emulator.start(EmulatorSettings(directory=tmp_path))
    assert raised.value.remedy == "run the same again"
