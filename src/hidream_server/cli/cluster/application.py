"""A deployment as an application of Ray Serve: its replicas, their places, and their number.

Ray Serve's own configuration, as in deploy/ray/kuberay.yaml, names `application` here.
"""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from hidream_server.cli.cluster.config import Shared, Target, checked
from hidream_server.cli.cluster.replica import GroupReplica
from hidream_server.cli.cluster.scaling import OpenWorkPolicy
from hidream_server.settings import load_settings

#: What the supervisor itself needs.
_OWN_BUNDLE = {"CPU": 1.0}
#: After the drain the ranks are asked to leave and then killed, 5 s each; and some to spare.
_LEAVE_S = 30.0


def application(values: Mapping[str, Any]) -> serve.Application:
    """Return the application of one deployment: its fields, and those that all share."""
    names = Shared.model_fields.keys()
    shared = checked(Shared, {k: v for k, v in values.items() if k in names}, "deployment")
    target = checked(Target, {k: v for k, v in values.items() if k not in names}, "deployment")
    return new_application(shared, target)


def new_application(shared: Shared, target: Target) -> serve.Application:
    drain_s = load_settings(target.options).drain_timeout_s
    deployment = serve.deployment(
        name=target.name,
        ray_actor_options={"num_cpus": _OWN_BUNDLE["CPU"]},
        # One machine: ranks find each other and their supervisor on its loopback.
        placement_group_bundles=[_OWN_BUNDLE, *target.rank_bundles],
        placement_group_strategy="STRICT_PACK",
        graceful_shutdown_timeout_s=drain_s + _LEAVE_S,
        # There are no requests to wait for.
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=5.0,
        health_check_timeout_s=30.0,
        **_number(shared, target),
    )(GroupReplica)
    of_all = shared.model_dump(mode="json", include=set(Shared.model_fields))
    return deployment.bind(of_all, target.model_dump(mode="json"))


def _number(shared: Shared, target: Target) -> dict[str, Any]:
    """Return how many replicas there are."""
    if target.most == target.min_replicas:
        return {"num_replicas": target.min_replicas}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=target.min_replicas,
            max_replicas=target.most,
            upscale_delay_s=target.upscale_delay_s,
            downscale_delay_s=target.downscale_delay_s,
            policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]
                policy_function=OpenWorkPolicy,
                policy_kwargs={
                    "database": shared.database,
                    "model": target.model.name if target.model else None,
                    "work_per_replica": target.work_per_replica,
                },
            ),
        )
    }
