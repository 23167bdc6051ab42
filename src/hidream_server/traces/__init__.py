"""Traces for OpenTelemetry: where the time of a request went, in the trace of who asked."""
