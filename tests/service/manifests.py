#!/usr/bin/env python3
"""Checks the files of deploy/ for Kubernetes and Nomad: python3 tests/service/manifests.py

No cluster is needed. The flags of each file are given to the release program for each shard, with the variables that
the scheduler would set. It needs `cargo build --release` and the packages yaml and hcl2. Without these two it exits
with 77, as skipped.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from steps import check, skip

try:
    import hcl2
    import yaml
except ImportError as error:
    skip(error)

ROOT = Path(__file__).resolve().parents[2]
SERVERS = [f"feed-{number}.example:9000" for number in range(40)]


def accepts(name, arguments, shards, variables_of):
    """Has the program check the flags and the list as each shard."""
    with tempfile.TemporaryDirectory() as folder:
        servers = Path(folder) / "servers"
        servers.write_text("\n".join(SERVERS) + "\n")
        place = arguments.index("--servers-file") + 1
        arguments = [*arguments[:place], str(servers), *arguments[place + 1 :], "--check"]
        for shard in range(shards):
            result = subprocess.run(
                [ROOT / "target/release/tcpcore", *arguments],
                env={"TCPCORE_SHARDS": str(shards), **variables_of(shard)},
                capture_output=True,
                text=True,
            )
            check(f"{name}: shard {shard} starts", result.returncode == 0, result.stderr)
    result = subprocess.run(
        [ROOT / "target/release/tcpcore", *arguments], env={}, capture_output=True, text=True
    )
    check(f"{name}: its shard comes from the scheduler", result.returncode == 2, result.stderr)


def kubernetes():
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/tcpcore.yaml").read_text())
    kinds = {document["kind"]: document for document in documents}
    stateful_set = kinds["StatefulSet"]["spec"]
    pod = stateful_set["template"]
    container = pod["spec"]["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    shards = stateful_set["replicas"]
    check("Kubernetes: TCPCORE_SHARDS is the number of replicas", variables["TCPCORE_SHARDS"] == str(shards))

    labels = pod["metadata"]["labels"].items()
    selectors = {
        "StatefulSet": stateful_set["selector"]["matchLabels"],
        "Service": kinds["Service"]["spec"]["selector"],
        "PodDisruptionBudget": kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    }
    for kind, selector in selectors.items():
        check(f"Kubernetes: the {kind} selects the pods", selector.items() <= labels, selector)
    check(
        "Kubernetes: the StatefulSet has its service",
        stateful_set["serviceName"] == kinds["Service"]["metadata"]["name"],
    )

    arguments = [part for argument in container["args"] for part in argument.split("=", 1)]
    mount = container["volumeMounts"][0]
    volume = pod["spec"]["volumes"][0]
    key = Path(arguments[arguments.index("--servers-file") + 1])
    check(
        "Kubernetes: the list is a file of the ConfigMap",
        volume["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"]
        and volume["name"] == mount["name"]
        and str(key.parent) == mount["mountPath"]
        and key.name in kinds["ConfigMap"]["data"],
        key,
    )
    port = int(arguments[arguments.index("--status-addr") + 1].rsplit(":", 1)[1])
    check("Kubernetes: the port is that of the flag", container["ports"][0]["containerPort"] == port)
    probes = [container["livenessProbe"], container["readinessProbe"]]
    check(
        "Kubernetes: the probes use the status server",
        [probe["httpGet"] for probe in probes]
        == [{"path": path, "port": container["ports"][0]["name"]} for path in ("/livez", "/readyz")],
    )
    accepts("Kubernetes", arguments, shards, lambda shard: {"POD_NAME": f"tcpcore-{shard}"})


def plain(value):
    """Returns a value without the quotes that the parser keeps."""
    return value.strip('"') if isinstance(value, str) else value


def block(parent, name, label=None):
    value = parent[name][0]
    return value if label is None else value[f'"{label}"']


def nomad():
    with (ROOT / "deploy/nomad/tcpcore.nomad.hcl").open() as file:
        document = hcl2.load(file)
    shards = block(document, "variable", "shards")["default"]
    group = block(block(document, "job", "tcpcore"), "group", "shard")
    task = block(group, "task", "tcpcore")
    check(
        "Nomad: TCPCORE_SHARDS is the count",
        plain(group["count"]) == plain(block(task, "env")["TCPCORE_SHARDS"]) == "${var.shards}",
    )
    port = next(iter(block(group, "network")["port"][0]))
    check("Nomad: the check uses the port of the network", block(group, "service")["port"] == port)
    config = block(task, "config")
    arguments = [plain(argument) for argument in config["args"]]
    check(
        "Nomad: the list is the file of the template",
        arguments[arguments.index("--servers-file") + 1] == plain(block(task, "template")["destination"]),
    )
    # Nomad replaces it by an address of the client.
    address = f"${{NOMAD_ADDR_{plain(port)}}}"
    check("Nomad: the status has the address of the port", address in arguments, arguments)
    arguments[arguments.index(address)] = "127.0.0.1:24001"
    unknown = [argument for argument in arguments if re.search(r"\$\{(?!NOMAD_TASK_DIR})", argument)]
    check("Nomad: no other variable is in the flags", not unknown, unknown)
    accepts("Nomad", arguments, shards, lambda shard: {"NOMAD_ALLOC_INDEX": str(shard)})


kubernetes()
nomad()
