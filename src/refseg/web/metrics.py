"""What is counted, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        into = self._registry
        self._requests = Counter("refseg_requests", "Requests by route and status.", ("route", "status"), registry=into)
        self._answers = Histogram(
            "refseg_request_seconds", "From the first byte of a request to its answer.", ("route",), buckets=SECONDS,
            registry=into,
        )  # fmt: skip
        self._passes = Histogram(
            "refseg_pass_seconds", "Time of the model for one pass.", ("model",), buckets=SECONDS, registry=into
        )
        self._together = Histogram("refseg_pass_requests", "Requests in one pass.", buckets=(1, 2, 4, 8), registry=into)
        self.waiting = Gauge("refseg_waiting", "Requests that wait for a model.", registry=into)
        self.kept = Gauge("refseg_kept_bytes", "Memory of log-odds kept for other thresholds.", registry=into)

    def requested(self, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        self._requests.labels(route, str(status)).inc()
        self._answers.labels(route).observe(seconds)

    def passed(self, model: str, requests: int, seconds: float) -> None:
        """Counts a pass of a model."""
        self._passes.labels(model).observe(seconds)
        self._together.observe(requests)

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self._registry)
