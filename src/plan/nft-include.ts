// The line in the file of nftables.service with which a flush of all tables and our own rules are one transaction. That file is the
// administrator's: it is changed only when a setup is told to, by this one line, and stays theirs in all else.

import { realpath } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { type Own, readOthers } from "../fragments/directory.ts";
import { nftFileOf } from "../fragments/nft-directory.ts";
import { asFailure, excerpt, Failure, orElse } from "../model/errors.ts";
import { HOST_FILES, hostOwner } from "../model/owner.ts";
import type { Request } from "../model/request.ts";
import { refusalOf } from "../netfilter/own-table.ts";
import { untrustedAbove } from "../system/trust.ts";
import { showUnit } from "../systemd/units.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import type { FileChange } from "./item.ts";

/** Debian's; RHEL's unit names /etc/sysconfig/nftables.conf. */
const DEFAULT_CONF = "/etc/nftables.conf";

/** Ends the line that is ours to remove. */
const MARK = "# docker_iptables";

/** What loads all tables at boot, and whether it does. */
interface Conf {
  path: string;
  isUsed: boolean;
  file: Own | undefined;
}

/** Throws those of reading the file. */
async function findConf(timeout: number): Promise<Conf> {
  // Without systemd nothing is known but the usual name.
  const service = await showUnit("nftables.service", timeout).catch(orElse(undefined));
  const named = /-f (\/[^\s;]+)/.exec(service?.get("ExecStart") ?? "")?.[1] ?? DEFAULT_CONF;
  // An administrator may keep it elsewhere, and only link to it.
  const path = await realpath(named).catch(() => named);
  const isUsed = service?.get("UnitFileState") === "enabled" || service?.get("ActiveState") === "active";
  return { path, isUsed, file: await readOthers(path) };
}

type IncludeRequest = Pick<Request, "args" | "subject" | "host">;

/** What there is to do for it, and to say. */
export interface Include {
  /** With the line or without it; none where it stays as it is. */
  files: FileChange[];
  warnings: string[];
}

/** Of a host that has nothing to do with nftables. */
export const NO_INCLUDE: Include = { files: [], warnings: [] };

/**
 * A host that moves to iptables, or whose host rules are removed, has no use for the line. Lines that somebody else wrote are enough, and
 * stay.
 *
 * Throws Failure `include_impossible`: there is no such file, it cannot be changed, or nft refuses it with the line.
 */
export async function planInclude({ args, subject, host }: IncludeRequest): Promise<Include> {
  const loadsThere = args.backend === "nft" && subject.state === "present";
  const isWanted = args.nftables_include && loadsThere;
  const { path, isUsed, file } = await findConf(host.timeout).catch((error: unknown) => {
    const { message } = asFailure(error);
    if (isWanted) throw impossible(DEFAULT_CONF, `the file of nftables.service cannot be changed: ${message}`);
    // What cannot be read has no line of ours.
    return { ...orElse({ path: DEFAULT_CONF, isUsed: false })(error), file: undefined };
  });
  if (file === undefined) {
    if (isWanted) throw impossible(path, `${path} does not exist, so there is no file to include the rules in`);
    return NO_INCLUDE;
  }
  const after = isWanted ? withLine(file.text, args.nftables_dir) : withoutLine(file.text);
  const files = after === file.text ? [] : [{ path, before: file, after }];
  if (isWanted && files.length > 0) {
    await refuseUnsuitable(path, args.nftables_dir);
    const why = args.reload === "none" ? undefined : await refusalOf(after, host.timeout);
    if (why !== undefined) throw impossible(path, `nft refuses ${path} with the include: ${excerpt(why, 300)}`);
  }
  const advises = loadsThere && isUsed && args.reload !== "none";
  return { files, warnings: advises ? adviseFlush(path, after, args.nftables_dir).map(adviceSentence) : [] };
}

function impossible(path: string, why: string): Failure {
  const message = `${why}; nothing was changed: correct it, or set up without nftables_include (--no-nftables-include)`;
  return new Failure("include_impossible", message, { path });
}

/** Throws Failure `include_impossible` for a directory that nft would take for a pattern, and a file that others can exchange. */
async function refuseUnsuitable(path: string, directory: string): Promise<void> {
  if (/["*?[\]\\]/.test(directory)) throw impossible(path, `nft cannot include '${directory}' by its name`);
  const access = await untrustedAbove(path);
  if (access !== undefined) throw impossible(path, `users other than root can exchange ${access.path}, and so ${path}`);
}

function withLine(text: string, directory: string): string {
  const own = withoutLine(text);
  if (includesAll(own, directory)) return own;
  const line = `include "${directory}/*.nft" ${MARK}`;
  return `${own}${own === "" || own.endsWith("\n") ? "" : "\n"}${line}\n`;
}

function withoutLine(text: string): string {
  const isOurs = (line: string) => line.startsWith("include ") && line.trimEnd().endsWith(MARK);
  return text
    .split("\n")
    .filter((line) => !isOurs(line))
    .join("\n");
}

/** Whether a text, once it has flushed all tables, includes the host's files, of which the last includes the containers'. */
function includesAll(text: string, directory: string): boolean {
  const lines = text.split("\n").map((line) => line.trim());
  const patterns = lines.slice(lines.lastIndexOf(FLUSH) + 1).flatMap((line) => {
    const path = /^include\s+"([^"]+)"/.exec(line)?.[1] ?? "";
    return dirname(path) === directory ? [basename(path)] : [];
  });
  const files = HOST_FILES.map((file) => nftFileOf(hostOwner(file)));
  return files.every((file) => patterns.some((pattern) => matches(file, pattern)));
}

const FLUSH = "flush ruleset";

/** As glob(7), for * and ?; a class of characters matches nothing here. */
function matches(name: string, pattern: string): boolean {
  const words = pattern.split(/([*?])/).map((one) => {
    if (one === "*") return ".*";
    return one === "?" ? "." : one.replaceAll(/[\\^$.|+()[\]{}]/g, "\\$&");
  });
  return new RegExp(`^${words.join("")}$`).test(name);
}

/** Of a file that flushes all tables, and does not bring ours back itself: in between connections are refused. */
function adviseFlush(path: string, text: string, directory: string): Advice[] {
  if (!text.split("\n").some((line) => line.trim() === FLUSH) || includesAll(text, directory)) return [];
  const what = `${path} flushes all tables, ours too, when nftables.service starts or reloads; they are back within moments, in which connections break`;
  return [{ what, hint: "'docker_iptables setup --nftables-include' adds the line to it that makes both one step" }];
}
