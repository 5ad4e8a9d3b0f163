/*
 * The packages on fresh hosts: installed, upgraded, downgraded by a version and removed under traffic. No maintainer script touches a rule.
 * The .rpm is installed with Debian's rpm, which knows none of Debian's packages: its dependencies are not checked here.
 */

import { readdirSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { expect, onTestFinished } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { makeDeb } from "../../packaging/deb.ts";
import { type Product, productsOf } from "../../packaging/product.ts";
import { makeRpm } from "../../packaging/rpm.ts";
import { commandsOf } from "../shown-commands.ts";
import { baseRules, ourRules, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectAllWellSoon, statusOf } from "./host-state.ts";
import { storyWith } from "./story.ts";
import { chosenSuite } from "./suites.ts";
import { lossesDuring } from "./traffic.ts";

const WATCH = "docker_iptables-watch";
const NEXT = "99.0.0";

interface Manager {
  kind: string;
  packages: readonly string[];
  make: (product: Product, folder: string) => Promise<string>;
  /** The first time: as docs/install.md says, where that is for this kind. */
  first: (host: Host, archive: string) => Promise<unknown>;
  install: readonly string[];
  downgrade: readonly string[];
  remove: readonly string[];
}

const MANAGERS: readonly Manager[] = [
  {
    kind: "deb",
    packages: ["curl"],
    make: makeDeb,
    first: fromRelease,
    install: ["dpkg", "--install"],
    downgrade: ["dpkg", "--install"],
    remove: ["dpkg", "--remove", "docker-iptables"],
  },
  {
    kind: "rpm",
    packages: ["rpm"],
    make: makeRpm,
    first: (host, archive) => run(host, ["rpm", "--nodeps", "--upgrade"], archive),
    install: ["rpm", "--nodeps", "--upgrade"],
    downgrade: ["rpm", "--nodeps", "--upgrade", "--oldpackage"],
    remove: ["rpm", "--nodeps", "--erase", "docker-iptables"],
  },
];

/** The machine's own dpkg may not know the machine's Node.js. */
const lacking =
  chosenSuite() === undefined ? "packages are installed on a release's own root: set LAB_ROOT" : undefined;

/** This version and a next one, whose program says so. */
async function versions({ make }: Manager): Promise<[string, string]> {
  const folder = await mkdtemp(join(tmpdir(), "docker_iptables-packages-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const [now] = productsOf(packageJson.version, 1_700_000_000);
  if (now === undefined) throw new Error("no product");
  const program = join(folder, "docker_iptables");
  const text = await readFile(now.program, "utf8");
  const next = text.replaceAll(`docker_iptables ${now.version} (`, `docker_iptables ${NEXT} (`);
  expect(next).not.toBe(text);
  await writeFile(program, next);
  await mkdir(join(folder, "made"));
  const one = await make(now, join(folder, "made"));
  return [one, await make({ ...now, version: NEXT, program }, join(folder, "made"))];
}

async function run(host: Host, [command = "", ...args]: readonly string[], archive?: string): Promise<string> {
  if (archive === undefined) return (await host.run(command, args)).stdout;
  const path = `/root/${basename(archive)}`;
  await host.run("dd", ["status=none", `of=${path}`], { input: await readFile(archive) });
  return (await host.run(command, [...args, path])).stdout;
}

/** The lines of the page with a folder as the release, and dpkg for apt, which knows nothing of how the lab's root was made. */
async function fromRelease(host: Host, archive: string): Promise<void> {
  const name = basename(archive);
  await host.run("mkdir", ["-p", "/srv/release", "/root/empty"]);
  await host.run("dd", ["status=none", `of=/srv/release/${name}`], { input: await readFile(archive) });
  const release = "cd /srv/release && sha256sum * > /tmp/sums && mv /tmp/sums SHA256SUMS";
  await host.run("sh", ["-c", release]);
  const lines = commandsOf("docs/install.md", "release").join("\n");
  expect(lines).toContain(`f=${name};`);
  const here = lines
    .replaceAll("RELEASE", "file:///srv/release")
    .replace("apt-get install ./$f", "dpkg --install ./$f");
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

const versionOf = async (host: Host) =>
  (await host.run("docker_iptables", ["--version"])).stdout.replace(/^docker_iptables (\S+) .*\n$/, "$1");

const watcherOf = async (host: Host) =>
  (await host.systemctl(["show", "--property=ActiveState,MainPID", WATCH])).stdout.trim();

for (const manager of MANAGERS) {
  storyWith({ packages: manager.packages }, lacking)(
    `the .${manager.kind}: an upgrade, a downgrade and the removal keep the rules live, and lose no connection`,
    async ({ lab }) => {
      const [now, next] = await versions(manager);
      const host = await lab.host({ name: "web1" });
      const client = await lab.client("laptop");
      await host.run("rm", ["/usr/local/bin/docker_iptables"]);
      await manager.first(host, now);
      expect(await versionOf(host)).toBe(packageJson.version);
      // Nothing is set up by a package.
      expect(await host.list("/etc/iptables.d")).toEqual([]);
      expect(await host.exists(`/etc/systemd/system/${WATCH}.service`)).toBe(false);
      // Debian's own images leave /usr/share/doc out.
      if (manager.kind === "rpm") await expectExamples(host);

      await host.run("docker_iptables", ["setup", "--watch"]);
      for (const unit of ["iptables", WATCH])
        expect(await host.read(`/etc/systemd/system/${unit}.service`)).toMatch(
          /^ExecStart=\/usr\/bin\/docker_iptables /m,
        );
      await host.docker.run("web", { publish: ["8080:80"] });
      expect(await expectAllWellSoon(host, client)).toEqual(["web"]);
      const rulesOf = async () => [...(await baseRules(host)), ...(await ourRules(host))];
      const rules = await rulesOf();

      let said = "";
      const connect = async () => (await client.connect(host.address, 8080)).reached;
      const { opened, lost } = await lossesDuring(connect, async () => {
        for (const [words, archive, version] of [
          [manager.install, next, NEXT],
          [manager.downgrade, now, packageJson.version],
        ] as const) {
          const before = await watcherOf(host);
          await run(host, words, archive);
          expect(await versionOf(host)).toBe(version);
          await until(async () => {
            const after = await watcherOf(host);
            return after !== before && after.includes("ActiveState=active");
          });
          expect(await rulesOf()).toEqual(rules);
          expect((await statusOf(host)).problems).toEqual([]);
        }
        said = await run(host, manager.remove);
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

      // iptables alone loads what was there.
      await host.reboot();
      expect(await baseRules(host)).toEqual(rules.filter((rule) => rule.includes('"docker_iptables: (')));

      await run(host, manager.install, now);
      // As it was told, and as the page has it.
      const [stop, takeAway] = commandsOf("docs/install.md", "remove");
      const told = said.replace(/^.* then:$/ms, "");
      await host.run("sh", ["-ec", manager.kind === "deb" ? `${stop}\n${takeAway}` : told]);
      expect(await rulesOf()).toEqual([]);
      expect(await run(host, manager.remove)).not.toContain("docker_iptables is removed");
      expect(await host.exists("/etc/systemd/system/iptables.service")).toBe(false);
    },
  );
}
