"""What Prometheus reads of the service: the only module that imports prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .regret import lost_usd
from .runtime import Decision
from .service import Service

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """What Prometheus reads at /metrics."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._service = service

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"fleet_{name}", meaning, labels, registry=self._registry)

        self.decisions = counter("decisions", "decisions by who made them", "source")
        self.moves = counter("moves", "moves ordered")
        self.guardrails = counter("guardrails", "guardrails that acted", "guardrail")
        self.refusals = counter("refusals", "requests refused", "status")
        self.reloads = counter("reloads", "reloads of the bundle", "result")
        self.seconds = Histogram(
            "fleet_decide_seconds", "time to decide", buckets=BUCKETS_S, registry=self._registry
        )
        self.novelty = Gauge(
            "fleet_novelty", "distance of the last snapshot from training", registry=self._registry
        )
        self.bundle = Gauge(
            "fleet_bundle", "1 for the bundle that answers", ["bundle"], registry=self._registry
        )
        self.name_bundle()
        self._registry.register(_Memory(service))

    def text(self) -> bytes:
        """All of it, as of now."""
        return generate_latest(self._registry)

    def name_bundle(self) -> None:
        """Let `fleet_bundle` name the bundle that answers now, and no other."""
        self.bundle.clear()
        self.bundle.labels(self._service.policy.bundle.manifest["bundle"]).set(1)

    def reload(self) -> None:
        """Reload the bundle and count how it went."""
        self.reloads.labels("loaded" if self._service.reload() else "refused").inc()
        self.name_bundle()

    def count(self, decision: Decision) -> None:
        """Take in a decision."""
        self.decisions.labels(decision.source).inc()
        self.moves.inc(len(decision.moves))
        for acted in decision.acted:
            self.guardrails.labels(acted.guardrail).inc()
        if decision.novelty is not None:
            self.novelty.set(decision.novelty)


class _Memory(Collector):
    """What the policy that answers remembers, read when it is asked for: after a restart, too."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        policy = self._service.policy
        regret, unsaved = policy.regret, policy.unsaved
        lead = "USD by which the rule leads over the window"
        yield GaugeMetricFamily("fleet_regret_usd", lead, lost_usd(regret))
        spent = "1 while the regret budget is spent and the rule decides"
        yield GaugeMetricFamily("fleet_regret_spent", spent, float(regret.spent))
        lost = "states that could not be saved: a restart would go on from an older one"
        yield CounterMetricFamily("fleet_states_not_saved", lost, unsaved)
