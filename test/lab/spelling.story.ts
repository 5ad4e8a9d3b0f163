/*
 * What fragments say is compared as iptables itself prints it: rules in every spelling are loaded once, and are then unchanged and
 * declared; a rule that a person adds is found, and one that is deleted from a fragment is removed.
 */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect } from "vitest";
import { readMark } from "../../src/iptables/line-marks.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import type { Host } from "./host.ts";
import { BACKENDS, type Backend, printedOf, printSpellings, readSpellings, textOf } from "./spellings.ts";
import { story, storyWith } from "./story.ts";

const DIRECTORIES: Record<Family, string> = { ipv4: "/etc/iptables.d", ipv6: "/etc/ip6tables.d" };

/** Say in /run/started what the executable starts of these. */
const SPIES = Object.fromEntries(
  ["unshare", "iptables-restore", "ip6tables-restore"].map((name) => [
    `/opt/spies/${name}`,
    `#!/bin/sh\necho ${name} >> /run/started\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec ${name} "$@"\n`,
  ]),
);

/** One run, and what it started of the spies' programs. */
async function run(host: Host, ...args: string[]) {
  const script = 'rm -f /run/started; PATH=/opt/spies:$PATH docker_iptables "$@" --json; cat /run/started >&2';
  const { stdout, stderr } = await host.run("sh", ["-c", script, "sh", ...args], { check: false });
  return { ...JSON.parse(stdout), started: stderr.split("\n").filter((line) => /^\S+$/.test(line)) };
}

const UNCHANGED = { changed: false, msg: "the rules are loaded already", warnings: [], started: [] };

/** The rules that run, and chains and policies. */
async function rulesOf(host: Host, command = "iptables-save"): Promise<string> {
  return withoutCounters((await host.run(command)).stdout);
}

function withoutCounters(saved: string): string {
  return saved.replaceAll(/^#.*\n| \[\d+:\d+\]$/gm, "");
}

/** The table as fragments, a rule each, but for what counts on the rules before it. */
function tableFiles(backend: Backend): Record<string, string> {
  const files: Record<string, string> = {};
  for (const family of FAMILIES) {
    for (const [at, one] of readSpellings().entries()) {
      const text = textOf(one);
      if (printedOf(one, family, backend) === "refused" || /^-[DI] \S+ \d|^--insert \S+ \d/m.test(text)) continue;
      // A set is of one family.
      const named = family === "ipv4" ? text : text.replace(/-set (?<set>\w+)/g, "-set $<set>6");
      files[`${DIRECTORIES[family]}/${String(at).padStart(3, "0")}`] = named;
    }
  }
  return files;
}

describe.each(BACKENDS)("the table of spellings on iptables-%s", (backend) => {
  storyWith({ packages: ["ipset"] })("is what is printed, and each rule is loaded once", async ({ lab }) => {
    // With ::1 there, too, which is usual, glibc has two addresses of localhost, and iptables two rules.
    const files = { ...SPIES, ...tableFiles(backend), "/etc/hosts": "127.0.0.1 localhost\n" };
    const host = await lab.host({ name: "web1", backend, files, docker: { atBoot: false } });
    const spellings = readSpellings();
    for (const family of FAMILIES) {
      const printed = await printSpellings(host, family, backend, spellings);
      const expected = spellings.map((one) => printedOf(one, family, backend));
      // The table is of 1.8.9; newer ones have fewer names of protocols (1.8.11, tried).
      const isNumber = printed.flat().some((line) => line.includes(" -p 47 "));
      expect(printed).toEqual(
        isNumber ? JSON.parse(JSON.stringify(expected).replaceAll(" -p gre ", " -p 47 ")) : expected,
      );
    }
    const make = 'ipset create $one hash:ip timeout 0; ipset create "$one"6 hash:ip family inet6 timeout 0';
    await host.run("sh", ["-ec", `for one in allowed banned seen; do ${make}; done`]);
    const first = await run(host, "load");
    expect(first, first.msg).toMatchObject({ changed: true, warnings: [], msg: "IPv4 and IPv6 rules loaded" });
    const rules = await rulesOf(host);
    expect(rules.match(/^-A/gm)?.length).toBeGreaterThan(200);
    expect(await run(host, "load")).toMatchObject(UNCHANGED);
    expect(await rulesOf(host)).toBe(rules);

    // What a person adds, and what he deletes from a file.
    await host.run("iptables", ["-A", "INPUT", "-p", "tcp", "--dport", "2222", "-j", "ACCEPT"]);
    const replaced = await run(host, "load");
    expect(replaced.warnings).toEqual([
      expect.stringMatching(/were removed: '-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT'$/),
    ]);
    expect(await rulesOf(host)).toBe(rules);
    await host.run("rm", [`${DIRECTORIES.ipv4}/000`]);
    expect(await run(host, "load")).toMatchObject({ changed: true, warnings: [] });
    expect(rules.split("\n").length - (await rulesOf(host)).split("\n").length).toBe(1);
  });
});

const MATCHES = [
  ...[
    "",
    "-i lo",
    "! -i eth0",
    "-s 10.1.2.3/8",
    "-s 192.0.2.1,192.0.2.7",
    "! -d 192.0.2.0/255.255.255.0",
    "--src 192.0.2.9",
  ],
  ...[
    "-m state --state RELATED,NEW",
    "-m conntrack ! --ctstate INVALID",
    "-m limit --limit 60/minute",
    "-m mark --mark 010",
  ],
  ...[
    '-m comment --comment "it\'s \\"so\\""',
    "-m comment --comment -j",
    "-m addrtype --dst-type local",
    "-m pkttype --pkt-type bcast",
  ],
  ...[
    "-m recent --name r --rcheck",
    "-m iprange --src-range 192.0.2.3-192.0.2.5",
    "-m mac --mac-source 02:0A:0:0:0:1",
    "-c 3 4",
  ],
  ...[
    "-m length --length :99",
    "-m time --timestart 8:00 --weekdays 6,7",
    "-m u32 --u32 0>>22&0x3C@0=8",
    "-m ttl --ttl-lt 5",
  ],
];
const PROTOCOLS = [
  ...[
    "",
    "",
    "-p TCP --dport ssh",
    "-p 6 -m tcp ! --syn",
    "-p icmp --icmp-type ping",
    "-p udp -m multiport --dports domain,ntp",
  ],
  ...["-p all", "! -p 17", "-p tcp --tcp-flags ALL SYN,FIN", "--proto sctp --sport 5:"],
];
const TARGETS = [
  "-j ACCEPT",
  "--jump DROP",
  "-j REJECT",
  "-j LOG --log-level info",
  "-j NFLOG",
  "",
  "-j ONE",
  "-g ONE",
  "-j RETURN",
];

const drawn = fc.record({
  chain: fc.constantFrom("INPUT", "INPUT", "FORWARD", "ONE"),
  matches: fc.uniqueArray(fc.constantFrom(...MATCHES), {
    maxLength: 3,
    selector: (match) => match.split(" ").find((word) => /^-/.test(word)),
  }),
  protocol: fc.constantFrom(...PROTOCOLS),
  target: fc.constantFrom(...TARGETS),
  place: fc.constantFrom("append", "append", "insert", "number"),
  counted: fc.boolean(),
  times: fc.constantFrom(1, 1, 1, 2),
  /** Whether a new fragment begins here. */
  cut: fc.boolean(),
});
type Drawn = typeof drawn extends fc.Arbitrary<infer T> ? T : never;

/** The rules of each fragment. */
function fragmentsOf(rules: readonly Drawn[]): string[][] {
  const fragments: string[][] = [[]];
  const lengths = new Map<string, number>();
  for (const { chain, matches, protocol, target, place, counted, times, cut } of rules) {
    if (cut) fragments.push([]);
    const known = lengths.get(chain) ?? 0;
    const command = {
      append: `-A ${chain}`,
      insert: `--insert ${chain}`,
      number: `-I ${chain} ${Math.ceil((known + 1) / 2)}`,
    };
    const end = chain === "ONE" && target.endsWith("ONE") ? "-j DROP" : target;
    const names = new Set(
      matches.map((match) =>
        match
          .split(" ")
          .filter((word) => /^-[sdc]$|^--src$/.test(word))
          .join(),
      ),
    );
    const kept =
      names.has("-s") && names.has("--src") ? matches.filter((match) => !match.startsWith("--src")) : matches;
    const line = [counted ? "[7:8]" : "", command[place as keyof typeof command], protocol, ...kept, end]
      .filter(Boolean)
      .join(" ");
    for (let time = 0; time < times; time++) fragments.at(-1)?.push(line);
    // A list of addresses is as many rules.
    lengths.set(chain, known + times * (line.includes(",192.0.2.7") ? 2 : 1));
  }
  return fragments;
}

/**
 * In a namespace: loads the fragments twice, checks while a rule is there that a person added, and loads once more without the last
 * rule of `changed`. In another one iptables alone loads the same.
 */
async function liveThrough(host: Host, fragments: readonly string[][], changed: number) {
  const text = (rules: readonly string[]) => ["*filter", ":ONE - [0:0]", ...rules, "COMMIT", ""].join("\n");
  const without = (at: number) => (at === changed ? (fragments[at] ?? []).slice(0, -1) : (fragments[at] ?? []));
  const file = (path: string, content: string) => `cat > ${path} <<'END OF FILE'\n${content}END OF FILE\n`;
  const load = "docker_iptables load ipv4 --json --iptables-dir /run/case/d";
  const input = `set -e; rm -rf /run/case; mkdir -p /run/case/d
${fragments.map((rules, at) => file(`/run/case/d/${10 + at}`, text(rules))).join("")}
${file("/run/case/changed", text(without(changed)))}
${file("/run/case/oracle", text(fragments.flat()))}
${file("/run/case/later", text(fragments.flatMap((_, at) => without(at))))}
unshare --net sh -s <<'SCRIPT'
${load}; iptables-save | tr '\\n' '\\r'; echo
${load}
iptables -A INPUT -m mark --mark 77 -j DROP; ${load} --check; iptables -D INPUT -m mark --mark 77 -j DROP
mv /run/case/changed /run/case/d/${10 + changed}
${load}; iptables-save | tr '\\n' '\\r'; echo
SCRIPT
for text in oracle later; do unshare --net sh -c 'iptables-restore < $1 && iptables-save | tr "\\n" "\\r"; echo' sh /run/case/$text; done
`;
  const { stdout, stderr } = await host.run("sh", ["-s"], { input, check: false });
  const [first = "", rules = "", second = "", byHand = "", third = "", left = "", oracle = "", later = ""] =
    stdout.split("\n");
  const read = (answer: string) => (answer.startsWith("{") ? JSON.parse(answer) : { msg: `${answer}\n${stderr}` });
  const saved = (one: string) =>
    withoutCounters(one.replaceAll("\r", "\n")).replaceAll(/^\*(?!filter)\w+\n(:\w+ ACCEPT\n)*COMMIT\n/gm, "");
  return {
    ...{ first: read(first), second: read(second), byHand: read(byHand), third: read(third) },
    ...{ rules: saved(rules), left: saved(left), oracle: saved(oracle), later: saved(later) },
  };
}

describe.each(BACKENDS)("any rules that iptables-%s takes", (backend) => {
  story("are unchanged once they are loaded, and whose a rule is is known", async ({ lab }) => {
    const host = await lab.host({ name: "web1", backend, docker: { atBoot: false } });
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(drawn, { minLength: 1, maxLength: 12 }), fc.nat(), async (rules, number) => {
        const fragments = fragmentsOf(rules);
        const all = await liveThrough(host, fragments, number % fragments.length);
        if (!all.oracle.includes("*filter"))
          return expect(all.first).toMatchObject({ error: { code: "fragment_invalid" } });
        taken++;
        expect(all.first, all.first.msg).toMatchObject({ changed: true, warnings: [] });
        expect(all.rules).toBe(all.oracle);
        expect(all.second).toMatchObject({ changed: false, warnings: [] });
        expect(all.byHand.warnings).toEqual([
          expect.stringContaining("would be removed: '-A INPUT -m mark --mark 0x4d -j DROP'"),
        ]);
        // The number of a later insertion may be none any more.
        if (!all.later.includes("*filter")) return;
        expect(all.third, all.third.msg).toMatchObject({ warnings: [] });
        expect(all.left).toBe(all.later);
      }),
      { seed: 14, numRuns: 15 },
    );
    expect(taken).toBeGreaterThan(8);
  });
});

const REAL = ["fail2ban", "ufw-before", "mss-clamp", "kubernetes", "everyday"];

/** What stopped setup once, and was adopted before the ban. */
const EVERYDAY = `*filter
:INPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
[12:345] -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -s 192.0.2.0/29 -j DROP
-A INPUT -p tcp --dport ssh -j ACCEPT
COMMIT
`;

function real(name: string): string {
  if (name === "everyday") return EVERYDAY;
  return readFileSync(new URL(`../fragments/real/${name}.rules`, import.meta.url), "utf8");
}

describe.each(BACKENDS)("real rule files on iptables-%s", (backend) => {
  story("are loaded once, do not stop setup, and the deleted rule is removed", async ({ lab }) => {
    const host = await lab.host({ name: "web1", backend, files: SPIES });
    for (const name of REAL) {
      await host.write("/etc/iptables.d/05_host", real(name));
      await host.run("mkdir", ["-p", "/etc/ip6tables.d"]);
      const first = await run(host, "load", "ipv4");
      expect(first, first.msg).toMatchObject({ changed: true, warnings: [] });
      const rules = await rulesOf(host);
      expect(await run(host, "load", "ipv4")).toMatchObject(UNCHANGED);
      const adopted = await run(host, "setup", "--adopt");
      expect(adopted, adopted.msg).not.toHaveProperty("failed");
      expect(await host.list("/etc/iptables.d")).toEqual(["05_host", "10_docker", "90_docker"]);
      expect(await run(host, "setup")).toMatchObject({ changed: false, warnings: [] });
      for (const line of rules.split("\n").filter((one) => one.startsWith("-A")))
        expect(await rulesOf(host)).toContain(line);

      // A line that is deleted, and nothing else, whatever loads.
      const before = await rulesOf(host);
      const lines = real(name).split("\n");
      const last = lines.map((line) => /^(\[\d+:\d+\] )?-[AI]/.test(line)).lastIndexOf(true);
      await host.write("/etc/iptables.d/05_host", lines.filter((_, at) => at !== last).join("\n"));
      const deleted = await run(host, "load", "ipv4");
      expect(deleted, deleted.msg).toMatchObject({ changed: true, warnings: [] });
      const after = (await rulesOf(host)).split("\n");
      expect(before.split("\n").length - after.length).toBe(1);
      expect(before.split("\n")).toEqual(expect.arrayContaining(after));
      expect(await run(host, "setup")).toMatchObject({ changed: false, warnings: [] });
    }
  });
});

/** The rules of each chain as a trial printed them, with their lines; chains stand in any order. */
function triedRules(spelled: string): Record<string, string[]> {
  const chains: Record<string, string[]> = {};
  let table = "";
  for (const line of String(JSON.parse(spelled).marked).split("\n")) {
    if (line.startsWith("*")) table = line;
    if (!line.startsWith("-A ")) continue;
    const chain = `${table} ${line.split(" ", 2)[1]}`;
    // Behind what of the rule is no match a mark may stand anywhere.
    const { text, at } = readMark(line);
    chains[chain] = [...(chains[chain] ?? []), `${at} ${text}`];
  }
  return chains;
}

describe.each(BACKENDS)("containers' rules on iptables-%s", (backend) => {
  story("are tried once a kind; what is foretold of the others is what a trial prints", async ({ lab }) => {
    const own = "*filter\n-A FORWARD -s 192.0.2.1,192.0.2.2 -j DROP\n-I FORWARD --proto tcp -j LOG\nCOMMIT\n";
    const host = await lab.host({ name: "web1", backend, files: { ...SPIES, "/etc/iptables.d/50_own": own } });
    const state = (family: Family) => `/var/lib/docker_iptables/${family}.spelled`;
    const kept = async () => Promise.all(FAMILIES.map(async (family) => triedRules(await host.read(state(family)))));
    const isTried = ({ started }: { started: string[] }) => started.includes("unshare");
    await host.docker.cli("network", "create", "--ipv6", "--subnet=2001:db8:9::/64", "app");
    await host.run("docker_iptables", ["setup", "--ipv6", "--reload", "restore"]);
    for (const [index, name] of ["app", "web", "web.2", "zeta"].entries()) {
      const network = index % 2 === 0 ? { network: "app" } : {};
      await host.docker.run(name, {
        publish: [`${8080 + index}:80`, `${9000 + 10 * index}-${9003 + 10 * index}:90-93`],
        ...network,
      });
    }
    // The first of a kind is tried, in each of the two networks.
    const create = (...words: string[]) => run(host, "create", ...words, "--reload", "restore");
    expect(isTried(await create("app"))).toBe(true);
    await create("web");
    const asTried: string[] = [];
    for (const step of [
      ["create", "zeta"],
      ["create", "web.2"],
      ["delete", "app"],
      ["create", "app", "zeta"],
      ["delete", "web"],
      ["delete", "--all"],
      ["create", "web.2"],
    ]) {
      const [verb = "", ...names] = step;
      const done = await run(host, verb, ...names, "--reload", "restore");
      expect(done, done.msg).toMatchObject({ changed: true });
      expect(done).not.toHaveProperty("failed");
      if (isTried(done)) asTried.push(step.join(" "));
      const foretold = await kept();
      const rules = await rulesOf(host);
      await host.run("rm", FAMILIES.map(state));
      const again = await run(host, "load");
      expect(again).toMatchObject({ changed: false, warnings: [] });
      expect(isTried(again)).toBe(true);
      expect(await rulesOf(host)).toBe(rules);
      expect(foretold).toEqual(await kept());
    }
    // Without what was kept nothing is known of kinds that are not there.
    expect(asTried).toEqual(["create web.2"]);
  });
});
