// The line in the file of nftables.service with which a flush of all tables and our own rules are one transaction. That file is the
// administrator's: it is changed only when a setup is told to, by this one line, and stays theirs in all else.

import { realpath } from "node:fs/promises";
import { type Own, readOthers } from "../fragments/directory.ts";
import { excerpt, Failure, orElse } from "../model/errors.ts";
import type { Request } from "../model/request.ts";
import { refusalOf } from "../netfilter/own-table.ts";
import { showUnit } from "../systemd/units.ts";
import type { Advice } from "../text/advice.ts";
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

/** Throws Failure `fragment_not_a_file`, `directory_unusable`, `permission_denied`. */
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

/**
 * The file with the line or without it; undefined where it stays as it is. A host that moves to iptables, or whose host rules are
 * removed, has no use for the line. A line that somebody else wrote is enough, and stays.
 *
 * Throws Failure `include_impossible` where there is no such file, or nft refuses it with the line; and those of reading it.
 */
export async function planInclude({ args, subject, host }: IncludeRequest): Promise<FileChange | undefined> {
  const { timeout } = host;
  const isWanted = args.nftables_include && args.backend === "nft" && subject.state === "present";
  const { path, file } = await findConf(timeout);
  if (file === undefined) {
    if (!isWanted) return undefined;
    const message = `${path} does not exist, so there is no file to include ${args.nftables_dir} in; set up without nftables_include: ${args.nftables_service} loads the rules`;
    throw new Failure("include_impossible", message, { path });
  }
  const after = isWanted ? withLine(file.text, args.nftables_dir) : withoutLine(file.text);
  if (after === file.text) return undefined;
  if (isWanted && args.reload !== "none") await refuseInvalid(path, after, timeout);
  return { path, before: file, after };
}

function withLine(text: string, directory: string): string {
  const own = withoutLine(text);
  if (own.split("\n").some((line) => includes(line, directory))) return own;
  const line = `include "${directory}/*.nft" ${MARK}`;
  return `${own}${own === "" || own.endsWith("\n") ? "" : "\n"}${line}\n`;
}

function withoutLine(text: string): string {
  const isOurs = (line: string) => line.startsWith("include ") && line.endsWith(MARK);
  return text
    .split("\n")
    .filter((line) => !isOurs(line))
    .join("\n");
}

function includes(line: string, directory: string): boolean {
  return line.trim().startsWith(`include "${directory}/`);
}

async function refuseInvalid(path: string, text: string, timeout: number): Promise<void> {
  const why = await refusalOf(text, timeout);
  if (why === undefined) return;
  const message = `${path} is unchanged, because nft refuses it with the include: ${excerpt(why, 300)}; correct it, or set up without nftables_include`;
  throw new Failure("include_impossible", message, { path });
}

/** Of a file that flushes all tables, and does not bring ours back itself: in between connections are refused. */
export async function adviseFlush({ args, host }: IncludeRequest): Promise<Advice[]> {
  const conf = await findConf(host.timeout).catch(orElse(undefined));
  if (args.nftables_include || conf?.file === undefined || !conf.isUsed) return [];
  const lines = conf.file.text.split("\n").map((line) => line.trim());
  if (!lines.includes("flush ruleset") || lines.some((line) => includes(line, args.nftables_dir))) return [];
  const what = `${conf.path} flushes all tables, ours too, when nftables.service starts or reloads; they are back within moments, in which connections break`;
  return [{ what, hint: `'docker_iptables setup --nftables-include' adds the line to it that makes both one step` }];
}
