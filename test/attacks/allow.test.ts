// Who may connect, as a hostile or careless hand writes it: sources and keys that mean something to a shell, to iptables, to JavaScript
// or to nobody. An argument is refused and nothing is changed; a label, which an image may bring, closes its container and no other.

import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost } from "../program/host.ts";

const port = (HostPort: string) => ({
  "80/tcp": [
    { HostIp: "0.0.0.0", HostPort },
    { HostIp: "::", HostPort },
  ],
});

/** web and db run, and nothing is said of who may connect. */
async function host(labels: Record<string, string> = {}): Promise<FakeHost> {
  const made = fakeHost();
  made.container("web", { ports: port("8080") });
  made.container("db", { ports: port("5432"), address: "172.17.0.3" });
  made.document("web", { ...JSON.parse(made.documentOf("web")), Config: { Labels: labels } });
  await made.boot();
  return made;
}

const SOURCES = [
  ...[
    "10.0.0.1;reboot",
    "$(reboot)",
    "`id`",
    "10.0.0.1 -j ACCEPT",
    "10.0.0.1\n-A FORWARD -j ACCEPT",
    "\n*filter\nCOMMIT",
  ],
  ...["-j", "--", "-A", "!eth0", "! 10.0.0.1", "*", "+", "eth+", "eth0+", "-i+"],
  ...[
    "eth0.5",
    "eth0:1",
    "eth0@if5",
    "a".repeat(16),
    "é",
    "eth0\0",
    "../eth0",
    "a/b",
    "%s",
    "0x0a.0.0.1",
    "010.0.0.1",
    "1.2.3",
    "1",
  ],
  ...[
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/",
    "10.0.0.0/255.0.0.0",
    "10.0.0.0/8/8",
    "::/129",
    "0.0.0.0/0x0",
    "10.0.0.1-10.0.0.9",
  ],
  ...[
    "::ffff:1.2.3.4",
    "::ffff:0:0/96",
    "fe80::1%eth0",
    "fe80::1%eth0/64",
    "fe80::%+/10",
    "[::1]",
    "٣.0.0.1",
    "１0.0.0.1",
    "10.0.0.0/８",
  ],
  ...[
    "example.org",
    "@",
    "@nobody",
    "@__proto__",
    "@constructor",
    "@office\n",
    "\u202e10.0.0.1",
    "\u001b[2J",
    "x".repeat(100_000),
  ],
];

const KEYS = [
  ...[
    "__proto__",
    "constructor",
    "toString",
    "",
    "-",
    "--",
    "-j",
    "80;reboot",
    "$(id)",
    "8080\n",
    "8080\n-A FORWARD -j ACCEPT",
    "8080 ",
  ],
  ...[
    "*/tcp",
    "**",
    "+",
    "0",
    "65536",
    "8080-",
    "8081-8080",
    "8080/icmp",
    "8080/tcp/udp",
    "８０８０",
    "٨٠٨٠",
    "0x1f90",
    "8e3",
    "-8080",
    "8080,81",
  ],
  ...[
    "0.0.0.0:8080",
    "[::]:8080",
    "[::ffff:192.0.2.1]:8080",
    "[fe80::1%eth0]:8080",
    "::1:8080",
    "192.0.2.0/24:8080",
    "1.2.3:8080",
  ],
  ...["example.org:8080", "9".repeat(100_000), "\u001b]0;x\u0007"],
];

/** For a person, and no longer than one reads. */
function expectClear(text: string): void {
  expect(text).not.toMatch(/\p{C}/u);
  expect(text.length).toBeLessThan(1000);
}

const excerpt = (text: string) => JSON.stringify(text.slice(0, 40));
const named = (all: readonly string[]) => all.map((one) => [excerpt(one), one] as const);

describe("an argument is refused, and nothing is changed", () => {
  test.each(named(SOURCES))("the source %s", async (_name, source) => {
    const { msg } = await (await host()).refuses(
      { container: "web", allow: { "8080": ["10.0.0.0/8", source] } },
      "arguments_invalid",
    );
    expect(msg).toMatch(/which is no (source|group): /);
    expectClear(msg);
  });

  test.each(named(KEYS))("the key %s", async (_name, key) => {
    const allow = Object.fromEntries([
      ["8080", ["10.0.0.0/8"]],
      [key, []],
    ]);
    const { msg } = await (await host()).refuses({ container: "web", allow }, "arguments_invalid");
    expect(msg).toMatch(/names no ports: /);
    expectClear(msg);
  });

  test.each<[name: string, allow: unknown]>([
    ["a number", 7],
    ["a list", [["8080"]]],
    ["a list of one object", { "8080": [{ a: 1 }] }],
    ["an object for a list", { "8080": { toString: "10.0.0.1" } }],
    ["text that is no JSON", "8080=10.0.0.1"],
  ])("%s", async (_name, allow) => {
    expectClear((await (await host()).refuses({ container: "web", allow }, "arguments_invalid")).msg);
  });
});

describe("a label closes its container to all other machines, and says so; db is published as ever", () => {
  // A label is a line of words between commas, and a word is what is not blank.
  const sources = SOURCES.filter((one) => one.trim() === one && !one.includes("\0"));
  const broken = [
    ...sources.map((one) => ["docker_iptables.allow.8080", `10.0.0.0/8,${one}`] as const),
    ...KEYS.map((one) => [`docker_iptables.allow.${one}`, "0.0.0.0/0,::/0"] as const),
    ["docker_iptables.allow", "eth0.5"] as const,
  ];

  /** In one run each: a container whose labels hold one such line, all of them beside db. */
  test("one after the other", async () => {
    const made = fakeHost();
    made.container("db", { ports: port("5432"), address: "172.17.0.3" });
    for (const [index, [label, value]] of broken.entries()) {
      const name = `c${index}`;
      made.container(name, { ports: port(`${20_000 + index}`), address: `172.17.1.${index + 1}` });
      // What is said besides cannot open it.
      const Labels = Object.fromEntries([
        ["docker_iptables.allow.20000-30000/tcp", "0.0.0.0/0,::/0"],
        [label, value],
      ]);
      made.document(name, { ...JSON.parse(made.documentOf(name)), Config: { Labels } });
    }
    await made.boot();
    const result = await made.ask({ all: true, reload: "restore" });
    expect(result.failed, result.msg).toBeUndefined();
    const chains = new Map<string, string[]>();
    for (const [, chain = "", rule = ""] of made.kernel("mangle").matchAll(/^-A (ALLOW-\S+) (.*)$/gm))
      chains.set(chain, [...(chains.get(chain) ?? []), rule.replace(/-m comment --comment "[^"]*" /, "")]);
    for (const index of broken.keys()) {
      const told = result.warnings.filter((one) =>
        one.startsWith(`c${index}: all ports are closed to other machines: `),
      );
      expect(told, broken[index]?.join("=").slice(0, 80)).toHaveLength(1);
      expectClear(told.join(""));
      const lines = made
        .kernel("mangle")
        .split("\n")
        .filter((line) => line.includes(`"docker_iptables: c${index}"`));
      const jumps = lines.flatMap((line) => /^-A (?:FORWARD|INPUT) .* -j (ALLOW-\S+)$/.exec(line)?.[1] ?? []);
      expect(jumps).toHaveLength(2);
      for (const jump of jumps) expect(chains.get(jump)).toEqual(["-i lo -j RETURN", "-j DROP"]);
      expect(made.kernel("mangle", "ipv6")).toContain(`--dport ${20_000 + index} `);
    }
    expect(made.kernel("mangle")).not.toContain("docker_iptables: db");
    expect(made.kernel("nat")).toContain("172.17.0.3:80");
  });
});

describe("what is odd, and good", () => {
  test.each<[source: string, written: string[]]>([
    ["0.0.0.0/1", ["-s 0.0.0.0/1"]],
    ["10.1.2.3/8", ["-s 10.0.0.0/8"]],
    ["COMMIT", ["-i COMMIT"]],
    ["lo", []],
    ["::/0", []],
  ])("%s", async (source, written) => {
    const made = await host();
    const result = await made.ask({ container: "web", allow: { "*": [source] }, reload: "restore" });
    expect(result.failed, result.msg).toBeUndefined();
    const returns = made.kernel("mangle").matchAll(/^-A ALLOW-\S+ (.*?) -m comment .* -j RETURN$/gm);
    expect([...returns].map(([, match]) => match)).toEqual(["-i lo", ...written]);
  });

  test("ten thousand sources, and each port of the host a key", async () => {
    const made = await host();
    const sources = Array.from({ length: 10_000 }, (_, index) => `10.${index >> 8}.${index & 255}.1`);
    const keys = Array.from({ length: 65_535 }, (_, index) => [`${index + 1}/udp`, []] as const);
    const allow = { "8080": sources };
    const result = await made.ask({ container: "web", allow, reload: "restore" });
    expect(result.failed, result.msg).toBeUndefined();
    expect(made.kernel("mangle").match(/-j RETURN$/gm)).toHaveLength(10_001);
    expect(await made.ask({ container: "web", allow, reload: "restore" })).toMatchObject({ changed: false });
    const many = { ...allow, ...Object.fromEntries(keys) };
    expectClear((await made.refuses({ container: "web", allow: many }, "arguments_invalid")).msg);
  });
});
