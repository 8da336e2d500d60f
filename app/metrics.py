"""Numbers about the service, as Prometheus reads them.

One object a process, with its own registry, made at the start and handed to whoever counts.
Knows nothing of HTTP or engines; what must be read at the moment of a scrape comes from a
function given to `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST

_FIRST_AUDIO_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
_TOTAL_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
_FACTOR_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 4, 8)


@dataclass(frozen=True)
class ModelGauges:
    """One model that has a worker; `stage_bytes` is the most memory at each stage of its work."""

    name: str
    is_ready: bool
    leases: int
    need_bytes: int
    stage_bytes: Mapping[str, int]


@dataclass(frozen=True)
class Gauges:
    """What is true at the moment of a scrape, all workers together.

    `worker_ready` speaks of the default model. `benched` has the reason of each device, `budgets`
    the memory for the models of each place.
    """

    queue_depth: int
    uploads: int
    worker_ready: bool
    worker_restarts: int
    worker_rows: int
    worker_waiting: int
    worker_rss_bytes: int
    device_bytes: int
    benched: Mapping[str, str]
    models: Sequence[ModelGauges] = ()
    budgets: Mapping[str, int] = field(default_factory=dict)


class Metrics:
    """All metrics of the api process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        registry = self._registry
        self._requests = Counter(
            "audio_voice_requests_total",
            "HTTP requests answered, by route and status; 499: the client left.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._speeches = Counter(
            "audio_voice_speeches_total",
            "Speech requests taken up, by how they ended: complete, failed, cancelled.",
            ["outcome"],
            registry=registry,
        )
        self._first_audio_s = Histogram(
            "audio_voice_first_audio_seconds",
            "From taking up a speech request to its first audio.",
            buckets=_FIRST_AUDIO_BUCKETS_S,
            registry=registry,
        )
        self._total_s = Histogram(
            "audio_voice_speech_seconds",
            "From taking up a speech request to its last audio sent.",
            buckets=_TOTAL_BUCKETS_S,
            registry=registry,
        )
        self._factor = Histogram(
            "audio_voice_real_time_factor",
            "Seconds a complete speech request took for each second of its audio.",
            buckets=_FACTOR_BUCKETS,
            registry=registry,
        )
        self._audio_s = Counter(
            "audio_voice_audio_seconds_total", "Seconds of audio made.", registry=registry
        )
        self._verdicts = Counter(
            "audio_voice_verdicts_total",
            "What the checks said of complete speech requests: ok, retried, failed.",
            ["status"],
            registry=registry,
        )
        self._retries = Counter(
            "audio_voice_segment_retries_total",
            "Segments made again because their audio failed its checks.",
            registry=registry,
        )

    def count_request(self, method: str, route: str, status: int) -> None:
        """Counts one HTTP request; `route` is the route's pattern, never the raw path."""
        self._requests.labels(method, route, str(status)).inc()

    def observe_first_audio(self, seconds: float) -> None:
        """Counts the wait for a request's first audio."""
        self._first_audio_s.observe(seconds)

    def observe_speech(self, outcome: str, total_s: float, audio_s: float) -> None:
        """Counts the end of a speech request.

        Args:
            outcome: `complete`, `failed` or `cancelled`.
            total_s: from taking it up to its end.
            audio_s: seconds of audio that were made.
        """
        self._speeches.labels(outcome).inc()
        self._audio_s.inc(audio_s)
        if outcome == "complete":
            self._total_s.observe(total_s)
            if audio_s > 0:
                self._factor.observe(total_s / audio_s)

    def count_verdict(self, status: str, num_retries: int) -> None:
        """Counts what the checks said of one speech request."""
        self._verdicts.labels(status).inc()
        self._retries.inc(num_retries)

    def watch(self, read: Callable[[], Gauges]) -> None:
        """Adds the gauges that `read` returns to each scrape."""
        self._registry.register(_GaugeCollector(read))

    def render(self) -> bytes:
        """Returns everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _GaugeCollector(Collector):
    def __init__(self, read: Callable[[], Gauges]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yields the gauges of this moment."""
        now = self._read()
        yield CounterMetricFamily(
            "audio_voice_worker_restarts", "Restarts of the workers.", value=now.worker_restarts
        )
        for name, text, value in (
            ("queue_depth", "Speech requests accepted and not yet finished.", now.queue_depth),
            ("uploads", "Uploads being read.", now.uploads),
            ("worker_ready", "1 when the default model is ready to speak.", int(now.worker_ready)),
            ("worker_rows", "Segments being decoded.", now.worker_rows),
            ("worker_waiting", "Segments waiting to be decoded.", now.worker_waiting),
            ("worker_rss_bytes", "Memory of the workers.", now.worker_rss_bytes),
            ("worker_device_bytes", "Memory of the GPU that the workers hold.", now.device_bytes),
        ):
            yield GaugeMetricFamily(f"audio_voice_{name}", text, value=value)
        benched = GaugeMetricFamily(
            "audio_voice_device_benched",
            "1 for a device that is not used for now, with the reason.",
            labels=["device", "reason"],
        )
        for device, reason in now.benched.items():
            benched.add_metric([device, reason], 1)
        yield benched
        yield from _model_families(now)


def _model_families(now: Gauges) -> Iterator[Metric]:
    """Yields what is told of each loaded model."""
    ready = GaugeMetricFamily(
        "audio_voice_model_ready", "1 for a model that can speak.", labels=["model"]
    )
    leases = GaugeMetricFamily(
        "audio_voice_model_leases", "Requests that hold a model.", labels=["model"]
    )
    need = GaugeMetricFamily(
        "audio_voice_model_bytes", "Memory a model is counted with.", labels=["model"]
    )
    stages = GaugeMetricFamily(
        "audio_voice_stage_peak_bytes",
        "Most memory of a worker while a stage of its work went on.",
        labels=["model", "stage"],
    )
    for model in now.models:
        ready.add_metric([model.name], int(model.is_ready))
        leases.add_metric([model.name], model.leases)
        need.add_metric([model.name], model.need_bytes)
        for stage, num_bytes in model.stage_bytes.items():
            stages.add_metric([model.name, stage], num_bytes)
    yield from (ready, leases, need, stages)
    budget = GaugeMetricFamily(
        "audio_voice_memory_budget_bytes",
        "Memory that models may take together, by place: gpu, cpu.",
        labels=["place"],
    )
    for place, limit in now.budgets.items():
        budget.add_metric([place], limit)
    yield budget
