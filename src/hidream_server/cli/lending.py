"""Runs a process that lends this machine's devices to a worker group on several machines."""

import logging

from hidream_server.cli.disk import check_folder
from hidream_server.cli.event_loop import run_loop, spare_collector
from hidream_server.cli.instance import claim_instance
from hidream_server.cli.lifetime import call_on_signals, hold_signals, logging_mistakes, start_logs
from hidream_server.devices.choice import DeviceChoice, choose_devices
from hidream_server.engine.launchers.launcher import LaunchOrder
from hidream_server.engine.launchers.nodes import Nodes, read_nodes
from hidream_server.engine.launchers.torchrun import (
    TorchrunLauncher,
    require_torch,
    torchrun_command,
)
from hidream_server.engine.lender import Lender
from hidream_server.logs import end_startup_log
from hidream_server.settings import Settings

logger = logging.getLogger(__name__)


def run_lender(settings: Settings) -> None:
    """Lend until a signal comes."""
    hold_signals()
    require_torch()
    check_folder(settings.data_dir, "--data-dir")
    check_folder(settings.log_dir, "--log-dir")
    devices = choose_devices(settings)
    nodes = read_nodes(settings, len(devices.ids))
    with claim_instance(settings.data_dir):
        end_startup_log(start_logs(settings))
        logger.info(
            "Machine %d of %d: %s device %s for the group at %s",
            *(nodes.rank, nodes.count, devices.kind.name),
            *(",".join(map(str, devices.ids)), settings.rdzv_endpoint),
        )
        with logging_mistakes():
            run_loop(_lend(devices, nodes))
        logger.info("Stopped")


async def _lend(devices: DeviceChoice, nodes: Nodes) -> None:
    spare_collector()
    kind, count = devices.kind, len(devices.ids)
    lender = Lender(
        TorchrunLauncher(torchrun_command, kind.niceness, nodes),
        LaunchOrder(
            size=nodes.all_devices,
            control=None,
            environment=kind.environment(devices.ids, count),
        ),
    )
    call_on_signals(lender.stop)
    await lender.run()
