"""The alert rules, the dashboard and the table of metrics use existing metrics, and pass Prometheus' own checks."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from election.core.term import Reason
from election.schedule.history import BOUNDS, Histogram, Totals
from election.schedule.model import JobState, Outcome, SkipReason
from election.web.collector import Figures, PoolCollector, exposition
from election.web.models import Leader
from tests.docs.markdown import ROOT, table
from tests.schedule.making import NOW, make_job
from tests.support.tools import needs

HERE = ROOT / "docs/prometheus"
TESTS = ["alerts.test.yaml", "jobs.test.yaml"]

SOME = Histogram([1] * (len(BOUNDS) + 1), 1.0)
EXPOSITION = exposition(
    PoolCollector(
        ("var/pool", "file"),
        Leader(pid=7, host="h", term=3, elected_at=NOW, heartbeat_age_s=0.1, responsive=True, queued=0),
        3,
        4,
        Figures(
            Totals(
                ["job"],
                dict.fromkeys([("job", outcome) for outcome in Outcome], 1),
                dict.fromkeys([("job", reason) for reason in SkipReason], 1),
                {"job": SOME},
                {"job": SOME},
                dict.fromkeys(Reason, 1),
                SOME,
                dict.fromkeys(Reason, 1.0),
                {"job": NOW},
            ),
            [JobState("job", make_job("interval", hours=1).schedule, scheduled_since=NOW, settled_until=NOW)],
            None,
        ),
        NOW,
    ),
    "",
)[0].decode()
"""Names of all metrics."""


def exposed() -> dict[str, set[str]]:
    """Each sample's name, and its labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(EXPOSITION):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"]
    return list(group["rules"])


def dashboard() -> Iterator[str]:
    """Each expression of the dashboard."""
    found = json.loads((HERE / "dashboard.json").read_text())
    yield from (target["expr"] for panel in found["panels"] for target in panel["targets"])
    yield from (each["expr"] for each in found["annotations"]["list"])
    yield from (each["definition"] for each in found["templating"]["list"] if "definition" in each)


def promtool(*arguments: str, cwd: Path, said: str | None = None) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, input=said, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs("promtool")
def test_the_alert_rules_do_what_they_say() -> None:
    promtool("check", "rules", "alerts.yaml", cwd=HERE)
    promtool("test", "rules", *TESTS, cwd=HERE)


def test_each_alert_is_tested_both_ways() -> None:
    tests = [test for name in TESTS for test in yaml.safe_load((HERE / name).read_text())["tests"]]
    tried = [case for test in tests for case in test["alert_rule_test"]]
    for fires in (True, False):
        assert {case["alertname"] for case in tried if bool(case["exp_alerts"]) is fires} == {
            rule["alert"] for rule in rules()
        }


@needs("promtool")
def test_what_is_exposed_is_as_prometheus_would_have_it() -> None:
    promtool("check", "metrics", cwd=HERE, said=EXPOSITION)


@needs("promtool")
def test_the_expressions_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    expressions = [each for each in dashboard() if not each.startswith("label_values")]
    assert len(expressions) > 10
    recorded = [
        {"record": f"panel{number}", "expr": re.sub(r"\$__\w+", "5m", each)} for number, each in enumerate(expressions)
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", "rules.yaml", cwd=tmp_path)


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in rules()), *dashboard()])
def test_an_expression_is_about_metrics_that_exist(expression: str) -> None:
    names = set(re.findall(r"\belection_\w+", expression))
    assert names
    assert names <= exposed().keys()
    asked = {label for given in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)\s*[=!]", given)}
    asked |= {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
    assert asked - {"instance"} <= {label for name in names for label in exposed()[name]}


def test_the_metrics_are_all_told() -> None:
    told = {
        name.strip("`"): set(re.findall(r"`(\w+)`", labels)) for name, labels, _ in table("docs/metrics.md", "metric")
    }
    families = list(text_string_to_metric_families(EXPOSITION))
    there = {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in families
        if not family.name.endswith("_created")
    }
    assert told == there
