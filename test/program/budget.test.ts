// What a run costs, without a clock: the processes that it starts, what it writes, what it loads. fakes/fault.cjs counts.
//
// A number here is today's. Where a change must raise one, raise it here, and say in the commit why it is worth it; one that
// has become smaller is made smaller here, so that it stays so.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { daemon, truthful } from "./daemon.ts";
import { type FakeHost, fakeHost, NATIVE, nodeOptions, readAnswer } from "./host.ts";
import { readSteps } from "./steps.ts";

const ACCEPT = "the budget in test/program/budget.test.ts is exceeded, or was undercut; see there how to accept it";

interface Budget {
  /** Command -> how often it is started. */
  processes: Record<string, number>;
  /** Starts of what loads rules: a service, or iptables-restore. */
  reloads?: number;
  written?: number;
  renamed?: number;
  removed?: number;
  synced?: number;
}

interface Scenario {
  prepare: (host: FakeHost) => void | Promise<void>;
  /** Arguments, or those for this host, or those of the command line. */
  given: Record<string, unknown> | ((host: FakeHost) => Record<string, unknown> | string[]);
  changed: boolean;
  budget: Budget;
}

const ports = (port: number) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort: String(port) }] });

/** Containers on docker0, whose network's id and gateway say so: then the client is not asked about networks. */
function containers(host: FakeHost, names: readonly string[]): void {
  for (const [index, name] of names.entries()) {
    host.container(name, { ports: ports(8080 + index), address: `172.17.0.${2 + index}` });
    const id = `"NetworkID":"${"b".repeat(64)}"`;
    host.document(name, JSON.parse(host.documentOf(name).replace('"NetworkID":"bridge"', id)));
  }
}

/** A host that has docker0. */
function dockerHost(): FakeHost {
  const host = fakeHost();
  host.interfaces({ lo: ["127.0.0.1/8"], docker0: ["172.17.0.1/16"] });
  return host;
}

const web = (host: FakeHost) => containers(host, ["web"]);
const fifty = Array.from({ length: 50 }, (_, index) => `c${index}`);

async function published(host: FakeHost): Promise<void> {
  web(host);
  await host.ask({ container: "web" });
}

const load = (host: FakeHost) => [
  ...["load", "--json"],
  ...["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir],
];
const SAVES = { "iptables-save": 1, "ip6tables-save": 1 };
/** Where something changes, other firewalls are looked at. */
const LOOK = { nft: 1 };
/** The fragment, and the list of this boot's: each a file and its directory. */
const WRITTEN = { written: 2, renamed: 2, synced: 4 };
/** What a load leaves: the record of the rules, before it and after it, their spelling, and (synced) the last good text. */
const LEFT = { written: 4, renamed: 4, synced: 2 };

function sum(a: typeof WRITTEN, b: typeof WRITTEN) {
  return { written: a.written + b.written, renamed: a.renamed + b.renamed, synced: a.synced + b.synced };
}

const SCENARIOS: Record<string, Scenario> = {
  "present, unchanged": {
    prepare: published,
    given: { container: "web" },
    changed: false,
    budget: { processes: { docker: 1, ...SAVES } },
  },
  "present, unchanged, of Docker's own socket": {
    prepare: async (host) => {
      await published(host);
      await daemon(host, truthful(host, ["web"]));
    },
    given: (host) => ({ container: "web", docker_host: `unix://${host.root}/docker.sock` }),
    changed: false,
    budget: { processes: SAVES },
  },
  "present (none)": {
    prepare: web,
    given: { container: "web", reload: "none" },
    changed: true,
    budget: { processes: { docker: 1, flock: 1 }, ...WRITTEN },
  },
  "present (systemd)": {
    prepare: web,
    given: { container: "web" },
    changed: true,
    // A service may load more than one family: both are looked at before and after.
    budget: {
      processes: { docker: 1, flock: 2, "iptables-save": 3, "ip6tables-save": 3, systemctl: 2, ...LOOK },
      reloads: 1,
      ...WRITTEN,
    },
  },
  "present (restore)": {
    prepare: web,
    given: { container: "web", reload: "restore" },
    changed: true,
    budget: {
      processes: {
        docker: 1,
        flock: 3,
        "iptables-save": 3,
        "ip6tables-save": 1,
        unshare: 1,
        "iptables-restore": 1,
        ...LOOK,
      },
      reloads: 1,
      ...sum(WRITTEN, LEFT),
    },
  },
  "present (patch)": {
    prepare: web,
    given: { container: "web", reload: "patch" },
    changed: true,
    budget: {
      processes: { docker: 1, flock: 3, "iptables-save": 3, "ip6tables-save": 1, "iptables-restore": 1, ...LOOK },
      reloads: 1,
      // Besides, our own rules as they now run: what this host falls back to.
      ...sum(WRITTEN, { written: 1, renamed: 1, synced: 2 }),
    },
  },
  "absent, unchanged": {
    prepare: () => {},
    given: { container: "web", state: "absent" },
    changed: false,
    budget: { processes: SAVES },
  },
  "absent (systemd)": {
    prepare: published,
    given: { container: "web", state: "absent" },
    changed: true,
    budget: {
      processes: { flock: 2, "iptables-save": 3, "ip6tables-save": 3, systemctl: 3 },
      reloads: 1,
      // The list of this boot's is written without it.
      written: 1,
      renamed: 1,
      removed: 1,
      synced: 3,
    },
  },
  "sync of 50, none of them published": {
    prepare: (host) => containers(host, fifty),
    given: { all: true, reload: "restore" },
    changed: true,
    budget: {
      processes: {
        docker: 2,
        flock: 3,
        "iptables-save": 3,
        "ip6tables-save": 1,
        unshare: 1,
        "iptables-restore": 1,
        ...LOOK,
      },
      reloads: 1,
      ...sum({ written: 51, renamed: 51, synced: 102 }, LEFT),
    },
  },
  "sync of 50, all of them published": {
    prepare: async (host) => {
      containers(host, fifty);
      await host.ask({ all: true });
    },
    given: { all: true },
    changed: false,
    budget: { processes: { docker: 2, ...SAVES } },
  },
  "load, unchanged": {
    prepare: async (host) => {
      await published(host);
      await host.run(load(host));
    },
    given: load,
    changed: false,
    budget: { processes: { flock: 2, ...SAVES } },
  },
};

/** One run, and what it cost. */
async function costOf(host: FakeHost, { given }: Scenario, name: string): Promise<{ cost: Budget; changed: boolean }> {
  const log = join(host.fake, `steps-${name.replace(/\W/g, "_")}`);
  const options = host.options();
  const env = {
    ...options.env,
    NODE_OPTIONS: nodeOptions("fault"),
    FAULT: "none",
    FAULT_AT: "0",
    FAULT_LOG: log,
  };
  const asked = typeof given === "function" ? given(host) : given;
  const [argv, input] = Array.isArray(asked) ? [asked, ""] : [[], JSON.stringify(host.args(asked))];
  const ran = await execa(host.executable, argv, { ...options, env, input });
  const { changed } = readAnswer({ exitCode: ran.exitCode ?? -1, stdout: ran.stdout, stderr: ran.stderr });
  return { cost: count(readSteps(log)), changed };
}

function count(steps: readonly string[]): Budget {
  const processes: Record<string, number> = {};
  for (const step of steps) {
    const command = /^run (\S+)/.exec(step)?.[1];
    if (command !== undefined) processes[command] = (processes[command] ?? 0) + 1;
  }
  const of = (pattern: RegExp) => steps.filter((step) => pattern.test(step)).length;
  const numbers = {
    reloads: of(/^run (systemctl .*(reload|restart) |ip6?tables-restore )/),
    written: of(/^writeFile: half$/),
    renamed: of(/^rename /),
    removed: of(/^unlink /),
    synced: of(/^sync /),
  };
  return { processes, ...Object.fromEntries(Object.entries(numbers).filter(([, number]) => number > 0)) };
}

describe.skipIf(NATIVE)("processes and files", () => {
  test.each(Object.entries(SCENARIOS))("%s", async (name, scenario) => {
    const host = dockerHost();
    await host.boot();
    await scenario.prepare(host);
    const { cost, changed } = await costOf(host, scenario, name);
    expect(changed).toBe(scenario.changed);
    expect(cost, ACCEPT).toEqual(scenario.budget);
  });
});

/** Mebibytes of heap. What grows with the square of the number of ports needs gigabytes. */
const HEAP = 400;

test.skipIf(NATIVE)("memory, of a container with 10,000 ports that are no range", async () => {
  const host = dockerHost();
  await host.boot();
  const odd = Array.from({ length: 10_000 }, (_, index) => 10_001 + 2 * index);
  host.container("web", {
    ports: Object.fromEntries(odd.map((port) => [`${port}/tcp`, [{ HostIp: "0.0.0.0", HostPort: String(port) }]])),
    address: "172.17.0.2",
  });
  const { env, ...options } = host.options();
  const { stdout } = await execa(host.executable, [], {
    ...options,
    env: { ...env, NODE_OPTIONS: `${nodeOptions()} --max-old-space-size=${HEAP}` },
    input: JSON.stringify(host.args({ container: "web", reload: "restore" })),
  });
  expect(JSON.parse(stdout), ACCEPT).toMatchObject({ changed: true });
});

/** Node.js's own modules that are loaded where nothing is to be done. */
const MODULES = [
  ...["buffer", "child_process", "events", "fs", "fs/promises", "module", "net", "os", "path", "path/posix", "process"],
  ...["stream", "stream/promises", "string_decoder", "timers/promises", "tty", "url", "util", "v8"],
];

test.skipIf(NATIVE)("modules of Node.js", async () => {
  const host = dockerHost();
  await host.boot();
  await published(host);
  const log = join(host.fake, "modules");
  const options = host.options();
  const env = {
    ...options.env,
    NODE_OPTIONS: nodeOptions("modules"),
    MODULES_LOG: log,
  };
  await execa(host.executable, [], { ...options, env, input: JSON.stringify(host.args({ container: "web" })) });
  expect([...new Set(readFileSync(log, "utf8").trimEnd().split("\n"))].sort(), ACCEPT).toEqual(MODULES);
});

/** Bytes. Ansible copies the script for each task. Names stay whole in it, for the stacks of --debug. */
const SIZE = 1_218_000;

test.skipIf(NATIVE)("the script's size", () => {
  const { size } = statSync(fakeHost().executable);
  expect(size, ACCEPT).toBeLessThanOrEqual(SIZE);
});
