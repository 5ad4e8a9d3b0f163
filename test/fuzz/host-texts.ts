// Surfaces of the host: how the daemon was started, its configuration, what conntrack, nft and systemctl print.

import fc from "fast-check";
import { expect } from "vitest";
import { configFileOf, readSettings } from "../../src/docker/daemon.ts";
import { baseChains } from "../../src/netfilter/foreign-firewalls.ts";
import { readFlows } from "../../src/rules/flows.ts";
import { parseProcessStatus } from "../../src/system/processes.ts";
import { parseRoutes, parseRoutes6 } from "../../src/system/routes.ts";
import { recordText } from "../../src/systemd/journal.ts";
import { judgeService, pathsIn } from "../../src/systemd/own-service.ts";
import { mutated, text } from "./hostile.ts";
import { type Surface, surface } from "./surface.ts";

const FLOW =
  "udp      17 29 src=198.51.100.7 dst=192.0.2.1 sport=4000 dport=53 [UNREPLIED] src=172.17.0.2 dst=198.51.100.7 sport=53 dport=4000 mark=0 use=1";
const flows = fc
  .array(fc.tuple(fc.nat(FLOW.length), text), { maxLength: 5 })
  .map((cuts) => cuts.reduce((line, [at, hostile]) => line.slice(0, at) + hostile + line.slice(at), FLOW));

const cmdline = fc.array(
  fc.oneof(
    fc.constantFrom(
      "dockerd",
      "--iptables=false",
      "--ip6tables",
      "--config-file",
      "--userland-proxy=0",
      "--",
      "/etc/x.json",
    ),
    text,
    text.map((value) => `--config-file=${value}`),
  ),
);
const CONFIGS = [{ iptables: false, ip6tables: false, "userland-proxy": true, hosts: ["fd://"] }];
const CHAINS = [
  {
    nftables: [{ metainfo: {} }, { chain: { family: "inet", table: "x", name: "y", hook: "forward", policy: "drop" } }],
  },
];

/** Words of shell: what a person writes into a service of his own, and what makes no sense. */
const SHELL = [
  ...[
    "cat",
    "/etc/iptables.d/*",
    "|",
    "iptables-restore",
    "--noflush",
    "iptables -F",
    ";",
    "&&",
    "||",
    "\n",
    " ",
    " ",
    "for f in",
  ],
  ...[
    "; do",
    "done",
    "while read x",
    "if [ -e $f ]",
    "; then",
    "fi",
    "case $f in",
    "*)",
    ";;",
    "esac",
    "f() {",
    "}",
    "(",
    ")",
  ],
  ...[
    "$(",
    "`",
    "<",
    ">",
    ">>",
    "<<EOF\n",
    "EOF\n",
    "$f",
    "$f.*",
    "$((1+1))",
    "'",
    '"',
    "\\",
    "#",
    "exec",
    "eval",
    "f",
  ],
];
const script = fc.array(fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...SHELL) }, text), { maxLength: 40 });
const DIRECTORIES = [["ipv4", "/etc/iptables.d"]] as const;

export const HOST: readonly Surface[] = [
  surface(
    "the daemon's command line and configuration",
    2000,
    fc.property(
      cmdline,
      fc.oneof(
        mutated(CONFIGS).map((one) => JSON.stringify(one)),
        text,
      ),
      (words, config) => {
        expect(typeof configFileOf(words)).toBe("string");
        const { iptables, ip6tables, userlandProxy } = readSettings(words, config);
        for (const setting of [iptables, ip6tables, userlandProxy]) expect([true, false, undefined]).toContain(setting);
      },
    ),
  ),
  surface(
    "nft's chains",
    2000,
    fc.property(
      fc.oneof(
        mutated(CHAINS).map((one) => JSON.stringify(one) ?? ""),
        text,
      ),
      (json) => {
        for (const { table, name } of baseChains(json))
          for (const word of [table, name]) expect(typeof word).toBe("string");
      },
    ),
  ),
  surface(
    "a service of the user's own, and its scripts",
    2000,
    fc.property(script, (words) => {
      const written = words.join("");
      const start = `{ path=/usr/local/sbin/load ; argv[]=/usr/local/sbin/load ${written} ; ignore_errors=no }`;
      const scripts = new Map([["/usr/local/sbin/load", written]]);
      expect(["ours", "unknown", "wrong"]).toContain(
        judgeService(new Map([["ExecStart", start]]), scripts, DIRECTORIES).kind,
      );
      for (const path of pathsIn(written)) expect(path).toMatch(/^\/\S/);
    }),
  ),
  surface(
    "texts of /proc",
    2000,
    fc.property(text, fc.string({ unit: "binary", maxLength: 300 }), (hostile, garbage) => {
      for (const said of [hostile, garbage, `Uid:\t${hostile}\nPPid:\t${garbage}\n`]) {
        parseProcessStatus(said);
        parseRoutes(`Iface\tDestination\n${said}\n`);
        parseRoutes6(said);
      }
    }),
  ),
  surface(
    "conntrack's flows",
    2000,
    fc.property(flows, (line) => {
      for (const flow of readFlows(line)) {
        // They become arguments of conntrack: none is an option or has a space.
        for (const word of [flow.source, flow.destination, flow.replySource]) expect(word).toMatch(/^\S+$/);
        for (const port of [flow.port, flow.replyPort]) expect(port).toBeGreaterThanOrEqual(0);
      }
    }),
  ),
  surface(
    "a record of the journal",
    2000,
    fc.property(text, text, text, (msg, command, reason) => {
      const result = { changed: true, msg, comment: msg, warnings: [] };
      const record = recordText(result, { pid: 1, command, unit: "x.service", self: "2" }, [reason]);
      // A field a line, each of ours: no text can add one.
      for (const line of record.trimEnd().split("\n"))
        expect(line).toMatch(/^(?:MESSAGE|PRIORITY|SYSLOG_IDENTIFIER|OBJECT_PID|DOCKER_IPTABLES_[A-Z_]+)=/);
    }),
  ),
];
