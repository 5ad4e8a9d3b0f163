// Who besides root may change a fragment: he then decides about this host's packets.

import type { Stats } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Fragment } from "../iptables/assemble.ts";
import type { Access } from "../model/access.ts";
import { errno } from "../model/errors.ts";
import { isTrusted } from "../system/trust.ts";

/** Of a fragment that is open, `isLink` its name in the directory. Throws what node:fs throws. */
export async function accessOf(path: string, file: Stats, isLink: boolean): Promise<Access> {
  if (!isLink) return ownAccess(path, file);
  const target = await realpath(path);
  const own = ownAccess(path, file);
  // Whoever may write to the directory may put another file there. For its fragments this is reported once.
  return { ...(isTrusted(own) ? ownAccess(path, await stat(dirname(target))) : own), target };
}

/** The directory, if it is there, and those of its fragments that another user than root, or than ours, may change. */
export async function untrustedIn(directory: string, fragments: readonly Fragment[]): Promise<Access[]> {
  const own = await stat(directory).catch((error: unknown) => {
    if (errno(error) === "ENOENT") return undefined;
    throw error;
  });
  const all = [
    ...(own === undefined ? [] : [ownAccess(directory, own)]),
    ...fragments.flatMap(({ access = [] }) => access),
  ];
  return all.filter((access) => !isTrusted(access));
}

function ownAccess(path: string, { uid, mode }: Stats): Access {
  return { path, uid, mode: mode & 0o7777 };
}
