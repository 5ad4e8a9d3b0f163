/*
 * An iptables.service of the user's own, with a real systemd: one that loses rules is refused, and the commands in the message fix
 * it without a moment in which the host is open; one that is not understood is used, and checked.
 */

import { expect } from "vitest";
import { ask, ourRules } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { story } from "./story.ts";

const CLOSED = `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
`;

/** A host whose own service has loaded its one fragment. */
function filesWith(commands: string, more: Record<string, string> = {}): Record<string, string> {
  return {
    "/etc/iptables.d/00_host": CLOSED,
    "/etc/systemd/system/iptables.service": `[Service]\nType=oneshot\nRemainAfterExit=yes\n${commands}\n[Install]\nWantedBy=multi-user.target\n`,
    ...more,
  };
}

async function setup(host: Host, ...args: string[]) {
  const { stdout } = await host.run("docker_iptables", ["setup", "--json", ...args], { check: false });
  return JSON.parse(stdout);
}

/** What INPUT is like, each time that it changes, while the steps are taken. */
async function inputDuring(host: Host, steps: () => Promise<void>): Promise<string[]> {
  const look = `iptables-save -t filter | awk '/^:INPUT/ { policy = $2 } /dport 22 / { ssh = " ssh" } END { print policy ssh }'`;
  const loop = `rm -f /tmp/stop; (while [ ! -e /tmp/stop ]; do ${look}; done; touch /tmp/stopped) > /tmp/seen 2>&1 < /dev/null &`;
  await host.run("sh", ["-c", loop]);
  await steps();
  await host.run("sh", ["-c", "touch /tmp/stop; until [ -e /tmp/stopped ]; do sleep 0.05; done"]);
  return (await host.read("/tmp/seen")).trim().split("\n");
}

story("'cat DIR/* | iptables-restore' is refused, and what is advised puts it right", async ({ lab }) => {
  const line = "ExecStart=/bin/sh -c 'cat /etc/iptables.d/* | iptables-restore'";
  const host = await lab.host({ name: "cat", files: filesWith(line) });
  const client = await lab.client("laptop");
  await host.systemctl(["enable", "--now", "iptables.service"]);
  await host.docker.run("web", { publish: ["8080:80"] });
  const seen = await inputDuring(host, async () => {
    const checked = await setup(host, "--check");
    expect(checked).toMatchObject({
      failed: true,
      changed: false,
      error: { code: "unit_not_suitable", form: "concatenated" },
    });
    expect(await setup(host)).toMatchObject({ failed: true, changed: false, error: { code: "unit_not_suitable" } });
    expect((await host.run("ls", ["/etc/iptables.d"])).stdout.trim()).toBe("00_host");
    for (const command of checked.error.remedy) await host.run("sh", ["-c", command]);
    expect(await ask(host, { container: "web" })).toMatchObject({ changed: true, reloaded: ["iptables.service"] });
  });
  expect(seen.length).toBeGreaterThan(20);
  expect(new Set(seen)).toEqual(new Set(["DROP ssh"]));
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
  expect(await host.read("/etc/systemd/system/iptables.service")).toContain("docker_iptables load");
});

/** Not a shell's, so that it is not read. */
const awk = (text: string) => `#!/usr/bin/awk -f\n${text}\n`;
const MERGE = `#!/usr/bin/awk -f
/^\\*/ { table = $0; if (!(table in text)) order[++n] = table; next }
/^(COMMIT|#)/ { next }
{ text[table] = text[table] $0 "\\n" }
END { for (i = 1; i <= n; i++) printf "%s\\n%sCOMMIT\\n", order[i], text[order[i]] }
`;

story("a service that is not understood: used while it loads, detected when it flushes", async ({ lab }) => {
  const good = "ExecStart=/bin/sh -c '/usr/local/lib/merge /etc/iptables.d/* | iptables-restore'";
  const host = await lab.host({
    name: "own",
    files: filesWith(`${good}\n${good.replace("ExecStart", "ExecReload")}`, {
      "/usr/local/lib/merge": MERGE,
      "/usr/local/sbin/broken": awk('BEGIN { system("iptables -F; iptables -P INPUT ACCEPT # /etc/iptables.d") }'),
    }),
  });
  const client = await lab.client("laptop");
  await host.run("chmod", ["755", "/usr/local/lib/merge", "/usr/local/sbin/broken"]);
  await host.systemctl(["enable", "--now", "iptables.service"]);
  const made = await setup(host, "--replace");
  expect(made, made.msg).toMatchObject({ changed: true });
  expect(made.warnings).toContainEqual(expect.stringMatching(/^iptables\.service was not written by docker_iptables/));
  await host.docker.run("web", { publish: ["8080:80"] });
  expect(await ask(host, { container: "web" })).toMatchObject({
    changed: true,
    reloaded: ["iptables.service"],
    warnings: [],
  });
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });

  const rules = async () => (await host.run("iptables-save")).stdout.replaceAll(/^#.*\n|\[\d+:\d+\]/gm, "");
  const before = await rules();
  await host.write(
    "/etc/systemd/system/iptables.service",
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/broken /etc/iptables.d\nExecReload=/usr/local/sbin/broken /etc/iptables.d\n",
  );
  await host.systemctl(["daemon-reload"]);
  await host.docker.run("db", { publish: ["5432:80"] });
  const failed = await ask(host, { container: "db" });
  expect(failed, failed.msg).toMatchObject({ failed: true, changed: false, error: { code: "rules_not_live" } });
  expect(failed.msg).toContain(
    "iptables.service, which docker_iptables did not write, removed rules that were live before",
  );
  expect(failed.rolled_back).toContain("the kernel's IPv4 rules");
  expect(await rules()).toBe(before);

  // A removal: the host's rules are restored, the container's are not.
  expect(await ask(host, { container: "web", state: "absent" })).toMatchObject({ changed: true });
  expect(await ourRules(host)).toEqual([]);
  expect(await rules()).toContain("--dport 22 -j ACCEPT");
  expect(await rules()).toContain(":INPUT DROP");
});
