"""What a scrape holds after tasks that ended in every way, in the form that Prometheus wants."""

import re
from collections.abc import Mapping

import pytest
from prometheus_client import Metric

#: Names that dashboards and alerts rely on, by type; what the parser makes of a counter's name
#: has no _total.
PROMISED = {
    "hidream_requests": "counter",
    "hidream_request_latency_seconds": "histogram",
    "hidream_queue_time_seconds": "histogram",
    "hidream_num_queue_reqs": "gauge",
    "hidream_num_running_reqs": "gauge",
    "hidream_denoise_step_seconds": "histogram",
    "hidream_stage_latency_seconds": "histogram",
    "hidream_peak_memory_bytes": "gauge",
    "hidream_worker_restarts": "counter",
    "hidream_layout_info": "gauge",
    "hidream_cache_hits": "counter",
    "hidream_cache_requests": "counter",
    "hidream_http_requests": "counter",
    "hidream_http_request_seconds": "histogram",
    "hidream_ready": "gauge",
    "hidream_build_info": "gauge",
}


def values(metric: Metric, suffix: str = "") -> dict[tuple[str, ...], float]:
    """Return the samples with a suffix, by the values of their labels in the labels' order."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in metric.samples
        if sample.name == metric.name + suffix
    }


def test_every_promised_metric_is_there_and_no_other_of_ours(families: Mapping[str, Metric]):
    ours = {name: metric.type for name, metric in families.items() if "hidream" in name}
    assert ours == PROMISED


def test_the_process_and_the_platform_are_there(families: Mapping[str, Metric]):
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "python_info"} <= set(families)


def test_tasks_are_counted_by_how_they_ended(families: Mapping[str, Metric]):
    counted = values(families["hidream_requests"], "_total")
    assert {labels: count for labels, count in counted.items() if count} == {
        ("none", "completed"): 3,
        ("out_of_memory", "failed"): 1,
        ("crashed", "failed"): 1,
        ("timeout", "failed"): 2,
        ("none", "cancelled"): 1,
        ("queue_full", "refused"): 1,
        ("invalid_request", "refused"): 1,
    }
    # What has not happened yet is there, so that its first time is an increase.
    assert counted["disk", "failed"] == 0


def test_completed_tasks_have_a_latency_and_started_ones_a_queue_time(
    families: Mapping[str, Metric],
):
    assert values(families["hidream_request_latency_seconds"], "_count") == {(): 3}
    assert values(families["hidream_queue_time_seconds"], "_count") == {(): 5}
    assert 0 < values(families["hidream_request_latency_seconds"], "_sum")[()] < 20


def test_a_step_that_tasks_share_is_counted_once(families: Mapping[str, Metric]):
    steps = families["hidream_denoise_step_seconds"]
    assert values(steps, "_count") == {("2",): 3 * 2}
    assert values(steps, "_sum")["2",] == pytest.approx(3 * 2 * 0.12)


def test_stages_are_timed_as_the_ranks_say(families: Mapping[str, Metric]):
    sums = values(families["hidream_stage_latency_seconds"], "_sum")
    expected = {"encode": 0.2, "denoise": 3.0, "decode": 0.4, "save": 0.1}
    assert sums == {(stage,): pytest.approx(3 * seconds) for stage, seconds in expected.items()}


def test_ranks_say_what_they_used_and_a_group_counts_once(families: Mapping[str, Metric]):
    assert values(families["hidream_peak_memory_bytes"]) == {("0-0",): 5000, ("0-1",): 5001}
    # Two groups: the second came after the one that a task brought down.
    assert values(families["hidream_worker_restarts"], "_total") == {(): 1}
    assert values(families["hidream_cache_requests"], "_total")["prompt_embeddings",] == 8
    assert values(families["hidream_cache_hits"], "_total")["prompt_embeddings",] == 6


def test_steps_that_were_reused_are_counted_beside_all_that_could_have_been(
    families: Mapping[str, Metric],
):
    """Of three tasks of four steps one was painted so."""
    assert values(families["hidream_cache_requests"], "_total")["step_outputs",] == 4
    assert values(families["hidream_cache_hits"], "_total")["step_outputs",] == 1


def test_what_is_now_is_said_as_it_is(families: Mapping[str, Metric]):
    assert values(families["hidream_num_queue_reqs"]) == {(): 1}
    assert values(families["hidream_num_running_reqs"]) == {(): 0}
    assert values(families["hidream_ready"]) == {(): 0}
    [layout] = families["hidream_layout_info"].samples
    assert layout.labels == {"layout": "tp1", "wanted": "tp1", "degraded": "false"}
    [build] = families["hidream_build_info"].samples
    assert build.labels["model"] == "HiDream-I1-Demo"
    assert set(build.labels) == {"version", "model", "variant", "device"}


def test_requests_are_counted_by_the_routes_template(families: Mapping[str, Metric]):
    counted = values(families["hidream_http_requests"], "_total")
    assert counted["POST", "/submit", "200"] == 3
    assert counted["POST", "/submit", "422"] == counted["POST", "/submit", "429"] == 1
    assert counted["POST", "/tasks/{task_id}/cancel", "200"] == 1
    assert counted["GET", "/status/{task_id}", "200"] == 1
    assert values(families["hidream_http_request_seconds"], "_count")["/submit",] == 5


# As `promtool check metrics` would have it


def test_every_metric_says_what_it_is(families: Mapping[str, Metric], scraped: str):
    for name, metric in families.items():
        assert metric.documentation.strip(), name
    assert scraped.count("# TYPE hidream_") == scraped.count("# HELP hidream_") == len(PROMISED)


def test_names_are_plain_and_end_as_their_type_wants(scraped: str):
    for name, kind in re.findall(r"# TYPE (hidream_\S+) (\w+)", scraped):
        assert re.fullmatch("[a-z][a-z0-9_]*", name)
        assert name.endswith("_total") == (kind == "counter"), name
        if kind != "counter":
            assert not name.endswith(("_count", "_sum", "_bucket")), name
        assert not re.search("_(counter|gauge|histogram|summary)(_|$)", name)


def test_units_are_base_units(scraped: str):
    others = "(ms|milliseconds?|minutes?|hours?|kb|mb|gb|kilobytes?|megabytes?|mib|gib|percent)"
    for name in re.findall(r"# TYPE (hidream_\S+)", scraped):
        assert not re.search(f"_{others}(_|$)", name), name


def test_histograms_have_buckets_that_rise_to_infinity(families: Mapping[str, Metric]):
    histograms = [m for m in families.values() if m.type == "histogram"]
    assert len(histograms) == 5
    for metric in histograms:
        rows: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
                rows.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        for buckets in rows.values():
            assert buckets == sorted(buckets)
            assert buckets[-1][0] == float("inf")
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)


def test_label_values_are_few_and_name_no_task(families: Mapping[str, Metric]):
    for metric in families.values():
        for sample in metric.samples:
            for label, value in sample.labels.items():
                assert len(value) < 40, (metric.name, label)
                assert not re.search("[0-9a-f]{8}-", value), (metric.name, label)
                assert label == "le" or not label.startswith("__")


def test_series_do_not_say_when_they_began(scraped: str):
    assert "_created" not in scraped
