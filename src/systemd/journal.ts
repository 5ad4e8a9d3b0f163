// One record in systemd's journal for each change: what was done, to what, for whom, as the journal reads it (systemd.journal-fields(7),
// "Journal Native Protocol"). Where this process cannot send it, logger(1) does.

import { access, readFile, readlink } from "node:fs/promises";
import { basename } from "node:path";
import type { Result } from "../generated/result.ts";
import { excerpt } from "../model/errors.ts";
import { sendDatagram } from "../system/datagram.ts";
import { run } from "../system/exec.ts";
import { compiledProgram } from "../system/program.ts";
import { oneLine } from "../text/visible.ts";

const SOCKET = "/run/systemd/journal/socket";
const PREFIX = "DOCKER_IPTABLES_";
/** seconds */
const PATIENCE = 5;

/** Who called: the process that started this one, and for whom both work. */
export interface Caller {
  pid: number;
  command: string;
  /** The systemd unit in whose cgroup we run, which is the caller's, too, unless systemd itself called; "" for none. */
  unit: string;
  /** Our own process. logger may have ended before the journal asks whose unit it was in; we have not. */
  self: string;
}

/** Never throws; of a process that has ended only the number is known. */
export async function readCaller(pid: number): Promise<Caller> {
  const read = (path: string) => readFile(`/proc/${path}`, "utf8").catch(() => "");
  const [cmdline, cgroup] = await Promise.all([read(`${pid}/cmdline`), read("self/cgroup")]);
  const unit = cgroup.split("\n").flatMap((line) => /\/([^/]+\.(?:service|scope))(?:\/|$)/.exec(line)?.[1] ?? [])[0];
  const self = await readlink("/proc/self").catch(() => "");
  return { pid, self, command: excerpt(cmdline.replaceAll("\0", " "), 200), unit: unit ?? "" };
}

/**
 * Writes the record where a journal is there, and says whether it did. It never throws, and takes no longer than some
 * seconds: the change is made, and the answer itself says what was done.
 */
export async function record(result: Result, caller: Caller, reasons: readonly string[] = []): Promise<boolean> {
  try {
    await access(SOCKET);
    const input = recordText(result, caller, reasons);
    // A script in logger's place is somebody's way to get the records.
    if ((await compiledProgram("logger")) !== undefined && (await sendDatagram(SOCKET, input))) return true;
    return (await run("logger", ["--journald"], { timeoutSeconds: PATIENCE, input })).exitCode === 0;
  } catch {
    return false;
  }
}

/** Whether a result is worth a record: something was changed, or was undone. */
export function isChange({ changed, rolled_back }: Result): boolean {
  return changed || rolled_back !== undefined;
}

/** Fields as `NAME=value`, a line each. Pure. */
export function recordText(result: Result, { pid, command, unit, self }: Caller, reasons: readonly string[]): string {
  const containers = (result.containers ?? []).filter(({ changed }) => changed).map(({ name }) => name);
  const files = (result.files ?? []).filter(({ change }) => change !== "unchanged").map(({ path }) => path);
  const fields: Record<string, string> = {
    MESSAGE: `${result.msg}${result.failed ? ` [${result.error?.code}]` : ""}${because(reasons, command)}`,
    PRIORITY: result.failed ? "3" : "6",
    SYSLOG_IDENTIFIER: "docker_iptables",
    OBJECT_PID: self,
    [`${PREFIX}RESULT`]: result.failed ? (result.error?.code ?? "failed") : "done",
    [`${PREFIX}STATE`]: result.state ?? "",
    [`${PREFIX}CONTAINERS`]: containers.join(" "),
    [`${PREFIX}FILES`]: files.join(" "),
    [`${PREFIX}RELOADED`]: (result.reloaded ?? []).join(" "),
    [`${PREFIX}ROLLED_BACK`]: (result.rolled_back ?? []).join("; "),
    [`${PREFIX}REASONS`]: reasons.join(", "),
    [`${PREFIX}CALLER`]: command,
    [`${PREFIX}CALLER_PID`]: String(pid),
    [`${PREFIX}CALLER_UNIT`]: unit,
  };
  return Object.entries(fields)
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${name}=${oneLine(value)}\n`)
    .join("");
}

function because(reasons: readonly string[], command: string): string {
  const name = basename(command.split(" ")[0] ?? "");
  const why = reasons.length > 0 ? reasons.join(", ") : name && `called by ${name}`;
  return why === "" ? "" : ` (${why})`;
}
