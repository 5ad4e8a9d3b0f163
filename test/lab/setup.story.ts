/*
 * setup: two commands set up a bare host; if another program manages firewall rules, it says so and changes nothing.
 */

import { describe, expect } from "vitest";
import { ask, baseRules, example, ourRules, tagOriginalImage, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { story, storyWith } from "./story.ts";

async function setup(host: Host, ...args: string[]) {
  const { stdout, stderr } = await host.run("docker_iptables", ["setup", "--json", ...args], { check: false });
  if (stderr !== "") throw new Error(`docker_iptables wrote to stderr: ${stderr}`);
  return JSON.parse(stdout);
}

/** Every file of a host that setup may touch, and all its rules: for before and after. */
async function stateOf(host: Host): Promise<string> {
  const script = `for f in $(find /etc/iptables.d /etc/ip6tables.d /etc/systemd/system /var/lib/docker_iptables -not -name '.docker_iptables.*' 2> /dev/null | sort); do
    echo "== $f"; [ -f "$f" ] && cat "$f"
  done; systemctl is-enabled iptables ip6tables 2>&1; iptables-save; ip6tables-save`;
  const { stdout } = await host.run("sh", ["-c", script], { check: false });
  // A table without a rule that accepts everything is as good as none.
  const plain = stdout.replaceAll(/^#.*\n|\[\d+:\d+\]/gm, "");
  return plain.replaceAll(/^\*\w+\n(:\w+ ACCEPT *\n)*COMMIT\n/gm, "");
}

const ADD_NETWORK = ["network", "create", "--opt", "com.docker.network.bridge.name=br-app", "app"];

describe.each(["nft", "legacy"] as const)("a bare host with iptables-%s", (backend) => {
  story("is ready after setup, stays so over a boot, follows its networks, and is given back", async ({ lab }) => {
    const host = await lab.host({
      name: "bare",
      backend,
      docker: { ipv6: true },
      files: { "/etc/systemd/system/hello-world.service": example("systemd/hello-world.service") },
    });
    const client = await lab.client("laptop");
    await tagOriginalImage(host);
    const before = await stateOf(host);

    expect(await setup(host, "--check")).toMatchObject({ changed: true, reloaded: [] });
    expect(await stateOf(host)).toBe(before);
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({
      changed: true,
      msg: "the host rules are set up for the networks bridge",
      reloaded: ["iptables.service", "ip6tables.service"],
      warnings: [],
    });
    for (const path of [
      "iptables.d/10_docker",
      "iptables.d/90_docker",
      "ip6tables.d/10_docker",
      "ip6tables.d/90_docker",
    ]) {
      expect(await host.read(`/etc/${path}`)).toBe(example(path));
    }
    for (const unit of ["iptables.service", "ip6tables.service", "iptables-retry.timer", "ip6tables-retry.timer"]) {
      expect(await host.read(`/etc/systemd/system/${unit}`)).toBe(example(`systemd/${unit}`));
    }
    expect(await setup(host)).toMatchObject({ changed: false, warnings: [] });

    // The hello-world unit of the original's README, and what its container reaches.
    await host.systemctl(["enable", "--now", "hello-world"]);
    const reached = { reached: true, peer: client.address };
    expect(await client.connect(host.address, 5000)).toMatchObject(reached);
    await host.docker.run("other");
    expect(await host.docker.connect("other", client.address, 22)).toEqual({ reached: false, why: "refused" });
    // The guard: an on-link host with a route reaches no port that is not published.
    await client.route("172.17.0.0/16", host.address);
    expect(await client.connect(await host.docker.address("other"), 80, { timeoutMs: 500 })).toMatchObject({
      reached: false,
    });

    await host.reboot();
    await until(async () => (await client.connect(host.address, 5000)).reached);
    expect(await client.connect(host.address, 5000)).toMatchObject(reached);
    expect(await setup(host)).toMatchObject({ changed: false, warnings: [] });
    // Before docker, and so before any container.
    const order = await host.systemctl(["show", "--property=Before", "--value", "iptables"]);
    expect(order.stdout.split(/\s+/)).toEqual(expect.arrayContaining(["docker.service", "network-pre.target"]));

    await host.docker.cli(...ADD_NETWORK);
    await host.docker.run("web", { publish: ["8080:80"], network: "app" });
    const warned = await ask(host, { container: "web" });
    expect(warned.warnings.join()).toMatch(/do not cover the bridge br-app of web's network.*docker_iptables setup/);
    expect(await setup(host)).toMatchObject({ changed: true, base: { networks: ["bridge", "app"].sort() } });
    expect((await ask(host, { container: "web" })).warnings).toEqual([]);
    expect(await client.connect(host.address, 8080)).toMatchObject(reached);
    expect(await host.docker.connect("web", client.address, 22)).toEqual({ reached: false, why: "refused" });
    // Bridges are apart, but for what is published.
    const web = await host.docker.address("web");
    expect(await host.docker.connect("hello-world", web, 81, { timeoutMs: 500 })).toMatchObject({ reached: false });
    expect(await host.docker.connect("hello-world", host.address, 8080)).toMatchObject({ reached: true });

    const refused = await setup(host, "--remove");
    expect(refused).toMatchObject({ failed: true, error: { code: "base_in_use" } });
    await host.run("docker_iptables", ["delete", "web"]);
    await host.systemctl(["disable", "--now", "hello-world"]);
    expect(await setup(host, "--remove")).toMatchObject({
      changed: true,
      msg: "the host rules are removed",
      warnings: [],
    });
    expect(await setup(host, "--remove", "--reload=restore")).toMatchObject({ changed: false });
    expect(await host.list("/etc/iptables.d")).toEqual([]);
    expect(await host.exists("/var/lib/docker_iptables")).toBe(false);
    const enabled = await host.systemctl(["is-enabled", "iptables"], { check: false });
    expect(enabled.exitCode).not.toBe(0);
    await host.docker.cli("rm", "--force", "web", "other");
    await host.docker.cli("network", "rm", "app");
    expect(await stateOf(host)).toBe(before);
  });
});

storyWith({ packages: ["ufw"] })("a host with ufw: refused; adopted; or left alone with patch", async ({ lab }) => {
  const host = await lab.host({ name: "guarded" });
  const client = await lab.client("laptop");
  // As the package's own script does it.
  await host.run("sh", ["-c", "cp /usr/share/ufw/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /etc/ufw/"]);
  await host.run("ufw", ["allow", "22/tcp"]);
  await host.run("ufw", ["--force", "enable"]);
  await host.docker.run("web", { publish: ["8080:80"] });
  const before = await stateOf(host);

  const refused = await setup(host);
  expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "rules_undeclared" } });
  expect(refused.msg).toMatch(/ufw-.*adopt.*replace.*reload: patch/s);
  expect(await stateOf(host)).toBe(before);

  // patch: every rule of ufw's stays as it is.
  const ufws = async () => (await host.run("iptables-save")).stdout.split("\n").filter((line) => line.includes("ufw-"));
  const theirs = await ufws();
  expect(theirs.length).toBeGreaterThan(50);
  expect(await setup(host, "--reload=patch")).toMatchObject({ changed: true });
  expect(await ask(host, { container: "web", reload: "patch" })).toMatchObject({ changed: true });
  expect(await ufws()).toEqual(theirs);
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  expect(await client.connect(host.address, 9999, { timeoutMs: 500 })).toMatchObject({ reached: false });
  await ask(host, { container: "web", reload: "patch", state: "absent" });
  expect(await setup(host, "--reload=patch", "--remove")).toMatchObject({ changed: true });
  expect(await stateOf(host)).toBe(before);

  // adopt: they are fragments now, and still decide.
  const adopted = await setup(host, "--adopt");
  expect(adopted, adopted.msg).toMatchObject({ changed: true });
  expect(await host.read("/etc/iptables.d/00_existing")).toContain(
    "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT",
  );
  expect(await ufws()).toEqual(expect.arrayContaining(theirs));
  expect(await ask(host, { container: "web" })).toMatchObject({ changed: true });
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  expect(await client.connect(host.address, 22)).toEqual({ reached: false, why: "refused" });
  expect(await client.connect(host.address, 9999, { timeoutMs: 500 })).toMatchObject({ reached: false });
  expect((await host.run("iptables", ["-S", "INPUT"])).stdout).toContain("-P INPUT DROP");
  expect(await setup(host, "--adopt")).toMatchObject({ changed: false });
  expect(await setup(host)).toMatchObject({ changed: false });
});

story(
  "catch-alls at a chain's end move behind the containers; the other backend's rules are taken over",
  async ({ lab }) => {
    const host = await lab.host({ name: "redhat" });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80"] });
    const rules = `*filter
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -s 192.0.2.0/24 -j DROP
-A FORWARD -j REJECT --reject-with icmp-host-prohibited
COMMIT
`;
    await host.run("iptables-restore", ["--noflush"], { input: rules });
    await host.run("iptables-legacy", ["-A", "INPUT", "-p", "tcp", "--dport", "9999", "-j", "DROP"]);
    const refused = await setup(host);
    expect(refused).toMatchObject({ failed: true, error: { code: "rules_undeclared" } });
    expect(refused.msg).toContain("'-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT' and 3 more");
    expect(refused.msg).toContain("legacy");

    const result = await ask(host, { base: true, adopt: true, container: "web" });
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(await host.list("/etc/iptables.d")).toEqual([
      "00_existing",
      "10_docker",
      "11-docker-container_web",
      "90_docker",
      "95_existing",
    ]);
    expect((await host.run("iptables-legacy-save")).stdout).not.toContain("-A ");
    expect((await host.run("iptables", ["-S", "INPUT"])).stdout).toContain("--dport 9999");
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
    expect(await client.connect(host.address, 22)).toEqual({ reached: false, why: "refused" });
    expect(await client.connect(host.address, 23)).toMatchObject({ reached: false, why: "unreachable" });
    expect(await ask(host, { base: true, adopt: true, container: "web" })).toMatchObject({ changed: false });
  },
);

story("a base of a person's own hand is not overwritten", async ({ lab }) => {
  const host = await lab.host({
    name: "byhand",
    files: {
      "/etc/iptables.d/10_docker": "# mine\n*nat\n:DOCKER_CONTAINERS - [0:0]\nCOMMIT\n",
      "/etc/systemd/system/iptables.service": "[Service]\nExecStart=/bin/true\n",
    },
  });
  const before = await stateOf(host);
  const refused = await setup(host);
  expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "fragment_foreign" } });
  expect(refused.msg).toContain("mv /etc/iptables.d/10_docker /etc/iptables.d/10_docker.orig");
  expect(await stateOf(host)).toBe(before);

  await host.run("mv", ["/etc/iptables.d/10_docker", "/etc/iptables.d/10_docker.orig"]);
  const unit = await setup(host);
  expect(unit).toMatchObject({ failed: true, changed: false, error: { code: "unit_not_suitable" } });
  expect(unit.msg).toContain("iptables.service does not load /etc/iptables.d");
  expect(await setup(host, "--reload=restore")).toMatchObject({
    changed: true,
    reloaded: ["iptables-restore", "ip6tables-restore"],
  });
  expect(await host.read("/etc/systemd/system/iptables.service")).toBe("[Service]\nExecStart=/bin/true\n");
});

story(
  "a daemon that ran with iptables=true: told while it does, its leftovers replaced afterwards",
  async ({ lab }) => {
    const host = await lab.host({ name: "converted", docker: { settings: { iptables: true } } });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80"] });
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true });
    const refused = await setup(host);
    expect(refused).toMatchObject({ failed: true, error: { code: "rules_undeclared" } });
    expect(refused.msg).toMatch(
      /Docker daemon.*itself: put "iptables": false.*daemon\.json.*'systemctl restart docker'/,
    );
    expect(refused.msg).not.toMatch(/adopt|replace/);

    const settings = JSON.parse(await host.read("/etc/docker/daemon.json"));
    await host.write("/etc/docker/daemon.json", JSON.stringify({ ...settings, iptables: false }));
    await host.systemctl(["restart", "docker"]);
    expect((await host.run("iptables-save")).stdout).toContain("DOCKER");
    await host.docker.cli("start", "web");
    const { diff } = await ask(host, { base: true, _ansible_check_mode: true, _ansible_diff: true });
    const going = diff?.find(({ before_header }) => before_header === "iptables-save")?.before ?? "";
    const lines = (await host.run("iptables-save")).stdout.split("\n");
    const isRule = (line: string) => line.startsWith("-");
    expect(going.split("\n").filter(isRule)).toEqual(
      lines.filter((line) => isRule(line) && !line.startsWith("-A DOCKER-ISOLATION") && !line.startsWith("-A DOCKER ")),
    );
    expect(going).toContain(":DOCKER - [0:0]");
    const result = await ask(host, { base: true, container: "web" });
    expect(result, result.msg).toMatchObject({ changed: true, warnings: [expect.stringMatching(/policy DROP/)] });
    expect((await host.run("iptables-save")).stdout).not.toMatch(/DOCKER(-(?!USER)|\s|$)/m);
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });

    // Docker's policy stays as long as the host runs, and is no obstacle.
    await host.docker.cli("network", "create", "app");
    const again = { changed: true, base: { networks: ["app", "bridge"] }, warnings: [] };
    expect(await setup(host)).toMatchObject(again);
    expect((await host.run("iptables", ["-S", "FORWARD"])).stdout).toContain("-P FORWARD DROP");
    expect(await ask(host, { base: true, adopt: true })).toMatchObject({ changed: false });
    expect(await host.list("/etc/iptables.d")).not.toContain("00_existing");
  },
);

story(
  "a hundred processes at once: each returns with its rules live, and the service loads a few times",
  async ({ lab }) => {
    const host = await lab.host({ name: "busy" });
    await setup(host);
    const names = Array.from({ length: 100 }, (_, index) => `c${index}`);
    await host.docker.run("c0", { publish: ["9000:80"] });
    // A hundred real containers would be a test of dockerd: ninety-nine documents differ from the first in name, address and port.
    const [document] = JSON.parse((await host.docker.cli("inspect", "c0")).stdout);
    const client = `#!/bin/sh
[ "$1" = inspect ] || exec docker "$@"
number=\${2#c}
sed -e "s/\\"\\/c0\\"/\\"\\/c$number\\"/g" -e "s/\\"9000\\"/\\"$((9000 + number))\\"/g" -e "s/172\\.17\\.0\\.2/172.17.1.$((number + 1))/g" /root/document.json
`;
    await host.write("/root/document.json", JSON.stringify([document]));
    await host.write("/usr/local/bin/many", client, 0o755);
    const loads = async () =>
      (await host.journal("iptables")).split("\n").filter((line) => /^(Reloading|Starting) /.test(line)).length;
    const before = await loads();
    const script = names.map(
      (name) =>
        `(docker_iptables create ${name} --client many --timeout 600 --json > /root/${name}.json; iptables-save -t nat | grep -q '"docker_iptables: ${name}"' || echo ${name} >> /root/not-live) &`,
    );
    await host.run("sh", ["-c", `${script.join("\n")}\nwait`], { timeoutMs: 900_000 });
    const answers = await Promise.all(names.map(async (name) => JSON.parse(await host.read(`/root/${name}.json`))));
    expect(answers.filter(({ failed }) => failed)).toEqual([]);
    expect(await host.exists("/root/not-live")).toBe(false);
    const reloads = (await loads()) - before;
    console.log(`100 processes at once: ${reloads} loads`);
    expect(reloads).toBeGreaterThan(0);
    expect(reloads).toBeLessThanOrEqual(10);
    expect((await ourRules(host)).filter((rule) => rule.includes("DNAT"))).toHaveLength(100);
    expect((await baseRules(host)).length).toBeGreaterThan(3);
  },
);

story(
  "another's broken fragment: the service says which line, present changes nothing; with patch it works",
  async ({ lab }) => {
    const host = await lab.host({ name: "shared" });
    const client = await lab.client("laptop");
    await setup(host);
    await host.docker.run("web", { publish: ["8080:80"] });
    await host.write(
      "/etc/iptables.d/50_stranger",
      "*filter\n-A INPUT -j ACCEPT\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n",
    );
    const before = await stateOf(host);
    const failed = await ask(host, { container: "web" });
    expect(failed).toMatchObject({ failed: true, changed: false, error: { code: "reload_failed" } });
    expect(failed.error?.["journal"]).toContain(
      "/etc/iptables.d/50_stranger line 3: iptables refuses '-A FORWARD -j NO_SUCH_CHAIN'",
    );
    expect(await stateOf(host)).toBe(before);
    const again = await setup(host);
    expect(again).toMatchObject({ changed: false });
    expect(again.warnings).toEqual([
      expect.stringMatching(
        /^the fragments cannot be loaded until this is fixed: \S+50_stranger line 3: iptables refuses/,
      ),
    ]);
    expect(await ask(host, { container: "web", reload: "patch" })).toMatchObject({ changed: true });
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  },
);
