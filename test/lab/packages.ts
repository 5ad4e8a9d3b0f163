/*
 * What a host needs and its root file system lacks: fetched from Debian with apt-get and unpacked into a private root tree below
 * .cache/lab/roots, never installed. The tree's name is a hash of the requested packages and of the list of those that are there, so
 * that a second run finds it. Maintainer scripts are not run.
 */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, symlink } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";

/** The project's own cache; everything that outlives a lab is below it. */
export const cacheDirectory = fileURLToPath(new URL("../../.cache/lab", import.meta.url));

/** The machine's own root file system. */
const MACHINE = "/";
// Not /usr/local: it is the machine's own business, and empty in a host.
const directories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** A command or file that every lab needs, and the Debian package that brings it. */
const needed: [name: string, debianPackage: string][] = [
  ["dockerd", "docker.io"],
  ["iptables-nft", "iptables"],
  ["conntrack", "conntrack"],
  ["systemctl", "systemd"],
  ["ip", "iproute2"],
  ["modprobe", "kmod"],
  ["sysctl", "procps"],
  ["gcc", "gcc"],
  ["/usr/include/stdio.h", "libc6-dev"],
];

/**
 * The private root tree that holds what the machine lacks of the needed packages and of `extra` ones; or what another root file
 * system, `base`, lacks of those.
 */
export async function packageRoot(extra: readonly string[] = [], base = MACHINE): Promise<string> {
  const lacking = needed.filter(([name]) => !directories.some((directory) => existsSync(resolve(directory, name))));
  const own = base === MACHINE ? lacking.map(([, debianPackage]) => debianPackage) : [];
  return unpackedRoot([...own, ...extra], base);
}

/**
 * The private root tree of these packages, with what the machine, or `base`, lacks of their dependencies. Prints one line when it has
 * to fetch something.
 */
export async function unpackedRoot(names: readonly string[], base = MACHINE): Promise<string> {
  const packages = [...new Set(names)].sort();
  const wanted = hash(`${base === MACHINE ? "" : basename(base)}${packages.join(" ")}`);
  const statusFile = join(base, "var/lib/dpkg/status");
  const status = hash(existsSync(statusFile) ? await readFile(statusFile) : "");
  const roots = join(cacheDirectory, "roots");
  const name = `${wanted}-${status}`;
  const root = join(roots, name);
  if (existsSync(root)) return root;

  await mkdir(roots, { recursive: true });
  const draft = await draftDirectory();
  try {
    const unpacked = join(draft, "root");
    await mkdir(unpacked);
    if (packages.length > 0) {
      console.log(`fetching from Debian into .cache/lab (nothing is installed): ${packages.join(" ")}`);
      const archives = await download(draft, packages, base);
      await linkMergedUsr(unpacked, base);
      for (const archive of archives) await unpack(archive, unpacked);
    }
    for (const old of await readdir(roots)) {
      // Another lab may have fetched the same meanwhile, and be using it.
      if (old.startsWith(`${wanted}-`) && old !== name) await rm(join(roots, old), { recursive: true, force: true });
    }
    await rename(unpacked, root).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return root;
}

/** A directory in the cache for what is not finished; those of processes that are gone are removed. */
export async function draftDirectory(): Promise<string> {
  for (const name of await readdir(cacheDirectory)) {
    const [, pid] = /^draft-(\d+)-/.exec(name) ?? [];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    await rm(join(cacheDirectory, name), { recursive: true, force: true });
  }
  return mkdtemp(join(cacheDirectory, `draft-${process.pid}-`));
}

function hash(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex").slice(0, 12);
}

/** Downloads the packages and what `base` lacks of their dependencies; returns the archives' paths. */
export async function download(draft: string, packages: readonly string[], base = MACHINE): Promise<string[]> {
  const archives = join(draft, "archives");
  await mkdir(join(archives, "partial"), { recursive: true });
  const options = [
    ...(base === MACHINE ? [] : [`Dir=${base}`, `Dir::State::status=${join(base, "var/lib/dpkg/status")}`]),
    `Dir::Cache=${join(draft, "cache")}`,
    `Dir::Cache::archives=${archives}`,
    "Debug::NoLocking=1",
    "APT::Sandbox::User=root",
    "APT::Get::List-Cleanup=0",
  ];
  const install = ["--download-only", "--no-install-recommends", "--assume-yes", "-qq", "install", ...packages];
  await mkdir(join(draft, "cache"));
  const first = await apt(options, install);
  if (first.failed) {
    // There are no package lists, or stale ones: fetch lists of our own.
    const own = [...options, `Dir::State::lists=${join(draft, "lists")}`];
    await mkdir(join(draft, "lists", "partial"), { recursive: true });
    const update = await apt(own, ["-qq", "update"]);
    const second = await apt(own, install);
    if (second.failed) {
      throw new Error(
        `The lab cannot fetch ${packages.join(", ")} from Debian:\n${update.all ?? update.shortMessage}\n${second.all ?? ""}`,
      );
    }
  }
  const names = await readdir(archives);
  return names.filter((name) => name.endsWith(".deb")).map((name) => join(archives, name));
}

async function apt(options: readonly string[], args: readonly string[]) {
  return execa("apt-get", [...options.flatMap((option) => ["-o", option]), ...args], {
    reject: false,
    all: true,
    env: { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" },
    stdin: "ignore",
  });
}

/** Debian's merged /usr: /bin, /sbin and /lib are links, and a directory in an upper layer would hide them. */
async function linkMergedUsr(root: string, base: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]) {
    const target = await readlink(join(base, name)).catch(() => undefined);
    if (target === undefined) continue;
    await mkdir(join(root, resolve("/", target)), { recursive: true });
    await symlink(target, join(root, name));
  }
}

export async function unpack(archive: string, root: string): Promise<void> {
  const contents = execa("dpkg-deb", ["--fsys-tarfile", archive], { encoding: "buffer", buffer: false });
  await contents.pipe("tar", ["-x", "--keep-directory-symlink", "-p", "-f", "-", "-C", root]);
}
