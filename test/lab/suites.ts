/*
 * Debian releases for hosts to run, in place of the machine's own files: LAB_ROOT names one. A root file system is made once, by
 * debootstrap, and kept in .cache/lab/suites; then nothing is fetched any more. Nothing is installed on the machine.
 */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { cacheDirectory, download, draftDirectory, unpack } from "./packages.ts";

/** What a host of its own needs of a release, set up as on a machine. */
const PACKAGES =
  "ca-certificates conntrack dbus docker.io iproute2 iptables kmod netbase nodejs procps python3 systemd systemd-sysv util-linux";

/** The releases, with what each calls otherwise than the others. */
export const SUITES: Record<string, readonly string[]> = {
  bookworm: [],
  // The docker command is a package of its own there.
  trixie: ["docker-cli"],
  sid: ["docker-cli"],
};

/** The release that hosts run; undefined for the machine's own. Throws where it is not known. */
export function chosenSuite(): string | undefined {
  const suite = process.env["LAB_ROOT"];
  if (suite === undefined || suite === "") return undefined;
  if (suite in SUITES) return suite;
  throw new Error(`LAB_ROOT=${suite}: the lab knows ${Object.keys(SUITES).join(", ")}`);
}

/** The root file system of a release. Prints one line when it has to make it, which takes some minutes. */
export async function suiteRoot(suite: string): Promise<string> {
  const packages = [...PACKAGES.split(" "), ...(SUITES[suite] ?? [])].sort();
  const script = fileURLToPath(new URL("suite.sh", import.meta.url));
  const key = createHash("sha256").update(packages.join(" ")).digest("hex").slice(0, 12);
  const root = join(cacheDirectory, "suites", `${suite}-${key}`);
  if (existsSync(root)) return root;
  console.log(`lab: making a root file system of Debian ${suite} in .cache/lab (nothing is installed)`);
  await mkdir(join(cacheDirectory, "suites"), { recursive: true });
  const draft = await draftDirectory();
  try {
    const tools = join(draft, "tools");
    await mkdir(tools);
    for (const archive of await download(draft, ["debootstrap"])) await unpack(archive, tools);
    const namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"];
    const made = await execa(
      "unshare",
      [...namespaces, "sh", script, suite, join(draft, "root"), await mirror(), tools, ...packages],
      { all: true, reject: false, stdin: "ignore", timeout: 1_800_000 },
    );
    if (made.failed) throw new Error(`Debian ${suite} could not be made:\n${made.all?.slice(-5000)}`);
    await rename(join(draft, "root"), root).catch((error: NodeJS.ErrnoException) => {
      // Another lab may have made it meanwhile.
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return root;
}

/** Where the machine itself gets Debian's packages from. */
async function mirror(): Promise<string> {
  const { stdout } = await execa("apt-get", ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
  const found = stdout.split("\n").find((uri) => /\/debian\/?$/.test(uri));
  if (found === undefined)
    throw new Error("no source of apt's on this machine ends in /debian: there is no Debian to make hosts of");
  return found;
}
