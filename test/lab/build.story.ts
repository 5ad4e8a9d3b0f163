/*
 * What is built, once more elsewhere: outside git, the script's packages are the same bytes, in whatever folder, by whoever and with
 * whatever umask; and npm's is installed by npm alone. No host is needed.
 */

import { chmod, cp, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { expect, onTestFinished, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const NOBODY = 65534;

test("the same sources give the same packages, whoever builds them, and where; outside git, which they say", async () => {
  const folder = await mkdtemp(join(tmpdir(), "docker_iptables-build-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await chmod(folder, 0o755);
  const [here, there] = [join(folder, "here"), join(folder, "th", "ere")];
  await copySources(here);
  const packages = await build(here, { umask: "022", env: { TZ: "America/New_York" } });
  expect(packages).toEqual([
    "SHA256SUMS",
    expect.stringMatching(/^docker-iptables-[\d.]+-1\.noarch\.rpm$/),
    expect.stringMatching(/^docker-iptables_[\d.]+-1_all\.deb$/),
    expect.stringMatching(/^docker_iptables-[\d.]+\.tgz$/),
    "docker_iptables.cdx.json",
  ]);

  await copySources(there);
  const env = { TZ: "Asia/Tokyo", HOME: there, npm_config_cache: join(there, "npm") };
  // A clone below a folder that is root's alone is built by root again.
  const other = { uid: NOBODY, gid: NOBODY };
  const { failed } = await execa("test", ["-r", join(ROOT, "package.json")], { ...other, cwd: "/", reject: false });
  if (!failed) await execa("chown", ["-hR", `${NOBODY}:${NOBODY}`, there]);
  expect(await build(there, { umask: "077", env, ...(failed ? {} : other) })).toEqual(packages);
  for (const name of packages) {
    const [one, another] = await Promise.all([here, there].map((top) => readFile(join(top, "dist/packages", name))));
    expect([name, one?.equals(another ?? Buffer.of())]).toEqual([name, true]);
  }

  await installWithNpm(join(here, "dist/packages", packages.find((name) => name.endsWith(".tgz")) ?? ""));
});

/** Without git's, but with what has been fetched. */
async function copySources(to: string): Promise<void> {
  for (const name of await readdir(ROOT))
    if (!/^(node_modules|dist|\.cache|coverage|\.git)$/.test(name))
      await cp(join(ROOT, name), join(to, name), { recursive: true });
  for (const name of ["node_modules", ".cache"]) await symlink(join(ROOT, name), join(to, name));
}

interface Builder {
  umask: string;
  env: Record<string, string>;
  uid?: number;
  gid?: number;
}

/** `npm run package` without the native programs. Returns the names of what it made. */
async function build(top: string, { umask, env, ...options }: Builder): Promise<string[]> {
  const all = { ...env, SOURCE_DATE_EPOCH: "1700000000" };
  const run = (program: string) => `"${process.execPath}" --import tsx ${program}`;
  const script = `umask ${umask}; mkdir -p dist; ${run("build.ts")} && ${run("packaging/package.ts")}`;
  await execa("sh", ["-c", script], { cwd: top, env: all, ...options });
  return (await readdir(join(top, "dist/packages"))).sort();
}

/** It needs no other package, runs nothing, and brings its manual. */
async function installWithNpm(archive: string): Promise<void> {
  const prefix = await mkdtemp(join(tmpdir(), "docker_iptables-npm-"));
  onTestFinished(() => rm(prefix, { recursive: true, force: true }));
  const options = ["--offline", "--global", "--foreground-scripts", "--prefix", prefix];
  const { all } = await execa("npm", ["install", ...options, archive], { all: true });
  expect(all).not.toContain("> ");
  expect(await readdir(join(prefix, "lib/node_modules"))).toEqual(["docker_iptables"]);
  expect(await readdir(join(prefix, "lib/node_modules/docker_iptables"))).not.toContain("node_modules");
  const { stdout } = await execa(join(prefix, "bin/docker_iptables"), ["--version"]);
  expect(stdout).toMatch(/^docker_iptables [\d.]+ \(built outside git, script\)$/);
  for (const [section, name] of [
    ["man1", "docker_iptables.1"],
    ["man5", "docker_iptables.json.5"],
  ])
    expect(await readFile(join(prefix, "share/man", section ?? "", name ?? ""), "utf8")).toContain(".TH ");
  await execa("npm", ["uninstall", "--global", "--prefix", prefix, "docker_iptables"]);
  expect(await readdir(join(prefix, "bin"))).toEqual([]);
}
