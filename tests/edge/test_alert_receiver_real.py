"""A real Prometheus alerts Sentinel as it would an Alertmanager."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from engine.edge.clock import now_ms
from tests.edge.test_alert_receiver import Site
from tests.parts import Prometheus
from tests.waiting import until

pytestmark = pytest.mark.real


@pytest.mark.parametrize("part", ["prometheus", "prometheus-3"])
async def test_an_alert_of_prometheus_fires_is_said_once_and_is_resolved(tmp_path: Path, part: str):
    site = Site()
    site.now_ms = now_ms()
    await site.server.start_server()
    ends_s = time.time() + 8
    rule = {"alert": "Soon", "expr": f"vector(time()) < {ends_s}", "labels": {"severity": "page"}}
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{site.server.port}"]}]}]},
    }
    prometheus = Prometheus(tmp_path, json.dumps(config), ["--rules.alert.resend-delay=1s"], part)
    try:
        await asyncio.to_thread(prometheus.start)

        def resolved() -> bool:
            site.now_ms = now_ms()
            return any(one.state == "resolved" for _, _, one in site.said)

        await until(resolved, 40, "the end of the alert")
        await asyncio.sleep(2)  # Prometheus says it again meanwhile
        answers = site.registry.get_sample_value
        posts = answers("sentinel_connector_requests_total", {"connector": "alertmanager", "code": "200"}) or 0
    finally:
        await asyncio.to_thread(prometheus.stop)
        await site.session.close()
        await site.server.close()
    assert site.states() == [("firing", "condition"), ("resolved", "cleared")]
    assert posts > 2
    fired = site.said[0][2]
    assert fired.labels == {"alertname": "Soon", "severity": "page"}
    assert "/graph" in fired.annotations["generatorURL"]
