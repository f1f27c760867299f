"""What a deployment costs, and its end: EXPIRES=, `make reap`."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from falconry.deployment.expiry import (
    EXPIRES_TAG,
    expiry_of,
    expiry_tag,
    expiry_warning,
    reap,
    tag_expiry,
)
from falconry.deployment.spending import spending_of
from falconry.deployment.status import status_of
from falconry.errors import CloudError, SettingsError
from falconry.shapes.prices import Prices
from tests.falconry.cloud.conftest import WATCH

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
PRICES = Prices(
    currency="USD",
    gpu_hour={"NVIDIA A10": 2.0},
    ocpu_hour={"VM.Standard.E4.Flex": 0.025},
    gib_hour={"VM.Standard.E4.Flex": 0.0015},
    shape_hour={"VM.New.1": 7.0},
)


def deployment(shape="VM.Standard.E4.Flex", state="ACTIVE", hours=5.0, **more):
    """A deployment as the SDK has it, created some hours ago."""
    size = SimpleNamespace(ocpus=2, memory_in_gbs=16) if shape.endswith("Flex") else None
    instance = SimpleNamespace(
        instance_shape_name=shape, model_deployment_instance_shape_config_details=size
    )
    policy = more.get("policy", SimpleNamespace(policy_type="FIXED_SIZE", instance_count=1))
    model = SimpleNamespace(scaling_policy=policy, instance_configuration=instance)
    return SimpleNamespace(
        lifecycle_state=state,
        time_created=NOW - timedelta(hours=hours),
        model_deployment_configuration_details=SimpleNamespace(model_configuration_details=model),
        model_deployment_system_data=SimpleNamespace(current_instance_count=more.get("present")),
    )


def operation(kind, hours):
    return SimpleNamespace(
        operation_type=f"MODEL_DEPLOYMENT_{kind}", time_accepted=NOW - timedelta(hours=hours)
    )


def test_the_time_runs_from_the_last_start():
    history = [operation("UPDATE", 0.5), operation("ACTIVATE", 1.5), operation("CREATE", 9)]
    found = spending_of(deployment(hours=9), history, NOW)
    assert (found.hours, found.at_most, found.uptime()) == (1.5, False, "1 h 30 min")
    assert (found.price(), found.cost) == (None, None)


def test_without_a_known_start_the_age_is_a_limit():
    found = spending_of(deployment(hours=50), [operation("UPDATE", 1)], NOW, PRICES)
    assert found.uptime() == "at most 2 d 2 h"
    assert found.price().startswith("at most ")


@pytest.mark.parametrize("state", ["INACTIVE", "FAILED", "DELETED"])
def test_what_is_stopped_costs_nothing(state):
    assert spending_of(deployment(state=state), [], NOW, PRICES) is None


@pytest.mark.parametrize(
    ("shape", "hourly"),
    [
        ("VM.GPU.A10.2", 4.0),
        ("BM.GPU.A10.4", 8.0),
        ("VM.Standard.E4.Flex", 2 * 0.025 + 16 * 0.0015),
        ("VM.New.1", 7.0),
        ("VM.Other.1", None),
    ],
)
def test_a_shape_has_the_price_of_its_table(shape, hourly):
    found = spending_of(deployment(shape), [operation("CREATE", 3)], NOW, PRICES)
    assert found.price_hour == pytest.approx(hourly)
    assert found.cost == (None if hourly is None else pytest.approx(3 * hourly))
    assert ("no price" in found.price()) is (hourly is None)


def test_every_instance_is_paid():
    policy = SimpleNamespace(policy_type="FIXED_SIZE", instance_count=3)
    found = spending_of(
        deployment("VM.GPU.A10.1", policy=policy), [operation("CREATE", 2)], NOW, PRICES
    )
    assert found.price() == "about 12.00 USD since the start, 6.00 an hour, 3 instances"
    limits = SimpleNamespace(initial_instance_count=None, minimum_instance_count=2)
    policy = SimpleNamespace(policy_type="AUTOSCALING", auto_scaling_policies=[limits])
    assert spending_of(deployment(policy=policy), [], NOW).instances == 2
    assert spending_of(deployment(policy=policy, present=4), [], NOW).instances == 4


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("4h", "2026-11-27T16:00:00Z"),
        ("90m", "2026-11-27T13:30:00Z"),
        ("1d12h", "2026-11-29T00:00:00Z"),
        ("never", ""),
    ],
)
def test_an_end_is_so_long_from_now(text, tag):
    assert expiry_tag(text, NOW) == tag
    if tag:
        assert f"{expiry_of({EXPIRES_TAG: tag}):%Y-%m-%dT%H:%M:%SZ}" == tag


@pytest.mark.parametrize("text", ["4", "h", "0h", "4 h", "-4h", "4h30", "99999h", "4H", "tomorrow"])
def test_what_is_no_duration_is_one_sentence(text):
    with pytest.raises(SettingsError, match=r"EXPIRES: .* is not a duration; give one such as 4h"):
        expiry_tag(text, NOW)


def test_a_deployment_that_is_used_after_its_end_is_warned_of():
    def tagged(value):
        return SimpleNamespace(display_name="d", freeform_tags={EXPIRES_TAG: value})

    assert "expired at 2026-11-27T11:59:59Z" in expiry_warning(tagged("2026-11-27T11:59:59Z"), NOW)
    for other in ("2026-11-27T12:00:01Z", "soon"):
        assert expiry_warning(tagged(other), NOW) is None
    assert expiry_warning(SimpleNamespace(display_name="d", freeform_tags=None), NOW) is None


def test_only_what_has_expired_is_deactivated(session, settings, deployments, make_target):
    name = settings.deployment.name
    active = deployments.apply(make_target(), WATCH)
    now = datetime.now(UTC)

    def reaped(moment=now):
        return [each for each in reap(session, moment, WATCH) if each.id == active.id]

    assert reaped() == []  # it has no tag
    tag_expiry(session, name, expiry_tag("4h", now), WATCH)
    (kept,) = reaped()
    assert (kept.outcome, kept.failed) == ("not yet", False)
    found = status_of(session, name, PRICES)
    assert (found.state, found.expires) == ("ACTIVE", kept.expires)
    assert any(line.startswith("uptime      0 h 0 min") for line in found.table())
    assert any("USD since the start, 0.07 an hour" in line for line in found.table())
    tag_expiry(session, name, "", WATCH)
    assert reaped(now + timedelta(days=9)) == []
    tag_expiry(session, name, "soon", WATCH)
    (unread,) = reaped()
    assert unread.failed and "is not a time such as 2030-01-31T12:00:00Z" in str(unread)
    tag_expiry(session, name, expiry_tag("4h", now), WATCH)
    (stopped,) = reaped(now + timedelta(hours=4, seconds=1))
    assert (stopped.outcome, stopped.failed, stopped.state) == ("deactivated", False, "INACTIVE")
    assert deployments.get(name).lifecycle_state == "INACTIVE"
    (again,) = reaped(now + timedelta(hours=5))
    assert (again.outcome, again.failed) == ("not running", False)
    assert status_of(session, name, PRICES).spending is None


def test_a_change_of_another_run_at_the_same_time_is_outlasted(
    session, settings, deployments, make_target, cloud
):
    name, tag = settings.deployment.name, "2030-01-31T12:00:00Z"
    deployments.apply(make_target(), WATCH)
    cloud.fault(kind="status", operation="update_model_deployment", status=412, times=1)
    for _ in range(2):  # the second time there is nothing to do
        tag_expiry(session, name, tag, WATCH)
        assert deployments.get(name).freeform_tags[EXPIRES_TAG] == tag
    cloud.fault(kind="status", operation="update_model_deployment", status=400, times=1)
    with pytest.raises(CloudError, match="tagging the deployment was refused: 400"):
        tag_expiry(session, name, "", WATCH)
    tag_expiry(session, name, "", WATCH)


def test_what_is_not_deployed_has_no_end(session):
    with pytest.raises(CloudError, match="nothing is deployed"):
        tag_expiry(session, "no-such-deployment", "", WATCH)


def test_what_the_cloud_refuses_to_stop_is_reported(
    session, settings, deployments, make_target, cloud
):
    active = deployments.apply(make_target(), WATCH)
    past = expiry_tag("1m", datetime(2026, 1, 1, tzinfo=UTC))
    tag_expiry(session, settings.deployment.name, past, WATCH)
    cloud.fault(kind="policy", operation="deactivate_model_deployment", times=20)
    (found,) = [each for each in reap(session, datetime.now(UTC), WATCH) if each.id == active.id]
    assert found.failed
    assert "deactivating the deployment" in found.outcome
    assert deployments.get(settings.deployment.name).lifecycle_state == "ACTIVE"
