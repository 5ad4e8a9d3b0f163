// Foreign rules and ours on a fake host: a load would remove them, so only ours are replaced, unless a load is requested. What a
// fragment declared in this boot is never foreign.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost, readAnswer } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const OWN = (...sources: string[]) =>
  `*filter\n${sources.map((source) => `-A INPUT -s ${source}/32 -j DROP\n`).join("")}COMMIT\n`;
const UFWS = ["-A INPUT -j ufw-user-input", "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT"];
const TOLD =
  /IPv4 rules are live that no fragment declares \('-A INPUT -j ufw-user-input', .* ufw\): a load would remove them/;

let address = 2;
/** web runs anew, at another address. */
function moveWeb(host: FakeHost): void {
  address = (address % 200) + 1;
  host.container("web", { ports: PORTS, address: `172.17.0.${address + 2}` });
}

/** A host that has loaded its fragments; then another program adds rules. */
async function besideHost(strange: readonly string[] = UFWS): Promise<FakeHost> {
  const host = fakeHost();
  host.write("05_own", OWN("192.0.2.7", "192.0.2.8"));
  moveWeb(host);
  await host.boot();
  expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true, warnings: [] });
  if (strange.length > 0) add(host, ":ufw-user-input - [0:0]", ...strange);
  moveWeb(host);
  return host;
}

function add(host: FakeHost, ...lines: string[]): void {
  const [chains, rules] = [lines.filter((line) => line.startsWith(":")), lines.filter((line) => line.startsWith("-"))];
  const text = host.kernel("filter").replace("*filter\n", ["*filter", ...chains, ""].join("\n"));
  host.setKernel("filter", text.replace("COMMIT\n", [...rules, "COMMIT", ""].join("\n")));
}

const linesOf = (host: FakeHost) => host.kernel("filter").split("\n");

async function load(host: FakeHost, ...flags: string[]) {
  const directories = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  return readAnswer(await host.run(["load", ...directories, "--timeout", "120", "--json", ...flags]));
}

describe.concurrent.each(["restore", "systemd"])("reload: %s", (reload) => {
  const web = { container: "web", reload };

  test("replaces only our rules, says what it did, and warns once, until it changes", async () => {
    const host = await besideHost();
    const before = host.state();
    const foretold = await host.ask({ ...web, _ansible_check_mode: true });
    expect(foretold).toMatchObject({ changed: true, reloaded: [], warnings: [expect.stringMatching(TOLD)] });
    expect(host.state()).toEqual(before);
    host.calls();
    const done = await host.ask(web);
    expect(done).toMatchObject({ changed: true, reloaded: ["iptables-restore"], warnings: foretold.warnings });
    expect(host.calls().filter((call) => /^iptables-restore --wait|restart|reload/.test(call))).toEqual([
      "iptables-restore --wait 120 --noflush",
    ]);
    expect(linesOf(host)).toEqual(expect.arrayContaining(UFWS));
    expect(host.kernel("nat")).toContain(`--to-destination 172.17.0.`);
    expect(await host.ask(web)).toMatchObject({ changed: false, reloaded: [], warnings: [] });

    moveWeb(host);
    expect(await host.ask(web)).toMatchObject({ changed: true, warnings: [] });
    add(host, "-A ufw-user-input -p tcp -m tcp --dport 23 -j ACCEPT");
    moveWeb(host);
    expect(await host.ask(web)).toMatchObject({ changed: true, warnings: [expect.stringMatching(TOLD)] });
  });

  test("a line that is deleted from a fragment is removed", async () => {
    const host = await besideHost();
    host.write("05_own", OWN("192.0.2.7"));
    expect(await host.ask(web)).toMatchObject({ changed: true });
    const lines = linesOf(host);
    expect(lines).toEqual(expect.arrayContaining([...UFWS, "-A INPUT -s 192.0.2.7/32 -j DROP"]));
    expect(lines.join()).not.toContain("192.0.2.8");
  });

  test("a new line is not loaded, and reported; the one that it was before stays until then", async () => {
    const host = await besideHost();
    host.write("05_own", OWN("192.0.2.7", "192.0.2.9"));
    const { warnings } = await host.ask(web);
    expect(warnings.join()).toContain(`and the changes in ${join(host.iptablesDir, "05_own")} were not loaded`);
    const lines = linesOf(host);
    expect(lines).toEqual(
      expect.arrayContaining([...UFWS, ...[7, 8].map((n) => `-A INPUT -s 192.0.2.${n}/32 -j DROP`)]),
    );
    expect(lines.join()).not.toContain("192.0.2.9");
  });

  test("where a fragment is broken nothing passes for deleted, however the others are written", async () => {
    const host = await besideHost();
    host.write("05_own", "*filter\n-s 192.0.2.7,192.0.2.8 -j DROP --append INPUT\nCOMMIT\n");
    host.write("30_bad", "*filter\n-A INPUT -j broken\nCOMMIT\n");
    expect(await host.ask(web)).toMatchObject({ changed: true });
    expect(linesOf(host)).toEqual(
      expect.arrayContaining([...UFWS, ...[7, 8].map((n) => `-A INPUT -s 192.0.2.${n}/32 -j DROP`)]),
    );
  });

  test("absent removes our rules, and no others", async () => {
    const host = await besideHost();
    expect(await host.ask({ ...web, state: "absent" })).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(linesOf(host)).toEqual(expect.arrayContaining([...UFWS, "-A INPUT -s 192.0.2.8/32 -j DROP"]));
    expect(host.kernel("nat") + host.kernel("filter")).not.toContain("docker_iptables: web");
  });
});

test.each(["restore", "systemd"])(
  "reload: %s: rules that come while it waits for its turn are not lost",
  async (reload) => {
    const host = await besideHost([]);
    // Before the second read, on which the load is based.
    const came = `sed -i 's/^COMMIT/-A INPUT -s 192.0.2.66 -j DROP\\nCOMMIT/' "$FAKE/kernel/ipv4/filter"`;
    host.on("iptables-save", `echo >> "$FAKE/looks"; [ "$(wc -l < "$FAKE/looks")" != 2 ] || ${came}`);
    const done = await host.ask({ container: "web", reload });
    expect(done, done.msg).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    expect(done.warnings).toEqual([expect.stringContaining("192.0.2.66")]);
    expect(host.kernel("filter")).toContain("192.0.2.66");
    expect(host.kernel("filter")).toContain("docker_iptables: web");
  },
);

const web = { container: "web", reload: "restore" };

describe.concurrent("the record of this boot", () => {
  test("a line that was deleted is its owner's deletion, and stops no load", async () => {
    const host = await besideHost([]);
    host.write("05_own", OWN("192.0.2.7"));
    expect(await host.ask(web)).toMatchObject({ changed: true, warnings: [] });
    expect(linesOf(host)).toContain("-A INPUT -s 192.0.2.7/32 -j DROP");
    expect(host.kernel("filter")).not.toContain("192.0.2.8");
  });

  test.each<[string, (text: string) => string | undefined]>([
    ["missing", () => undefined],
    ["empty", () => ""],
    ["garbled", (text) => text.replace(/^.*\n/, "# {\n")],
    ["of another boot", (text) => text.replace(/"boot":"[^"]*"/, '"boot":"00000000-0000-4000-8000-000000000000"')],
    ["of another network namespace", (text) => text.replace(/"namespace":"[^"]*"/, '"namespace":"net:[1]"')],
    ["of another iptables", (text) => text.replace(/"iptables":"[^"]*"/, '"iptables":"v1.8.7 (legacy)"')],
  ])("%s: what no fragment declares is somebody else's, stays, and is told", async (_, change) => {
    const host = await besideHost();
    host.write("05_own", OWN("192.0.2.7"));
    const path = join(host.iptablesDir, ".docker_iptables/ipv4.left");
    const text = change(readFileSync(path, "utf8"));
    if (text === undefined) rmSync(path);
    else writeFileSync(path, text);
    const { warnings, ...done } = await host.ask(web);
    expect(done, done.msg).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    expect(warnings).toEqual([expect.stringContaining("192.0.2.8")]);
    expect(linesOf(host)).toEqual(expect.arrayContaining([...UFWS, "-A INPUT -s 192.0.2.8/32 -j DROP"]));
    moveWeb(host);
    expect(await host.ask(web)).toMatchObject({ changed: true, warnings: [] });
  });
});

describe.concurrent("load", () => {
  test("replaces them on purpose, and says which go", async () => {
    const host = await besideHost();
    expect((await load(host, "ipv4", "--check")).warnings).toEqual([expect.stringContaining("ufw-user-input")]);
    const done = await load(host, "ipv4");
    expect(done).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    expect(done.warnings).toEqual([
      expect.stringMatching(/not in any fragment were removed: '-A INPUT -j ufw-user-input'/),
    ]);
    expect(host.kernel("filter")).not.toContain("ufw");
    moveWeb(host);
    expect(await host.ask(web)).toMatchObject({ changed: true, warnings: [] });
  });

  test("as a service starts, it keeps them beside all fragments, however often; what was deleted is removed", async () => {
    const host = fakeHost();
    host.write("05_own", OWN("192.0.2.7"));
    const strange = ["*filter", ":INPUT DROP [0:0]", ":ufw-user-input - [0:0]", ...UFWS, "COMMIT", ""].join("\n");
    host.setKernel("filter", strange);
    const first = await load(host, "ipv4", "--keep-undeclared");
    expect(first).toMatchObject({
      changed: true,
      warnings: [expect.stringMatching(/not in any fragment stay: .*ufw-user-input/)],
    });
    const own = "-A INPUT -s 192.0.2.7/32 -j DROP";
    expect(linesOf(host)).toEqual(expect.arrayContaining([...UFWS, ":INPUT DROP [0:0]", own]));
    expect(await load(host, "ipv4", "--keep-undeclared")).toMatchObject({ changed: false, warnings: first.warnings });
    // For a boot that falls back to what last ran they are nothing.
    expect(readFileSync(join(host.iptablesDir, ".docker_iptables/ipv4.rules"), "utf8")).not.toContain("ufw");

    host.write("05_own", OWN("192.0.2.9"));
    expect(await load(host, "ipv4", "--keep-undeclared")).toMatchObject({ changed: true });
    expect(linesOf(host)).toEqual(expect.arrayContaining([...UFWS, "-A INPUT -s 192.0.2.9/32 -j DROP"]));
    expect(linesOf(host)).not.toContain(own);
  });

  test("where it fails, all that can be loaded is loaded beside them", async () => {
    const host = fakeHost();
    host.write("05_own", OWN("192.0.2.7"));
    host.write("20_bad", "*filter\n-A INPUT -j broken\nCOMMIT\n");
    host.setKernel(
      "filter",
      ["*filter", ":INPUT DROP [0:0]", ":ufw-user-input - [0:0]", ...UFWS, "COMMIT", ""].join("\n"),
    );
    const failed = await load(host);
    expect(failed).toMatchObject({ failed: true, error: { left_out: [{ rule: "-A INPUT -j broken" }] } });
    const lines = linesOf(host);
    expect(lines).toEqual(expect.arrayContaining([...UFWS, ":INPUT DROP [0:0]", "-A INPUT -s 192.0.2.7/32 -j DROP"]));
    expect(host.kernel("nat")).toContain("DOCKER_CONTAINERS");
    // Once everything can be loaded, they still are foreign.
    host.write("20_bad", OWN("192.0.2.20"));
    host.container("web", { ports: PORTS });
    expect((await host.ask(web)).warnings.join()).toMatch(TOLD);
    expect(linesOf(host)).toEqual(expect.arrayContaining(UFWS));
  });
});
