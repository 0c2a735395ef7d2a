"""The OpenTelemetry SDK, unmodified, against `log-sealer`: logs, traces and metrics, by gRPC and by HTTP.

Arguments: the address of gRPC as gRPC writes it, the base URL of HTTP. Prints "ok" when every export was accepted.
"""

import sys

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_traces
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_traces
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

RECORDS = 1000


def watched(exporter, refused):
    """The exporter; what it could not export is noted."""
    export = exporter.export

    def noting(*args, **kwargs):
        result = export(*args, **kwargs)
        if result.name != "SUCCESS":
            refused.append(type(exporter).__module__)
        return result

    exporter.export = noting
    return exporter


def send(name, logs, traces, metrics):
    """Sends all three signals as the service of this name, and says which were refused."""
    refused = []
    resource = Resource.create({"service.name": name})

    logger_provider = LoggerProvider(resource=resource)
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(watched(logs, refused)))
    logger = logger_provider.get_logger("telemetry_list")
    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(BatchSpanProcessor(watched(traces, refused)))
    reader = PeriodicExportingMetricReader(watched(metrics, refused))
    meter_provider = MeterProvider(resource=resource, metric_readers=[reader])
    counter = meter_provider.get_meter("telemetry_list").create_counter("calls")

    for number in range(RECORDS):
        attributes = {"number": number, "ratio": 0.5, "list": ["a", "b"], "yes": True}
        logger.emit(
            LogRecord(
                body=f"record {number}",
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                attributes=attributes,
            )
        )
    with tracer_provider.get_tracer("telemetry_list").start_as_current_span("outer") as span:
        span.add_event("began", {"number": 1})
        with tracer_provider.get_tracer("telemetry_list").start_as_current_span("inner"):
            counter.add(2, {"kind": "a"})
    for provider in (logger_provider, tracer_provider, meter_provider):
        assert provider.force_flush()
        provider.shutdown()
    return refused


def main():
    grpc, http = sys.argv[1:]
    # For a Unix socket gRPC would name the path as the authority, which is no authority (RFC 3986, 3.2).
    options = {"endpoint": grpc, "insecure": True, "channel_options": (("grpc.default_authority", "localhost"),)}
    refused = send(
        "python-grpc",
        grpc_logs.OTLPLogExporter(**options),
        grpc_traces.OTLPSpanExporter(**options),
        grpc_metrics.OTLPMetricExporter(**options),
    )
    refused += send(
        "python-http",
        http_logs.OTLPLogExporter(endpoint=f"{http}/v1/logs", compression=Compression.Gzip),
        http_traces.OTLPSpanExporter(endpoint=f"{http}/v1/traces"),
        http_metrics.OTLPMetricExporter(endpoint=f"{http}/v1/metrics"),
    )
    assert not refused, refused
    print("ok")


main()
