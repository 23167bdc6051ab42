"""What Prometheus is told: every metric, declared once; docs/metrics.md says what each means."""
