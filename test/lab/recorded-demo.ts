/*
 * The demo without root or dockerd: a client that prints a recorded inspect document, and iptables in a user and
 * network namespace of its own where the kernel allows one and iptables is installed; else the files alone.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";

const EXECUTABLE = fileURLToPath(new URL("../../dist/docker_iptables", import.meta.url));

/** `docker inspect web` of Docker 20.10, shortened to what is read, with 8080 published. */
const CONTAINER = {
  Id: "4f1c7b0f0c4c4f4e9d3a0f3ad1c2b9f84a6a5c1c6ad5a2b3b7b8a5f0d9c8e7f6",
  Name: "/web",
  State: { Status: "running", Running: true, Restarting: false },
  HostConfig: { NetworkMode: "default" },
  NetworkSettings: {
    Bridge: "",
    Ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] },
    Networks: { bridge: { NetworkID: "bridge", IPAddress: "172.17.0.2", Gateway: "172.17.0.1" } },
  },
};

export async function recordedDemo(say: (text: string) => void, step: (text: string) => void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "docker_iptables-demo-"));
  try {
    const inNamespace = await hasNamespace();
    say(
      inNamespace
        ? "Instead: a recorded inspect document, and iptables in a user namespace of its own."
        : "Instead: a recorded inspect document, and files only: no iptables in a user namespace here.",
    );
    const bridge = inNamespace ? "docker0" : "lo";
    const network = {
      Name: "bridge",
      Id: "bridge",
      Driver: "bridge",
      Options: { "com.docker.network.bridge.name": bridge },
      IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
    };
    const client = join(folder, "docker");
    const answer = (document: unknown) => `echo '${JSON.stringify([document])}'`;
    const cases = [`"network ls") echo bridge ;;`, `network*) ${answer(network)} ;;`, `*) ${answer(CONTAINER)} ;;`];
    writeFileSync(client, `#!/bin/sh\ncase "$1 $2" in ${cases.join(" ")} esac\n`, { mode: 0o755 });

    const args = {
      container: "web",
      client,
      iptables_dir: join(folder, "iptables.d"),
      ip6tables_dir: join(folder, "ip6tables.d"),
      reload: inNamespace ? "restore" : "none",
    };
    const fragment = join(args.iptables_dir, "11-docker-container_web");
    const script = [
      ...(inNamespace ? ["ip link add docker0 type bridge"] : []),
      ...[{ ...args, base: true }, args, { ...args, state: "absent" }].flatMap((asked) => [
        `echo; echo '== docker_iptables, ${"base" in asked ? "base: true, " : ""}state: ${"state" in asked ? asked.state : "present"}'`,
        `echo '${JSON.stringify(asked)}' | '${EXECUTABLE}'`,
        `echo "-- the fragment"; cat '${fragment}' 2>/dev/null`,
        ...(inNamespace ? ['echo "-- the kernel"; iptables-save | grep docker_iptables'] : []),
      ]),
    ];
    step("No base yet, and a container that publishes 8080:80");
    const enter = inNamespace ? ["unshare", "--user", "--map-root-user", "--net"] : [];
    const [command = "sh", ...rest] = [...enter, "sh", "-c", script.join("\n")];
    const env = { PATH: `${process.env["PATH"]}:${dirname(process.execPath)}:/usr/sbin:/sbin` };
    const { all } = await execa(command, rest, { all: true, reject: false, env });
    say(all.replaceAll(folder, "/demo"));
    if (!/"changed":true.*"changed":false.*"changed":true/s.test(all))
      throw new Error("The demo did not go as it should.");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether iptables works in a user namespace: many kernels forbid the one, many machines lack the other. */
async function hasNamespace(): Promise<boolean> {
  const command = "PATH=$PATH:/usr/sbin:/sbin; ip link add docker0 type bridge && iptables-save && iptables -t nat -L";
  const { failed } = await execa("unshare", ["--user", "--map-root-user", "--net", "sh", "-c", command], {
    reject: false,
  });
  return !failed;
}
