// Host names in fragments, with a fake getent: each is resolved once, by us, and has one answer whatever a name server says.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost, readAnswer } from "./host.ts";

const RULE = (source: string) => `*filter\n-A INPUT -s ${source} -j ACCEPT\nCOMMIT\n`;

/** A host whose names have these answers: database and name -> lines. */
function named(answers: Record<string, string[]>): FakeHost {
  const host = fakeHost();
  host.install("getent");
  mkdirSync(join(host.fake, "names"));
  for (const [name, lines] of Object.entries(answers)) answer(host, name, lines);
  return host;
}

function answer(host: FakeHost, name: string, lines: string[]): void {
  writeFileSync(join(host.fake, "names", name), lines.map((line) => `${line}\n`).join(""));
}

async function load(host: FakeHost, ...words: string[]) {
  const flags = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  return readAnswer(await host.run(["load", "--json", ...flags, ...words]));
}

const asked = (host: FakeHost) => host.calls().filter((call) => call.startsWith("getent"));

describe.concurrent("a host name in a fragment", () => {
  test("is asked for once, and its addresses are in one order whatever the answer's", async () => {
    const host = named({ "ahostsv4-two.example": ["192.0.2.9 STREAM two", "192.0.2.9 DGRAM", "192.0.2.10 STREAM"] });
    host.write("05_host", RULE("two.example"));
    host.write("06_host", RULE("two.example/24"));
    expect(await load(host, "ipv4")).toMatchObject({ changed: true, warnings: [] });
    expect(host.kernel("filter")).toContain("-s 192.0.2.10,192.0.2.9 -j ACCEPT");
    expect(host.kernel("filter")).toContain("-s 192.0.2.10/24,192.0.2.9/24 -j ACCEPT");
    expect(asked(host)).toEqual(["getent ahostsv4 two.example"]);
    expect(await load(host, "ipv4")).toMatchObject({ changed: false, warnings: [] });
    expect(await load(host, "ipv4")).toMatchObject({ changed: false, warnings: [] });
  });

  test("has what it had at the last load when it has no answer now", async () => {
    const host = named({ "ahostsv4-one.example": ["192.0.2.9 STREAM one"] });
    host.write("05_host", RULE("one.example"));
    expect(await load(host, "ipv4")).toMatchObject({ changed: true });
    rmSync(join(host.fake, "names/ahostsv4-one.example"));
    expect(await load(host, "ipv4")).toMatchObject({ changed: false, warnings: [] });
    // And when it has another it is loaded.
    answer(host, "ahostsv4-one.example", ["192.0.2.77 STREAM one"]);
    expect(await load(host, "ipv4")).toMatchObject({ changed: true });
    expect(host.kernel("filter")).toContain("-s 192.0.2.77 -j ACCEPT");
  });

  test("is requested before the kernel is read: what is added in between is not lost", async () => {
    const host = named({ "ahostsv4-one.example": ["192.0.2.9 STREAM one"] });
    await load(host, "ipv4");
    host.write("05_host", RULE("one.example"));
    host.calls();
    // After the first attempt, if there is one.
    const looked = 'until grep -q "^iptables-save" "$FAKE/calls"; do sleep 0.01; done; sleep 0.2';
    const came = `sed -i 's/^COMMIT/-A INPUT -s 192.0.2.66 -j DROP\\nCOMMIT/' "$FAKE/kernel/ipv4/filter"`;
    host.on("getent", `${looked}; ${came}`);
    expect(await load(host, "ipv4", "--keep-undeclared")).toMatchObject({ changed: true });
    expect(host.kernel("filter")).toContain("192.0.2.9 ");
    expect(host.kernel("filter")).toContain("192.0.2.66 ");
  });

  test("without any answer refuses the load over live rules, with its line", async () => {
    const host = named({});
    expect(await load(host, "ipv4")).toMatchObject({ changed: true });
    const before = host.kernel("filter");
    host.write("05_host", RULE("no.where"));
    const refused = await load(host, "ipv4");
    expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "fragment_invalid", line: 2 } });
    expect(refused.msg).toMatch(/05_host line 2: .*the host name no\.where does not resolve.*give an address/);
    expect(host.kernel("filter")).toBe(before);
  });

  test("of a family without addresses is refused in that one", async () => {
    const host = named({
      "ahostsv4-four.example": ["192.0.2.4 STREAM four"],
      "ahostsv6-four.example": ["::ffff:192.0.2.4 STREAM four"],
    });
    host.write("05_host", RULE("four.example"));
    host.write("05_host", RULE("four.example"), host.ip6tablesDir);
    expect(await load(host, "ipv4")).toMatchObject({ changed: true });
    expect((await load(host, "ipv6")).msg).toMatch(/four\.example does not resolve/);
    answer(host, "ahostsv6-four.example", ["2001:db8::4 STREAM four"]);
    expect(await load(host, "ipv6")).toMatchObject({ changed: true });
    expect(host.kernel("filter", "ipv6")).toContain("-s 2001:db8::4 -j ACCEPT");
  });

  test("of /etc/networks has the network's address", async () => {
    const host = named({ "networks-lan": ["lan                   10.1.0.0"] });
    host.write("05_host", RULE("lan/16"));
    expect(await load(host, "ipv4")).toMatchObject({ changed: true });
    expect(host.kernel("filter")).toContain("-s 10.1.0.0/16 -j ACCEPT");
  });

  test("that is not answered keeps no other from its answer", async () => {
    const silent = Array.from({ length: 12 }, (_, at) => `silent${at}.example`);
    const host = named(
      Object.fromEntries([
        ...silent.map((name) => [`ahostsv4-${name}`, ["silent"]]),
        ["ahostsv4-one.example", ["192.0.2.1 STREAM"]],
      ]),
    );
    host.write("05_host", [...silent, "one.example"].map(RULE).join(""));
    const refused = await load(host, "ipv4", "--timeout", "60");
    expect(asked(host)).toContain("getent ahostsv4 one.example");
    expect(refused.msg).toMatch(/05_host line 2: .*silent0\.example does not resolve/);
    host.write("05_host", RULE("one.example"));
    // A machine that has much to do may not have answered within the seconds that names have.
    let one = await load(host, "ipv4");
    for (let tries = 10; one.failed && tries > 0; tries--) one = await load(host, "ipv4");
    expect(one.failed, one.msg).toBeUndefined();
    expect(host.kernel("filter")).toContain("-s 192.0.2.1 -j ACCEPT");
  });

  test("that does not resolve at a boot costs its own rule, and the next load brings it in", async () => {
    const host = named({ "ahostsv4-one.example": ["192.0.2.1 STREAM"] });
    host.write(
      "05_host",
      `*filter\n:INPUT DROP [0:0]\n-A INPUT ! -s no.where -p tcp --dport 22 -j DROP\n-A INPUT --sourc one.example,no.where -j ACCEPT\n-A INPUT -s no.where -j ACCEPT\nCOMMIT\n`,
    );
    const boot = await load(host, "ipv4");
    expect(boot).toMatchObject({ failed: true, changed: true, error: { code: "fragment_invalid" } });
    const rules = host.kernel("filter");
    expect(rules).toContain(":INPUT DROP");
    expect(rules).toContain("-A INPUT -p tcp --dport 22 -j DROP");
    expect(rules).toContain("-A INPUT -s 192.0.2.1 -j ACCEPT");
    expect(rules).not.toContain("no.where");
    answer(host, "ahostsv4-no.where", ["192.0.2.2 STREAM"]);
    expect(await load(host, "ipv4")).toMatchObject({ changed: true, warnings: [] });
    expect(host.kernel("filter")).toMatch(/! -s 192\.0\.2\.2 .* -j DROP/);
    const kept = join(host.iptablesDir, ".docker_iptables/ipv4.names");
    expect(existsSync(kept) && JSON.parse(readFileSync(kept, "utf8"))).toEqual({
      "no.where": ["192.0.2.2"],
      "one.example": ["192.0.2.1"],
    });
  });
});
