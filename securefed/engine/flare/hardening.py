"""What FLARE may do here, cut down to what a federation needs; laid over a kit at every start.

Its defaults allow some ninety classes to be built by name, code in jobs, commands in shells, logs
that stream to the server (a text of an exception can hold a path or a patient's name), and storage
in the temporary folder.
"""

import json
from pathlib import Path
from typing import Any

from securefed.files import write_atomically

_OURS = "securefed.engine.flare"
CONTROLLER = f"{_OURS}.controller.FederationController"
EXECUTOR = f"{_OURS}.executor.FederationExecutor"
LAUNCHER = f"{_OURS}.launcher.DropoutLauncher"
_STREAMERS = {"site_log_streamer", "log_receiver"}
HEARTBEAT_TIMEOUT_S = 30  # of which there is one in ten seconds

# Nobody may send code, open a shell, or take a job's files; jobs come from the lead alone.
AUTHORIZATION = {
    "format_version": "1.0",
    "permissions": {
        "lead": {
            "submit_job": "any",
            "manage_job": "n:submitter",
            "view": "any",
            "operate": "none",
            "shell_commands": "none",
            "byoc": "none",
            "clone_job": "none",
            "download_job": "none",
            "server-predeployed-flwr": "none",
        },
    },
}


def harden(kit: Path, *, server: bool) -> None:
    """Write the local settings of a kit, in the place of FLARE's defaults, or of what was edited.

    Args:
        kit: absolute, as FLARE wants its storage to be named.
    """
    local = kit / "local"
    resources: dict[str, Any] = json.loads((local / "resources.json.default").read_text())
    resources["class_list_enforcement_mode"] = "enforce"
    resources["class_allow_list"] = [CONTROLLER, EXECUTOR, LAUNCHER]
    resources["components"] = [
        each for each in resources["components"] if each["id"] not in _STREAMERS
    ]
    if server:
        _store_below(kit, resources)
    else:
        resources["allow_log_streaming"] = False
        for each in resources["components"]:
            if each["id"] == "process_launcher":
                each["path"] = LAUNCHER
    for name, content in (("resources", resources), ("authorization", AUTHORIZATION)):
        write_atomically(local / f"{name}.json", json.dumps(content, indent=1).encode())


def _store_below(kit: Path, resources: dict[str, Any]) -> None:
    for each in resources["servers"]:
        each["heart_beat_timeout"] = HEARTBEAT_TIMEOUT_S
    resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(kit / "snapshots")
    for each in resources["components"]:
        if each["id"] == "job_manager":
            each["args"]["uri_root"] = str(kit / "jobs")
