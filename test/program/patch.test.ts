// reload: patch on a fake host: only our rules change in the kernel, when patched and when rolled back.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const BAN = "-A f2b-sshd -s 192.0.2.66/32 -j REJECT";
const patch = { container: "web", reload: "patch" };

/** A booted host with foreign rules in the kernel that no fragment declares. */
async function sharedHost(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: PORTS });
  await host.boot();
  const filter = host.kernel("filter").replace("*filter\n", "").replace("COMMIT\n", "");
  writeFileSync(
    join(host.fake, "kernel/ipv4/filter"),
    `*filter\n:f2b-sshd - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j f2b-sshd\n${BAN}\n${filter}-A FORWARD -j REJECT\nCOMMIT\n`,
  );
  return host;
}

const strangers = (host: FakeHost) =>
  ["raw", "nat", "filter"].map((table) => host.kernel(table).replaceAll(/^.*docker_iptables: .*\n/gm, ""));

describe.concurrent("reload: patch", () => {
  test("there, again, and gone: the other rules stay", async () => {
    const host = await sharedHost();
    const before = strangers(host);
    const there = await host.ask(patch);
    expect(there).toMatchObject({ changed: true, msg: "published: web", reloaded: ["iptables-restore"] });
    expect(strangers(host)).toEqual(before);
    expect(host.kernel("filter")).toMatch(/docker_iptables: web" -j ACCEPT\n-A FORWARD -j REJECT\n/);
    expect(await host.ask(patch)).toMatchObject({ changed: false, reloaded: [] });
    const gone = await host.ask({ ...patch, state: "absent" });
    expect(gone).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(strangers(host)).toEqual(before);
    expect(host.kernel("nat")).not.toContain("docker_iptables: ");
  });

  test("needs no service, and restores nothing else", async () => {
    const host = await sharedHost();
    host.calls();
    host.on("systemctl", "exit 9");
    await host.ask(patch);
    const calls = host.calls().filter((call) => call.includes("restore"));
    expect(calls).toEqual(["iptables-restore --wait 120 --noflush"]);
  });

  test("another address: the old rules go, the new ones come", async () => {
    const host = await sharedHost();
    await host.ask(patch);
    host.container("web", { ports: PORTS, address: "172.17.0.9" });
    expect(await host.ask(patch)).toMatchObject({ changed: true });
    expect(host.kernel("nat")).toContain("172.17.0.9:80");
    expect(host.kernel("nat") + host.kernel("raw") + host.kernel("filter")).not.toContain("172.17.0.2");
  });

  test("a flushed table gets its chain, the jumps and our rules back", async () => {
    const host = await sharedHost();
    await host.ask(patch);
    host.flush("nat");
    expect(await host.ask(patch)).toMatchObject({ changed: true, containers: [{ reasons: ["kernel"] }] });
    expect(host.kernel("nat")).toMatch(/^:DOCKER_CONTAINERS - /m);
    expect(host.kernel("nat")).toMatch(/^-A PREROUTING .*-j DOCKER_CONTAINERS$/m);
    expect(host.kernel("nat")).toMatch(/^-A DOCKER_CONTAINERS .*-j DNAT /m);
    expect(host.kernel("nat")).not.toContain("MASQUERADE");
  });

  test.each(["*filter\n-A INPUT -m broken\nCOMMIT\n", "hello\n"])(
    "a stranger's fragment %j stops nothing",
    async (text) => {
      const host = await sharedHost();
      host.write("50_stranger", text);
      expect(await host.ask(patch)).toMatchObject({ changed: true });
      expect(await host.ask({ ...patch, state: "absent" })).toMatchObject({ changed: true });
    },
  );

  test("another container's truncated fragment is named", async () => {
    const host = await sharedHost();
    host.write("11-docker-container_db", "# docker_iptables: db (generated: do not edit)\n*filter\n");
    const { msg } = await host.refuses(patch, "fragment_invalid");
    expect(msg).toContain("11-docker-container_db line 3");
    expect(await host.ask({ ...patch, state: "absent" })).toMatchObject({ changed: false });
  });

  test("the original script's fragment is taken over, and removed", async () => {
    const host = await sharedHost();
    const old = "-A FORWARD -d 172.17.0.7 ! -i lo -o lo -p tcp -m tcp --dport 80 -j ACCEPT";
    host.write("11-docker-container_web", `*filter\n${old}\nCOMMIT\n`);
    await host.boot();
    expect(host.kernel("filter")).toContain(old);
    await host.ask(patch);
    expect(host.kernel("filter")).not.toContain("172.17.0.7");
  });
});

describe.concurrent("the patch fails", () => {
  test("at once: files and kernel are as before", async () => {
    const host = await sharedHost();
    host.on("iptables-restore", "echo 'line 7 failed' >&2; exit 1");
    const { rolled_back } = await host.refuses(patch, "reload_failed");
    expect(rolled_back).toEqual([join(host.iptablesDir, "11-docker-container_web")]);
  });

  test("between two tables: the kernel is looked at again, and the rest is patched", async () => {
    const host = await sharedHost();
    const once = `rm "$FAKE/on-iptables-restore"; sed '/^COMMIT/q' | iptables-restore --noflush; echo 'line 9 failed' >&2; exit 1`;
    host.on("iptables-restore", once);
    expect(await host.ask(patch)).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    for (const table of ["raw", "nat", "filter"]) expect(host.kernel(table)).toContain("docker_iptables: web");
  });

  test("each time because others change the rules in between: that is reported", async () => {
    const host = await sharedHost();
    const stale = `-A DOCKER_CONTAINERS -p tcp --dport $$ -m comment --comment \\"docker_iptables: web\\" -j DNAT --to 172.17.0.7`;
    host.on(
      "iptables-restore",
      `cat > /dev/null; sed -i "s/^COMMIT/${stale}\\nCOMMIT/" "$FAKE/kernel/ipv4/nat"; echo 'line 7 failed' >&2; exit 1`,
    );
    const { msg, error } = await host.ask(patch);
    expect(error, msg).toMatchObject({ code: "concurrent_change" });
    expect(msg).toMatch(/other programs change the kernel's rules at the same time, 3 times in a row; .*line 7 failed/);
  });

  test("for IPv6 after it succeeded for IPv4: both are restored", async () => {
    const host = await sharedHost();
    host.container("web", {
      ports: { "80/tcp": [...PORTS["80/tcp"], { HostIp: "::", HostPort: "8080" }] },
      address6: "fd00::2",
    });
    host.on("ip6tables-restore", "echo 'ip6 boom' >&2; exit 2");
    const before = strangers(host);
    const result = await host.ask({ ...patch, ipv6: true });
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "reload_failed" } });
    expect(result.rolled_back).toContain("the kernel's IPv4 rules");
    expect(strangers(host)).toEqual(before);
    expect(host.kernel("nat")).not.toContain("docker_iptables: ");
    expect(host.fragment("web")).toBeUndefined();
  });

  test("and absent brings nothing back", async () => {
    const host = await sharedHost();
    await host.ask(patch);
    host.on("iptables-restore", "echo boom >&2; exit 1");
    const result = await host.ask({ ...patch, state: "absent" });
    expect(result).toMatchObject({ failed: true, error: { code: "reload_failed" } });
    expect(result).not.toHaveProperty("rolled_back");
    expect(host.fragment("web")).toBeUndefined();
    host.on("iptables-restore", "");
    expect(await host.ask({ ...patch, state: "absent" })).toMatchObject({ changed: true });
    expect(host.kernel("nat")).not.toContain("docker_iptables: ");
  });
});
