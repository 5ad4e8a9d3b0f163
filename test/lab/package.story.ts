/*
 * The packages on fresh hosts, with apt-get and dnf: installed, upgraded, downgraded by a version, exchanged for the native one and back,
 * and removed, under traffic. No maintainer script touches a rule.
 * Debian's dnf knows none of Debian's packages: an empty .rpm says in rpm's words what the host has.
 */

import { readdirSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { expect, onTestFinished } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { makeDeb } from "../../packaging/deb.ts";
import { type Product, productsOf } from "../../packaging/product.ts";
import { makeRpm } from "../../packaging/rpm.ts";
import { runTool } from "../../packaging/tools.ts";
import { commandsOf } from "../shown-commands.ts";
import { baseRules, ourRules, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectAllWellSoon, statusOf } from "./host-state.ts";
import { storyWith } from "./story.ts";
import { chosenSuite } from "./suites.ts";
import { lossesDuring } from "./traffic.ts";

const WATCH = "docker_iptables-watch";
/** They are as long: the next one is written over this one, in an executable, too. */
const VERSIONS = { now: packageJson.version, next: "9.9.9" };

interface Manager {
  kind: string;
  packages: readonly string[];
  make: (product: Product, folder: string) => Promise<string>;
  /** The first time: as docs/install.md says, where that is for this kind. */
  first: (host: Host, script: Versions, native: Versions) => Promise<unknown>;
  install: readonly string[];
  downgrade: readonly string[];
  /** Installs the one in place of the other. */
  exchange: readonly string[];
  remove: readonly string[];
}

const APT = ["apt-get", "--assume-yes"];
const DNF = ["dnf", "--assumeyes"];
const MANAGERS: readonly Manager[] = [
  {
    kind: "deb",
    packages: ["curl"],
    make: makeDeb,
    first: fromRelease,
    install: [...APT, "install"],
    downgrade: [...APT, "install", "--allow-downgrades"],
    exchange: [...APT, "install"],
    remove: [...APT, "remove"],
  },
  {
    kind: "rpm",
    packages: ["createrepo-c", "dnf", "rpm"],
    make: makeRpm,
    first: fromDistribution,
    install: [...DNF, "install"],
    downgrade: [...DNF, "downgrade"],
    exchange: [...DNF, "install", "--allowerasing"],
    remove: [...DNF, "remove"],
  },
];

/** The machine's own dpkg may not know the machine's Node.js. */
const lacking =
  chosenSuite() === undefined ? "packages are installed on a release's own root: set LAB_ROOT" : undefined;

type Versions = Record<keyof typeof VERSIONS, string>;

/** Of the script and of the native program: this version and a next one, whose program says so. */
async function archivesOf({ make }: Manager): Promise<{ script: Versions; native: Versions }> {
  const folder = await folderForTest();
  const both = async (product: Product | undefined): Promise<Versions> => {
    if (product === undefined) throw new Error("the native program is not built: npm run build:native -- x64");
    const now = { ...product, compression: "none" as const };
    const next = { ...now, version: VERSIONS.next, program: join(folder, basename(now.program)) };
    await writeFile(next.program, written(await readFile(now.program)));
    return { now: await make(now, folder), next: await make(next, folder) };
  };
  const [script, native] = productsOf(VERSIONS.now, 1_700_000_000);
  return { script: await both(script), native: await both(native) };
}

/** A program that says that it is the next version. */
function written(program: Buffer): Buffer {
  const words = (version: string) => `docker_iptables ${version} (`;
  const { now, next } = VERSIONS;
  expect(next).toHaveLength(now.length);
  const text = program.toString("latin1");
  expect(text).toContain(words(now));
  return Buffer.from(text.replaceAll(words(now), words(next)), "latin1");
}

async function folderForTest(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "docker_iptables-packages-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function run(host: Host, [command = "", ...args]: readonly string[], archive?: string): Promise<string> {
  const files = archive === undefined ? [] : [await copied(host, archive, "/root")];
  const { stdout } = await host.run(command, [...args, ...files]);
  // apt-get has a terminal for dpkg.
  return stdout.replaceAll("\r\n", "\n");
}

async function copied(host: Host, file: string, folder: string): Promise<string> {
  const path = `${folder}/${basename(file)}`;
  await host.run("mkdir", ["-p", folder]);
  await host.run("dd", ["status=none", `of=${path}`], { input: await readFile(file) });
  return path;
}

/** The lines of the page, with a folder as the release. */
async function fromRelease(host: Host, script: Versions): Promise<void> {
  const name = basename(await copied(host, script.now, "/srv/release"));
  await host.run("mkdir", ["-p", "/root/empty"]);
  const release = "cd /srv/release && sha256sum * > /tmp/sums && mv /tmp/sums SHA256SUMS";
  await host.run("sh", ["-c", release]);
  const lines = commandsOf("docs/install.md", "release").join("\n");
  expect(lines).toContain(`f=${name};`);
  const here = lines.replaceAll("RELEASE", "file:///srv/release");
  await host.run("sh", ["-ec", `cd /root/empty\n${here}`]);
  // A file that was changed on its way.
  await host.run("sh", ["-c", `echo >> /srv/release/${name}`]);
  await expect(host.run("sh", ["-ec", `cd /root/empty\n${here}`])).rejects.toThrow(/FAILED/);
}

/** With the path of the packaged executable. */
async function expectExamples(host: Host): Promise<void> {
  const folder = "/usr/share/doc/docker-iptables/examples/monitoring";
  const names = readdirSync(new URL("../../examples/monitoring", import.meta.url)).sort();
  expect(await host.list(folder)).toEqual(names);
  for (const name of ["docker_iptables-metrics.service", "nrpe.cfg"])
    expect(await host.read(`${folder}/${name}`)).toMatch(/ \/usr\/bin\/docker_iptables status /);
}

/** On a host with what a distribution's packages say of themselves: first, as RHEL 9's, whose Node.js is too old. */
async function fromDistribution(host: Host, script: Versions, native: Versions): Promise<void> {
  const repository = "[all]\nname=all\nbaseurl=file:///srv/all\ngpgcheck=0\n";
  await host.write("/etc/yum.repos.d/all.repo", repository);
  const offer = async (file: string) => {
    await copied(host, file, "/srv/all");
    await host.run("createrepo_c", ["--quiet", "/srv/all"]);
    await host.run("dnf", ["clean", "all"]);
  };
  const { stdout } = await runTool("rpm", ["--query", "--package", "--requires", native.now]);
  const glibc = stdout.split("\n").filter((line) => /^(lib|ld-linux)/.test(line));
  expect(glibc).toContain("libc.so.6(GLIBC_2.17)(64bit)");
  await offer(await emptyRpm("base", ["/bin/sh", "iptables", "util-linux", ...glibc]));
  await offer(await emptyRpm("nodejs", ["nodejs = 1:16.20.2", "nodejs(engine) = 16.20.2", "/usr/bin/node"]));
  const install = [...DNF, "install"];
  await expect(run(host, install, script.now)).rejects.toThrow(/nothing provides.*nodejs\(engine\) >= 18\.19/);
  await offer(await emptyRpm("nodejs20", ["nodejs(engine) = 20.19.2", "/usr/bin/node"]));
  await run(host, install, script.now);
}

async function emptyRpm(name: string, provided: readonly string[]): Promise<string> {
  const folder = await folderForTest();
  const spec = join(folder, `${name}.spec`);
  const head = [`Name: ${name}`, "Version: 1", "Release: 1", "Summary: Nothing", "License: MIT", "BuildArch: noarch"];
  const provides = provided.map((one) => `Provides: ${one}`);
  await writeFile(spec, [...head, ...provides, "%description", "Nothing.", "%files", ""].join("\n"));
  const { all, failed } = await runTool("rpmbuild", ["-bb", "--define", `_topdir ${folder}`, spec]);
  if (failed) throw new Error(all);
  return join(folder, "RPMS/noarch", `${name}-1-1.noarch.rpm`);
}

const versionOf = async (host: Host) => (await host.run("docker_iptables", ["--version"])).stdout.trim();

const unitsOf = async (host: Host) =>
  (await host.run("sh", ["-c", "cat /etc/systemd/system/*iptables*.service"])).stdout;

const watcherOf = async (host: Host) =>
  (await host.systemctl(["show", "--property=ActiveState,MainPID", WATCH])).stdout.trim();

/** The program that the watcher runs: /usr/bin/docker_iptables, or Node.js. */
const runsIn = async (host: Host) =>
  (await host.run("sh", ["-c", `readlink /proc/$(systemctl show -P MainPID ${WATCH})/exe`])).stdout.trim();

for (const manager of MANAGERS) {
  storyWith({ packages: manager.packages }, lacking)(
    `the .${manager.kind}: an upgrade, a downgrade, the exchange for the other program and the removal keep the rules live, and lose no connection`,
    async ({ lab }) => {
      const [{ script, native }, host] = await Promise.all([archivesOf(manager), lab.host({ name: "web1" })]);
      const client = await lab.client("laptop");
      // A host that has a copy of one's own, with its units.
      await host.run("docker_iptables", ["setup", "--watch"]);
      const set = async () => [await host.list("/etc/iptables.d"), await unitsOf(host), await watcherOf(host)];
      const before = await set();
      expect(before[1]).toContain("\nExecStart=/usr/local/bin/docker_iptables watch\n");
      await manager.first(host, script, native);
      expect(await set()).toEqual(before);
      // Debian's own images leave /usr/share/doc out.
      if (manager.kind === "rpm") await expectExamples(host);
      const [change = ""] = commandsOf("docs/install.md", "package");
      await host.run("sh", ["-ec", change]);
      expect(await versionOf(host)).toContain(`docker_iptables ${VERSIONS.now} (`);
      expect(await unitsOf(host)).toBe(String(before[1]).replaceAll("/usr/local/bin/", "/usr/bin/"));
      expect(await watcherOf(host)).not.toEqual(before[2]);
      await host.docker.run("web", { publish: ["8080:80"] });
      expect(await expectAllWellSoon(host, client)).toEqual(["web"]);
      const rulesOf = async () => [...(await baseRules(host)), ...(await ourRules(host))];
      const rules = await rulesOf();

      let said = "";
      const connect = async () => (await client.connect(host.address, 8080)).reached;
      const { opened, lost } = await lossesDuring(connect, async () => {
        for (const [words, archives, version] of [
          [manager.install, script, "next"],
          [manager.downgrade, script, "now"],
          [manager.exchange, native, "now"],
          [manager.install, native, "next"],
          [manager.downgrade, native, "now"],
          [manager.exchange, script, "now"],
        ] as const) {
          const before = await watcherOf(host);
          await run(host, words, archives[version]);
          const kind = archives === native ? "native" : "script";
          expect(await versionOf(host)).toMatch(new RegExp(`^docker_iptables ${VERSIONS[version]} \\(.*, ${kind}`));
          await until(async () => {
            const after = await watcherOf(host);
            return after !== before && after.includes("ActiveState=active");
          });
          expect(await runsIn(host)).toMatch(kind === "native" ? /^\/usr\/bin\/docker_iptables$/ : /\/node$/);
          expect(await rulesOf()).toEqual(rules);
          expect((await statusOf(host)).problems).toEqual([]);
        }
        await run(host, [...manager.remove, "docker-iptables"]);
        await run(host, manager.install, native.now);
        said = await run(host, [...manager.remove, "docker-iptables-native"]);
      });
      expect(lost).toBe(0);
      expect(opened).toBeGreaterThan(100);

      expect(await host.exists("/usr/bin/docker_iptables")).toBe(false);
      expect(await rulesOf()).toEqual(rules);
      for (const left of ["iptables.service", `${WATCH}.service`])
        expect(said).toContain(`/etc/systemd/system/${left}\n`);
      for (const left of ["10_docker", "11-docker-container_web"]) expect(said).toContain(`/etc/iptables.d/${left}\n`);
      // The watcher goes on.
      await host.docker.run("late", { publish: ["8081:80"], options: ["--restart=always"] });
      await until(async () => (await ourRules(host)).some((rule) => rule.includes("docker_iptables: late")));

      // iptables alone loads the host rules, and the units say that they failed.
      await host.reboot();
      expect(await rulesOf()).toEqual(rules.filter((rule) => rule.includes('"docker_iptables: (')));
      const { stdout } = await host.systemctl(["list-units", "--failed", "--plain", "--no-legend"]);
      expect(stdout.match(/^\S+/gm)).toEqual(["ip6tables.service", "iptables.service"]);
      // docker-proxy serves the port.
      expect(await client.connect(host.address, 8081)).toMatchObject({ reached: true, peer: "172.17.0.1" });

      // With the package back all is well, without a word.
      await run(host, manager.install, script.now);
      expect(await expectAllWellSoon(host, client)).toEqual(["late"]);
      // As it was told, and as the page has it.
      const [stop, takeAway] = commandsOf("docs/install.md", "remove");
      const told = said.match(/^ {2}(systemctl|docker_iptables) .*$/gm) ?? [];
      expect(told).toHaveLength(3);
      await host.run("sh", ["-ec", (manager.kind === "deb" ? [stop, takeAway] : told).join("\n")]);
      expect(await rulesOf()).toEqual([]);
      expect(await run(host, [...manager.remove, "docker-iptables"])).not.toContain("docker_iptables is removed");
      expect(await host.exists("/etc/systemd/system/iptables.service")).toBe(false);
    },
  );
}
