// Who else filters: what is read from hostile texts, and the effects on real backends, each in a network namespace of its
// own. Those need root and both backends, of the machine or as the lab has unpacked them; else their name says what lacks.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { readLive, withoutCounters } from "../../src/iptables/live.ts";
import {
  baseChains,
  emptied,
  emptyBackend,
  firewalldRuns,
  foreignTables,
  holdsSomething,
  isOfIptables,
  otherBackend,
  otherThan,
  readZones,
  restoreBackend,
  type Variant,
} from "../../src/netfilter/foreign-firewalls.ts";
import { decides } from "../../src/netfilter/nft-tables.ts";

const SECONDS = 600;
/** The names of the tables that filter at the hooks of our rules. */
const deciding = async (seconds: number) => (await foreignTables(seconds)).filter(decides).map(({ name }) => name);
const PATH = process.env["PATH"] ?? "";

const ends: (() => void)[] = [];
afterEach(() => {
  process.env["PATH"] = PATH;
  for (const end of ends.splice(0).reverse()) end();
});

/** A directory that is PATH's only one, with these scripts in it. */
function onlyCommands(commands: Record<string, string>): string {
  const bin = mkdtempSync(join(tmpdir(), "docker_iptables-others-"));
  ends.push(() => rmSync(bin, { recursive: true, force: true }));
  for (const [name, script] of Object.entries(commands)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  process.env["PATH"] = bin;
  return bin;
}

test.each<[string, Variant]>([
  ["iptables-restore v1.8.9 (nf_tables)\n", "legacy"],
  ["iptables-restore v1.8.9 (legacy)\n", "nft"],
  ["iptables-restore v1.6.0\n", "nft"],
  ["", "nft"],
])("the other one of %j is %s", (version, backend) => {
  expect(otherThan(version)).toBe(backend);
});

const EMPTY = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [9:9]\n:USER - [0:0]\nCOMMIT\n";

test.each([
  ["", false],
  ["# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n", false],
  [EMPTY, false],
  [EMPTY.replace("COMMIT", "-A INPUT -j USER\nCOMMIT"), true],
  [EMPTY.replace("FORWARD ACCEPT", "FORWARD DROP"), true],
])("whether %j holds something: %s", (text, holds) => {
  expect(holdsSomething(readLive(text))).toBe(holds);
});

test("the emptying text has the built-in chains that were there, and no others", () => {
  const nat = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DNAT --to-destination 1.2.3.4\nCOMMIT\n";
  expect(emptied(readLive(EMPTY.replace("FORWARD ACCEPT", "FORWARD DROP") + nat))).toBe(
    "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n",
  );
});

describe("what nft prints", () => {
  const chain = (given: Record<string, unknown>) => {
    const whole = { family: "inet", table: "fw", name: "in", hook: "input", policy: "drop", ...given };
    return JSON.stringify({ nftables: [{ metainfo: { version: "1.0.6" } }, { chain: whole }] });
  };
  test.each([
    ["a base chain", {}, ["inet fw in"]],
    ["a chain that is none", { hook: undefined }, []],
    ["one of iptables-nft", { family: "ip", table: "filter", name: "INPUT" }, []],
    ["one of ip6tables-nft", { family: "ip6", table: "security", name: "FORWARD" }, []],
    ["a stranger's in a table of iptables-nft", { family: "ip", table: "filter", name: "input" }, ["ip filter input"]],
    ["one that iptables has in another table", { family: "ip", table: "raw", name: "INPUT" }, ["ip raw INPUT"]],
    [
      "one in a table that is only called so",
      { family: "inet", table: "filter", name: "INPUT" },
      ["inet filter INPUT"],
    ],
    ["one in Docker's table", { family: "ip", table: "docker-bridges", name: "x" }, ["ip docker-bridges x"]],
    ["a name that is no text", { name: 7 }, []],
    ["a family that is no text", { family: null }, []],
    ["a prototype's name", { table: "__proto__" }, ["inet __proto__ in"]],
  ])("%s", (_what, given, expected) => {
    const found = baseChains(chain(given))
      .filter((one) => !isOfIptables(one))
      .map(({ table, name }) => `${table} ${name}`);
    expect(found).toEqual(expected);
  });

  const nothing = [undefined, "", "{", "null", "7", "[]", '{"nftables":null}', '{"nftables":{}}'];
  test.each([...nothing, '{"nftables":[null,7,{"chain":null},{"chain":[1]}]}'])("%j has none", (json) => {
    expect(baseChains(json)).toEqual([]);
  });

  test("whatever it is, nothing is thrown", () => {
    const entry = fc.oneof(fc.jsonValue(), fc.record({ chain: fc.jsonValue() }));
    fc.assert(fc.property(fc.array(entry), (nftables) => void baseChains(JSON.stringify({ nftables }))));
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void baseChains(text)));
  });
});

describe("without the commands, or with broken ones", () => {
  test("the plain one is missing: that is a failure", async () => {
    onlyCommands({});
    await expect(otherBackend("ipv4", SECONDS)).rejects.toMatchObject({ code: "command_missing" });
  });

  test("the other one is missing, fails, hangs, or holds nothing", async () => {
    const plain = { "ip6tables-restore": "echo 'ip6tables-restore v1.8.9 (nf_tables)'" };
    onlyCommands(plain);
    expect(await otherBackend("ipv6", SECONDS)).toBeUndefined();
    for (const other of ["echo 'no such table' >&2; exit 3", "echo '# Warning: x'"]) {
      onlyCommands({ ...plain, "ip6tables-legacy-save": other });
      expect(await otherBackend("ipv6", SECONDS), other).toBeUndefined();
    }
    onlyCommands({ ...plain, "ip6tables-legacy-save": "exec /bin/sleep 600" });
    // A slow machine may not even ask the plain one within a second.
    const asked = otherBackend("ipv6", 1).catch(() => otherBackend("ipv6", 30));
    expect(await asked).toBeUndefined();
  });

  test("the other one breaks off within its text: that is not nothing, and is not emptied", async () => {
    onlyCommands({
      "iptables-restore": "echo 'iptables-restore v1.8.9 (legacy)'",
      "iptables-nft-save": "echo '*filter'; echo ':INPUT ACCEPT [0:0]'; exit 3",
      "iptables-nft-restore": "exit 0",
    });
    const other = await otherBackend("ipv4", SECONDS);
    expect(other?.backend).toBe("nft");
    await expect(emptyBackend("ipv4", "nft", other?.live ?? readLive(""), SECONDS)).rejects.toMatchObject({
      code: "reload_failed",
      message: expect.stringMatching(/iptables-nft-save.*no COMMIT/),
    });
  });

  test("a restore that fails is named, with its words", async () => {
    onlyCommands({ "ip6tables-legacy-restore": "echo 'line 3 failed' >&2; exit 1" });
    const failure = {
      code: "reload_failed",
      message: expect.stringMatching(/the legacy backend.*ip6tables-legacy-restore --wait 600.*line 3 failed/),
      facts: { exit_code: 1 },
    };
    await expect(emptyBackend("ipv6", "legacy", readLive(EMPTY), SECONDS)).rejects.toMatchObject(failure);
    await expect(restoreBackend("ipv6", "legacy", readLive(EMPTY), SECONDS)).rejects.toMatchObject(failure);
    onlyCommands({ "ip6tables-legacy-restore": "echo 'Permission denied (you must be root)' >&2; exit 4" });
    await expect(restoreBackend("ipv6", "legacy", readLive(EMPTY), SECONDS)).rejects.toMatchObject({
      code: "permission_denied",
    });
  });

  test.each(["", "echo 'Operation not permitted' >&2; exit 1", "echo '{'; exit 0", "exec /bin/sleep 600"])(
    "nft that does %j finds no table",
    async (script) => {
      onlyCommands(script === "" ? {} : { nft: script });
      expect(await deciding(1)).toEqual([]);
    },
  );

  test("nft lists a chain and not its rules, or the table's name is not a word of nft's: then it counts", async () => {
    const nft = (table: string) => {
      const chain = { family: "inet", table, name: "in", hook: "forward", policy: "accept" };
      const said = JSON.stringify({ nftables: [{ chain }] });
      return `echo "$*" >> "$0.calls"; [ "$2" = list ] && echo '${said}'`;
    };
    onlyCommands({ nft: nft("fw") });
    expect(await deciding(SECONDS)).toEqual(["inet fw"]);
    const bin = onlyCommands({ nft: nft("fw; flush ruleset") });
    expect(await deciding(SECONDS)).toEqual(["inet fw; flush ruleset"]);
    expect(readFileSync(join(bin, "nft.calls"), "utf8")).toBe("--json list chains\n");
  });

  test.each([
    ["", false],
    ["echo active", true],
    ["echo activating; exit 3", true],
    ["echo inactive; exit 3", false],
    ["echo failed; exit 3", false],
    ["echo 'System has not been booted with systemd' >&2; exit 1", false],
    ["exec /bin/sleep 600", false],
  ])("systemctl that does %j: firewalld runs: %s", async (script, runs) => {
    onlyCommands(script === "" ? {} : { systemctl: `[ "$*" = "is-active firewalld.service" ] || exit 9\n${script}` });
    expect(await firewalldRuns(script.includes("sleep") ? 1 : SECONDS)).toBe(runs);
  });
});

test.each([
  ["public (default)\n", []],
  [
    "public (default)\n  interfaces: eth0 wg0\ntrusted\n  interfaces: docker0 br-app\n  sources: 10.0.0.0/8\n",
    ["eth0", "wg0", "docker0", "br-app", "10.0.0.0/8"],
  ],
  ["FirewallD is not running\n", []],
])("what firewalld has in zones: %j", (text, places) => {
  expect([...readZones(text)]).toEqual(places);
});

const TOOLS = findTools();

describe.skipIf(TOOLS.lacks !== "")(`real backends${TOOLS.lacks}`, () => {
  describe.each([
    ["ipv4", "iptables", "ip_tables_names"],
    ["ipv6", "ip6tables", "ip6_tables_names"],
  ] as const)("%s", (family, iptables, names) => {
    test("a fresh namespace has no other backend, and asking makes no table", async () => {
      const world = await World.create("nft");
      expect(await otherBackend(family, SECONDS)).toBeUndefined();
      world.plain("legacy");
      expect(await otherBackend(family, SECONDS)).toBeUndefined();
      expect(world.run("cat", `/proc/net/${names}`)).toBe("");
      if (TOOLS.nft !== undefined) expect(world.run("nft", "list", "ruleset")).toBe("");
    });

    test.each<[Variant, Variant]>([
      ["legacy", "nft"],
      ["nft", "legacy"],
    ])("the rules of %s are seen, emptied and put back; those of %s stay", async (other, plain) => {
      const world = await World.create(plain);
      world.run(`${iptables}-${plain}`, "-A", "OUTPUT", "-p", "tcp", "-j", "ACCEPT");
      const ours = withoutCounters(world.run(`${iptables}-${plain}-save`));
      world.run(`${iptables}-${other}`, "-L");
      expect(await otherBackend(family, SECONDS), "empty tables").toBeUndefined();
      world.run(`${iptables}-${other}`, "-P", "FORWARD", "DROP");
      expect(await otherBackend(family, SECONDS), "a policy").toMatchObject({ backend: other });
      world.run(`${iptables}-${other}`, "-N", "USER");
      world.run(`${iptables}-${other}`, "-A", "USER", "-m", "comment", "--comment", "a 'b", "-j", "DROP");
      world.run(`${iptables}-${other}`, "-A", "INPUT", "-p", "tcp", "--dport", "1", "-j", "USER");
      world.run(`${iptables}-${other}`, "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE");
      const before = withoutCounters(world.run(`${iptables}-${other}-save`));

      const found = await otherBackend(family, SECONDS);
      expect(found?.backend).toBe(other);
      const live = found?.live ?? readLive("");
      expect(live.tables.get("filter")?.lines).toHaveLength(2);

      await emptyBackend(family, other, live, SECONDS);
      expect(await otherBackend(family, SECONDS)).toBeUndefined();
      const emptyText = world.run(`${iptables}-${other}-save`);
      expect(emptyText).toContain(":FORWARD ACCEPT");
      expect(emptyText).not.toMatch(/^-A|USER/m);

      await restoreBackend(family, other, live, SECONDS);
      expect(withoutCounters(world.run(`${iptables}-${other}-save`))).toBe(before);
      expect(withoutCounters(world.run(`${iptables}-${plain}-save`))).toBe(ours);
    });

    test.each<Variant>(["nft", "legacy"])("%s refuses a text: its command is named", async (backend) => {
      await World.create("legacy");
      const live = readLive("*filter\n-A NOWHERE -j ACCEPT\nCOMMIT\n");
      await expect(restoreBackend(family, backend, live, SECONDS)).rejects.toMatchObject({
        code: "reload_failed",
        message: expect.stringContaining(`${iptables}-${backend}-restore`),
      });
    });
  });

  describe.skipIf(TOOLS.nft === undefined)(`nftables${TOOLS.nft === undefined ? " (skipped: needs nft)" : ""}`, () => {
    test("a foreign chain in a table of iptables-nft is not deleted without a request", async () => {
      const world = await World.create("legacy");
      world.run("nft", "add table ip filter");
      world.run("nft", "add chain ip filter input { type filter hook forward priority 0; policy drop; }");
      const found = await otherBackend("ipv4", SECONDS);
      expect(found?.backend).toBe("nft");
      await expect(emptyBackend("ipv4", "nft", found?.live ?? readLive(""), SECONDS)).rejects.toMatchObject({
        code: "reload_failed",
        message: expect.stringMatching(/iptables-nft-save.*incompatible/),
      });
      expect(world.run("nft", "list", "ruleset")).toContain("policy drop");
      expect(await deciding(SECONDS)).toEqual(["ip filter"]);
    });

    test("the tables that can refuse, and no others", async () => {
      const world = await World.create("nft");
      expect(await deciding(SECONDS)).toEqual([]);
      for (const iptables of ["iptables", "ip6tables"]) {
        for (const table of ["raw", "mangle", "nat", "filter", "security"]) {
          world.run(`${iptables}-nft`, "-t", table, "-A", "OUTPUT", "-j", "ACCEPT");
        }
      }
      for (const table of ["sets", "idle"]) {
        world.run("nft", `add table inet ${table}; add chain inet ${table} plain; add rule inet ${table} plain drop`);
      }
      world.run("nft", "add set inet sets s { type ipv4_addr; }");
      world.run("nft", "add chain inet idle in { type filter hook input priority 0; }");
      expect(await deciding(SECONDS)).toEqual([]);
      world.run("nft", "add table inet firewalld; add table ip6 guard");
      world.run("nft", "add chain inet firewalld in { type filter hook forward priority 10; policy drop; }");
      world.run("nft", "add chain ip6 guard in { type filter hook prerouting priority 10; }");
      world.run("nft", "add rule ip6 guard in tcp dport 22 drop");
      // A table at other hooks, or one that drops nothing, is not reported.
      world.run(
        "nft",
        "add table inet banned; add chain inet banned in { type filter hook input priority 0; policy drop; }",
      );
      world.run("nft", "add table ip marks; add chain ip marks fw { type filter hook forward priority 0; }");
      world.run("nft", "add rule ip marks fw tcp dport 22 counter meta mark set 7 accept");
      expect((await deciding(SECONDS)).sort()).toEqual(["inet firewalld", "ip6 guard"]);
    });
  });
});

/** A network namespace of its own, and a PATH on which every command of both backends runs in it. */
class World {
  readonly #bin: string;

  /** `plain` is the backend of the plain commands. */
  static async create(plain: Variant): Promise<World> {
    // cat ends when this process ends, however that happens.
    const args = ["--net", "--", "sh", "-c", "echo; exec cat"];
    const holder = spawn("unshare", args, { stdio: ["pipe", "pipe", "inherit"] });
    ends.push(() => holder.kill("SIGKILL"));
    await new Promise<void>((resolve, reject) => {
      holder.stdout.once("data", () => resolve());
      holder.once("exit", () => reject(new Error("there is no namespace")));
    });
    return new World(plain, holder);
  }

  private constructor(plain: Variant, { pid }: ChildProcess) {
    const commands = ["cat", ...(TOOLS.nft === undefined ? [] : ["nft"])];
    for (const iptables of ["iptables", "ip6tables"]) {
      for (const backend of ["nft", "legacy"]) {
        commands.push(...["", "-save", "-restore"].map((what) => `${iptables}-${backend}${what}`));
      }
    }
    const scripts = commands.map((name) => {
      const enter = `exec /usr/bin/nsenter --net=/proc/${pid}/ns/net --`;
      return [name, `${TOOLS.environment}${enter} ${TOOLS.program(name)} "$@"`];
    });
    this.#bin = onlyCommands(Object.fromEntries(scripts));
    this.plain(plain);
  }

  plain(backend: Variant): void {
    for (const iptables of ["iptables", "ip6tables"]) {
      const link = join(this.#bin, `${iptables}-restore`);
      rmSync(link, { force: true });
      symlinkSync(`${iptables}-${backend}-restore`, link);
    }
  }

  /** Runs a command in the namespace; it must succeed. */
  run(command: string, ...args: string[]): string {
    const { status, stdout, stderr } = spawnSync(join(this.#bin, command), args, { encoding: "utf8" });
    expect(status, `${command} ${args.join(" ")}: ${stderr}`).toBe(0);
    return stdout;
  }
}

interface Tools {
  /** Why the tests cannot run, for their name; "" if they can. */
  lacks: string;
  nft: string | undefined;
  /** Lines of shell before a command. */
  environment: string;
  /** A command's program, and the word that selects one of its commands. */
  program(name: string): string;
}

/** Both backends: the machine's, or the lab's unpacked packages. */
function findTools(): Tools {
  const roots = fileURLToPath(new URL("../../.cache/lab/roots", import.meta.url));
  const unpacked = existsSync(roots) ? readdirSync(roots).map((name) => join(roots, name)) : [];
  const root = ["", ...unpacked].find((one) =>
    ["nft", "legacy"].every((backend) => existsSync(`${one}/usr/sbin/xtables-${backend}-multi`)),
  );
  const nft = ["/usr/sbin", ...PATH.split(":")].map((folder) => `${folder}/nft`).find((path) => existsSync(path));
  const libraries = existsSync(`${root}/usr/lib`) ? readdirSync(`${root}/usr/lib`) : [];
  const library = libraries.map((name) => `${root}/usr/lib/${name}`).find((folder) => existsSync(`${folder}/xtables`));
  const environment = root ? `export LD_LIBRARY_PATH=${library} XTABLES_LIBDIR=${library}/xtables\n` : "";
  let lacks = "";
  if (process.getuid?.() !== 0) lacks = "root";
  else if (spawnSync("unshare", ["--net", "true"]).status !== 0) lacks = "network namespaces";
  else if (root === undefined) lacks = "iptables of both backends";
  const program = (name: string) => {
    if (name === "cat") return "/bin/cat";
    if (name === "nft") return nft ?? "";
    return `${root}/usr/sbin/xtables-${name.includes("-nft") ? "nft" : "legacy"}-multi ${name}`;
  };
  return { lacks: lacks && ` (skipped: needs ${lacks})`, nft, environment, program };
}
