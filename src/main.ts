// The executable: picks the door, answers once, sets the exit status. The only user of process.*, save the environment.

import { IPTABLES } from "./apply/iptables-backend.ts";
import { nftBackend } from "./apply/nft-backend.ts";
import { NFT } from "./apply/nft-load.ts";
import { paintFor } from "./cli/colours.ts";
import { asksForCheck, type Command, readCommand, UsageError } from "./cli/command.ts";
import { askToKeep } from "./cli/dialog.ts";
import { completeCommand, completeCommands, namesCommand } from "./cli/hints.ts";
import { type Raw, readArgsFile, readStdin } from "./cli/json.ts";
import { printCheck, printUnknown } from "./cli/nagios.ts";
import { type Printed, printForPerson, printJson, type Reader } from "./cli/print.ts";
import { printMetrics } from "./cli/prometheus.ts";
import { readRequest, type Surroundings, settingsPathOf, truthy } from "./cli/request.ts";
import {
  resultOf,
  resultOfConfirm,
  resultOfExplain,
  resultOfFailure,
  resultOfList,
  resultOfLoad,
  resultOfRevert,
  resultOfStatus,
  withWantedInvocation,
} from "./cli/result.ts";
import { StatusLine } from "./cli/status-line.ts";
import { confirm, loadAndWait, revert } from "./commands/confirm.ts";
import { explain } from "./commands/explain.ts";
import { listNames } from "./commands/names.ts";
import { publish } from "./commands/publish.ts";
import { describeReason } from "./commands/reasons.ts";
import { listPublished, status } from "./commands/status.ts";
import { type Reporter, watch } from "./commands/watch.ts";
import type { Listener } from "./docker/find.ts";
import type { Result } from "./generated/result.ts";
import { restoreCommand } from "./iptables/commands.ts";
import { asFailure, Failure } from "./model/errors.ts";
import { placesOf, type Request, removesHost, setsUp } from "./model/request.ts";
import type { HostSettings } from "./model/settings.ts";
import { shareSeen } from "./netfilter/kept.ts";
import type { Host, HostRequest } from "./plan/backend.ts";
import { settingsAfter } from "./plan/settings.ts";
import { everyVariable, forget, variable } from "./system/environment.ts";
import { isInstalled } from "./system/exec.ts";
import { isOverSsh } from "./system/remote.ts";
import { keepLastValid, readSettingsFile, refuseUntrustedPlace } from "./system/settings-file.ts";
import {
  chunksOf,
  type Descriptor,
  mayBeTerminal,
  STDERR,
  STDIN,
  STDOUT,
  writeAll,
} from "./system/standard-streams.ts";
import { stateOf } from "./system/state.ts";
import { spellCommand, startVerbose, verbose } from "./system/verbose.ts";
import { recordedSettings } from "./systemd/install.ts";
import { isChange, readCaller, record } from "./systemd/journal.ts";
import { oneLine } from "./text/visible.ts";

declare const VERSION: string;
/** The commit, and what kind of program it is. */
declare const ORIGIN: string;

interface Answer extends Printed {
  exitCode: number;
}

async function answer(argv: readonly string[]): Promise<Answer> {
  const isAlwaysVerbose = /^(1|true|yes|on)$/i.test(variable("DOCKER_IPTABLES_VERBOSE") ?? "");
  if (isAlwaysVerbose) showEvents(argv);
  const [first] = argv;
  if (first === undefined) {
    if (isTerminal(STDIN)) throw new UsageError("give a verb, or JSON on stdin");
    leaveOthersState();
    return fulfil(() => readStdin(chunksOf(STDIN)), printJson);
  }
  if (argv.length === 1 && isArgsFile(first)) {
    leaveOthersState();
    return fulfil(() => readArgsFile(first), printJson);
  }
  const command = readCommand(argv);
  if (command.kind === "text") return { stdout: command.text, stderr: "", exitCode: 0 };
  if (command.kind === "names") return printNames(command);
  if (command.kind === "version")
    return { stdout: `docker_iptables ${VERSION} (${ORIGIN})\n`, stderr: "", exitCode: 0 };
  if (command.verbose && !isAlwaysVerbose) showEvents(argv);
  else if (!isAlwaysVerbose && !command.json && command.verb !== "watch") showProgress();
  if (isDialog(command)) await adviseConfirm(command);
  if (command.verb !== "load" && command.verb !== "watch") leaveOthersState();
  const reader: Reader = {
    check: command.raw["_ansible_check_mode"] === true,
    // A serial console may say that it has none.
    columns: isTerminal(STDOUT) ? process.stdout.columns || 80 : undefined,
    stdout: paintFor(isTerminal(STDOUT), everyVariable()),
    stderr: paintFor(isTerminal(STDERR), everyVariable()),
  };
  const print = printerOf(command, reader);
  return fulfil(async () => command.raw, print, handlerOf(command), command.verb);
}

function printerOf(
  command: Exclude<Command, { kind: "text" | "names" | "version" }>,
  reader: Reader,
): (result: Result) => Printed {
  if (command.kind === "status" && command.format === "prometheus") return (result) => printMetrics(result, VERSION);
  if (command.kind === "status" && command.format === "nagios") return printCheck;
  return command.json ? printJson : (result) => printForPerson(result, reader);
}

/** What a shell completes, with the host's own client. */
async function printNames({ raw, named }: Extract<Command, { kind: "names" }>): Promise<Answer> {
  const names = await listNames(named, requestOf(raw, await settingsOf(raw), false));
  return { stdout: names.map((name) => `${name}\n`).join(""), stderr: "", exitCode: 0 };
}

/** From now on each command and each decision is a line on stderr. */
function showEvents(argv: readonly string[]): void {
  startVerbose((line) => tell(`${line}\n`));
  const program = `docker_iptables ${VERSION} (${ORIGIN}), Node.js ${process.versions.node}`;
  verbose(() => `${program}, process ${process.pid}, user ${process.getuid?.()}: ${spellCommand(argv)}`);
}

/** What a container's unit keeps (StateDirectory=web) is not ours to write in, and our state is where loads expect it. */
function leaveOthersState(): void {
  if (!/\/docker_iptables$/.test(variable("STATE_DIRECTORY") ?? "")) forget("STATE_DIRECTORY");
}

function handlerOf(command: Exclude<Command, { kind: "text" | "names" | "version" }>): Handler {
  const listener = command.json ? undefined : listenerFor(command.raw);
  switch (command.kind) {
    case "publish":
      return (raw, settings, stop) => publishContainers(raw, settings, stop, listener);
    case "load":
      return (raw, settings, stop) => loadHost(raw, settings, command, stop);
    case "confirm":
      return confirmChange;
    case "revert":
      return (raw, settings, stop) => revertChange(raw, settings, stop, command.isTimers);
    case "explain":
      return explainContainers;
    case "status":
      return statusOfHost;
    case "ls":
      return listHost;
    case "watch":
      return watchHost;
  }
}

/** Who reads stderr; a person at a terminal who has not asked to wait for a name may have mistyped it. */
function listenerFor(raw: Raw): Listener {
  if (statusLine === undefined) return { tell: complain };
  const line = statusLine;
  return {
    tell: complain,
    count: (what, seconds) => line.count(what, seconds),
    correctsNames: raw["wait_timeout"] === undefined,
  };
}

/** Where a person looks on. */
let statusLine: StatusLine | undefined;

/** Shows on a terminal what a call does that takes long. */
function showProgress(): void {
  if (!isTerminal(STDERR)) return;
  const isDumb = everyVariable()["TERM"] === "dumb";
  const line = new StatusLine(tell, process.stderr.columns || 80, () => performance.now(), isDumb);
  statusLine = line;
  startVerbose((event) => line.event(event));
}

/** A line for whoever reads along. */
function complain(line: string): void {
  statusLine?.clear();
  tell(`${oneLine(line)}\n`);
}

/** `stop` is aborted by a signal. */
type Handler = (
  raw: Raw,
  settings: HostSettings,
  stop: AbortSignal,
) => { request: Request; result: () => Promise<Result> };

/** What is asked of this host, and of its packet filter. Throws Failure as `readRequest`. */
function requestOf(raw: Raw, settings: HostSettings, named = true): HostRequest {
  const request = readRequest(raw, surroundings(), settings, named);
  const { args } = request;
  const hostWith = (backend: HostRequest["args"]["backend"]): Host => ({
    ...request.host,
    ...placesOf({ ...args, backend }),
    backend: backend === "nft" ? nftBackend(args.nftables_dir) : IPTABLES,
  });
  const other = hostWith(args.backend === "nft" ? "iptables" : "nft");
  return { ...request, host: { ...hostWith(args.backend), other } };
}

/** milliseconds between two looks of the watcher at the settings. */
const SETTINGS_PAUSE = 1000;

/** seconds; the limit of a look at systemd before the arguments are read. */
const LOOK = 10;

/**
 * What is in force on this host. One that was set up before there were settings has them in the flags of its watcher: only a setup
 * asks for them, and writes them down.
 */
async function settingsOf(raw: Raw): Promise<HostSettings> {
  const isSetup = truthy(raw["base"]) && raw["state"] !== "absent";
  const isNamed = typeof raw["config"] === "string" && !isSetup;
  const settings = await readSettingsFile(settingsPathOf(raw, surroundings()), isNamed);
  if (settings.file !== undefined || settings.unusable !== undefined || !truthy(raw["base"])) return settings;
  // What is wrong with the arguments is said before anybody is asked.
  readRequest(raw, surroundings(), settings, false);
  const known = { ...settings, ...(await recordedSettings(LOOK)) };
  return isSetup && isUnset(raw["backend"]) ? withBackend(known) : known;
}

function isUnset(value: unknown): boolean {
  return value === undefined || value === null;
}

/** A host without iptables has nftables, if anything. */
async function withBackend(settings: HostSettings): Promise<HostSettings> {
  const hasIptables = await isInstalled(restoreCommand("ipv4"), LOOK);
  if (hasIptables || !(await isInstalled(NFT, LOOK))) return settings;
  const chosen =
    "this host has no iptables, so the backend is nftables: docker_iptables' rules are the table inet docker_iptables";
  return { ...settings, values: { backend: "nft", ...settings.values }, chosen };
}

/** A call by JSON: it changes something, or only asks. A copy of this program may be one that only asks (ansible/collection.ts). */
function callByJson(raw: Raw, settings: HostSettings, stop: AbortSignal): ReturnType<Handler> {
  switch (raw["query"]) {
    case "status":
      return statusOfHost(raw, settings);
    case "ls":
      return listHost(raw, settings);
    case "explain":
      return explainContainers(raw, settings, stop);
  }
  return ONLY_ASKS ? statusOfHost(raw, settings) : publishContainers(raw, settings, stop);
}

const ONLY_ASKS = "docker_iptables_only_asks" in globalThis;

/** present and absent, of every door. What takes rules away does not stop because of a slip in the settings. */
function publishContainers(
  raw: Raw,
  settings: HostSettings,
  stop: AbortSignal,
  listener?: Listener,
): ReturnType<Handler> {
  const request = requestOf(raw, settings);
  const { state, base, containers, all } = request.subject;
  const opens = state === "present" || (base && containers.length === 0 && !all);
  return {
    request,
    result: async () => {
      if (settings.unusable !== undefined && opens) throw settings.unusable;
      if (setsUp(request.subject) && settings.file === undefined) await refuseUntrustedPlace(settings.path);
      shareSeen(stateOf("ipv4", request.host.directories.ipv4), !request.check && !removesHost(request.subject));
      const outcome = await publish(warned(request), stop, listener);
      // Those that wait for a confirmation are not in force yet.
      const isKept = !request.check && outcome.committed.waits === undefined;
      if (isKept) await keepLastValid(settingsAfter(request));
      return asked(resultOf(request, outcome), request, stop);
    },
  };
}

/** What is wrong. */
function statusOfHost(raw: Raw, settings: HostSettings): ReturnType<Handler> {
  const request = requestOf(raw, settings, false);
  return { request, result: async () => resultOfStatus(request, await status(request)) };
}

/** With a warning where the settings cannot be used. */
function warned(request: HostRequest): HostRequest {
  const { unusable } = request.settings;
  if (unusable !== undefined) request.warnings.push(withLastValid(unusable).message);
  return request;
}

/** What is published. */
function listHost(raw: Raw, settings: HostSettings): ReturnType<Handler> {
  const request = warned(requestOf(raw, settings, false));
  return { request, result: async () => resultOfList(request, await listPublished(request)) };
}

/** Who reaches what. */
function explainContainers(raw: Raw, settings: HostSettings, stop: AbortSignal): ReturnType<Handler> {
  const request = warned(requestOf(raw, settings));
  return { request, result: async () => resultOfExplain(request, await explain(request, stop)) };
}

/** The verb of the services that load the directories. With settings that cannot be used it loads, and then fails. */
function loadHost(
  raw: Raw,
  settings: HostSettings,
  command: Extract<Command, { kind: "load" }>,
  stop: AbortSignal,
): ReturnType<Handler> {
  const request = requestOf(raw, settings, false);
  const { families, keepUndeclared } = command;
  return {
    request,
    result: async () => {
      const loaded =
        request.confirm === undefined || request.check
          ? await request.host.backend.loadHost({ host: request.host, check: request.check, families, keepUndeclared })
          : await loadAndWait(request, families, keepUndeclared, request.confirm);
      const result = resultOfLoad(request, loaded);
      if (settings.unusable !== undefined) throw afterLoad(settings.unusable, result);
      if (!request.check) await keepLastValid(settings);
      return asked(result, request, stop);
    },
  };
}

/** Keeps a change that waits. */
function confirmChange(raw: Raw, settings: HostSettings): ReturnType<Handler> {
  const request = warned(requestOf(raw, settings, false));
  return { request, result: () => confirmed(request, settings) };
}

/** `settings` are those that are in force from then on; of a host that is not set up any more nothing is kept. */
async function confirmed(request: HostRequest, settings: HostSettings): Promise<Result> {
  const kept = await confirm(request);
  if (!request.check && kept.what !== "setup --remove") await keepLastValid(settings);
  return resultOfConfirm(request, kept);
}

/** Puts a change back that waits. */
function revertChange(raw: Raw, settings: HostSettings, stop: AbortSignal, isTimers: boolean): ReturnType<Handler> {
  const request = requestOf(raw, settings, false);
  return { request, result: async () => resultOfRevert(request, await revert(request, isTimers, stop)) };
}

/** Whether a person reads along who can answer. */
function isDialog({ json }: Pick<Exclude<Command, { kind: "text" | "version" }>, "json">): boolean {
  return !json && isTerminal(STDIN) && isTerminal(STDERR);
}

/** Whoever changes a firewall from afar may lock himself out. */
async function adviseConfirm({ verb, raw }: Exclude<Command, { kind: "text" | "names" | "version" }>): Promise<void> {
  const isCheck = raw["_ansible_check_mode"] === true;
  if (!["setup", "load"].includes(verb) || isCheck || raw["confirm"] !== undefined) return;
  if (await isOverSsh(process.ppid))
    complain("over ssh, --confirm 60 puts everything back after a minute unless you confirm it");
}

/** A change that waits, once a person at the terminal has said what becomes of it. */
async function asked(result: Result, request: HostRequest, stop: AbortSignal): Promise<Result> {
  const { unconfirmed } = result;
  if (unconfirmed === undefined || statusLine === undefined || !isTerminal(STDIN)) return result;
  complain(result.msg);
  const reply = await askToKeep(Date.parse(unconfirmed.until), statusLine, process.stdin, stop);
  if (reply === "gone") return result;
  if (reply === "keep") return confirmed(request, settingsAfter(request));
  const outcome = await revert(request, reply === "late", stop);
  // Its timer was first.
  const what = request.subject.base ? "setup" : "load";
  return resultOfRevert(request, outcome ?? { what, done: [], warnings: [] });
}

/** What was loaded without them. */
function afterLoad(unusable: Failure, { changed, msg }: Result): Failure {
  const failure = new Failure(
    unusable.code,
    `${unusable.message}; ${msg}, with the last valid settings`,
    unusable.facts,
  );
  failure.changed = changed;
  return failure;
}

function surroundings(): Surroundings {
  return { env: everyVariable(), cwd: currentDirectory() };
}

/** Undefined where it was removed under us. */
function currentDirectory(): string | undefined {
  try {
    return process.cwd();
  } catch {
    return undefined;
  }
}

/** Door 2 has one argument, a path. A word without a slash is none: the current directory may be another user's. */
function isArgsFile(argument: string): boolean {
  return argument.includes("/") && !argument.startsWith("-");
}

function helpHint(verb: string | undefined): string {
  return `Try 'docker_iptables ${verb === undefined ? "" : `${verb} `}--help'.\n`;
}

/** The one catch: whatever went wrong becomes the same kind of answer. */
async function fulfil(
  read: () => Promise<Raw>,
  print: (result: Result) => Printed,
  handler: Handler = callByJson,
  verb?: string,
): Promise<Answer> {
  let raw: Raw = {};
  let request: Request | undefined;
  try {
    raw = await Promise.race([read(), astray]);
    const stop = onSignal();
    const todo = handler(raw, await settingsOf(raw), stop);
    request = todo.request;
    verbose(() => `request: ${describeRequest(raw, todo.request)}`);
    const result = await completed(await Promise.race([todo.result(), astray]), request);
    await note(request, result);
    return { exitCode: verb === undefined ? 0 : exitCodeOf(result), ...print(withWantedInvocation(result, raw)) };
  } catch (error) {
    verbose(() => `failed: ${asFailure(error).code}: ${asFailure(error).message}`);
    const debug = request?.args.debug ?? raw["debug"] === true;
    const result = await completed(resultOfFailure(error, request, debug, "_task" in raw), request);
    await note(request, result);
    // A value that no argument takes is wrong usage of a verb, as an option is that there is not.
    const isUsage = verb !== undefined && request === undefined && asFailure(error).code === "arguments_invalid";
    if (!isUsage) return { exitCode: 1, ...print(withWantedInvocation(result, raw)) };
    const { stdout, stderr, exitCode = 2 } = print(result);
    return { stdout, stderr: stderr === "" ? "" : `${stderr}${helpHint(verb)}`, exitCode };
  }
}

/** The arguments that the caller gave, without Ansible's and Bolt's own, and what they are for. */
function describeRequest(raw: Raw, { check, diff }: Request): string {
  const given = Object.entries(raw).filter(([name]) => !name.startsWith("_"));
  return [JSON.stringify(Object.fromEntries(given)), ...(check ? ["check"] : []), ...(diff ? ["diff"] : [])].join(", ");
}

/**
 * With the commands that it names as they are right on this host. Only of what is wrong is systemd asked how it was set up: a
 * warning costs no process.
 */
async function completed(result: Result, request: Request | undefined): Promise<Result> {
  if (request === undefined || !namesCommand(result)) return result;
  const isWrong = result.failed === true || (result.problems ?? []).length > 0;
  const isUnknown = isWrong && request.settings.file === undefined;
  return completeCommands(result, request, isUnknown ? (await recordedSettings(request.args.timeout)).values : {});
}

/** status: 3 for problems, as monitoring checks expect; 1 where the daemon could not be asked. */
function exitCodeOf({ problems = [] }: Result): number {
  if (problems.some(({ kind }) => kind === "daemon_unreachable")) return 1;
  return problems.length > 0 ? 3 : 0;
}

/** Who did what, for the journal. Says whether it is recorded there. */
async function note(request: Request | undefined, result: Result, reasons: readonly string[] = []): Promise<boolean> {
  if (request?.check !== false || !isChange(result)) return false;
  return record(result, await readCaller(process.ppid), reasons);
}

/** Until a signal. Settings that change are in force from then on, as for a watcher that is started anew. */
function watchHost(raw: Raw, settings: HostSettings, stop: AbortSignal): ReturnType<Handler> {
  const request = watchRequest(raw, settings);
  const watchdog = Number(variable("WATCHDOG_USEC"));
  const manager = { socket: variable("NOTIFY_SOCKET"), watchdogMicroseconds: watchdog > 0 ? watchdog : undefined };
  return {
    request,
    result: async () => {
      let now = request;
      while (!stop.aborted) {
        const { signal, end } = untilChanged(now.settings, () => settingsOf(raw), stop);
        await watch(now, manager, reporterOf(now), signal).finally(end);
        const settings = stop.aborted ? now.settings : await settingsOf(raw).catch(() => now.settings);
        now = watchRequest(raw, settings);
      }
      return { changed: false, msg: "watched until the signal to stop", comment: "", warnings: [] };
    },
  };
}

/** It loads in its own process what a service would load for it: a process less for each change. */
function watchRequest(raw: Raw, settings: HostSettings): HostRequest {
  const request = requestOf(raw, settings);
  const { reload } = request.loading;
  const isGiven = request.origins["reload"] === "argument";
  return { ...request, loading: { ...request.loading, reload: reload === "systemd" && !isGiven ? "restore" : reload } };
}

/** Each change is a record in the journal, and a line where the output is not the journal. */
function reporterOf(request: HostRequest): Reporter {
  // systemd.exec(5): set where the output is the journal.
  const inJournal = variable("JOURNAL_STREAM") !== undefined;
  const { unusable } = request.settings;
  const failed: Reporter["failed"] = ({ code, message }) =>
    complain(`docker_iptables: ${completeCommand(message, request)} [${code}]`);
  if (unusable !== undefined) failed(withLastValid(unusable));
  let warned = "";
  let kept = false;
  return {
    synced: async (outcome, reasons) => {
      const result = completeCommands(resultOf(request, outcome), request, {});
      const because = reasons.map(describeReason);
      const recorded = await note(request, result, because);
      const why = because.length > 0 ? ` (${oneLine(because.join(", "))})` : "";
      if (result.changed && !(recorded && inJournal)) say(`${result.msg}${why}\n`);
      const warnings = result.warnings.map((warning) => `warning: ${warning}\n`).join("");
      if (warnings !== warned) tell(warnings);
      warned = warnings;
      if (!kept) await keepLastValid(request.settings);
      kept = true;
    },
    failed,
  };
}

/** Of what does not stop because of a slip in the settings. */
function withLastValid({ code, message, facts }: Failure): Failure {
  return new Failure(code, `${message}; until then the last valid settings are used`, facts);
}

/** Aborted by `stop`, or once the settings are others than these. A look that fails is taken again. */
function untilChanged(
  { file, unusable }: HostSettings,
  look: () => Promise<HostSettings>,
  stop: AbortSignal,
): { signal: AbortSignal; end: () => void } {
  const changed = new AbortController();
  const timer = setInterval(async () => {
    const now = await look().catch(() => undefined);
    if (now === undefined) return;
    if (now.file?.text !== file?.text || now.unusable?.message !== unusable?.message) changed.abort();
  }, SETTINGS_PAUSE);
  return { signal: AbortSignal.any([stop, changed.signal]), end: () => clearInterval(timer) };
}

/**
 * Rejects with an error that nothing catches, and if nothing is left to wait for and there is no answer. What still runs is ended
 * as by a signal.
 */
const astray = new Promise<never>((_, reject) => {
  for (const event of ["uncaughtException", "unhandledRejection"]) {
    process.on(event, (error: unknown) => {
      reject(error);
      process.emit("SIGTERM", "SIGTERM");
    });
  }
  process.once("beforeExit", () => reject(new Error("it ended without an answer")));
});
astray.catch(() => {});

/** SIGTERM and SIGINT end a wait; a transaction that has begun is finished or rolled back, then answered. */
function onSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      verbose(() => `signal: ${name}`);
      controller.abort();
    });
  }
  return controller.signal;
}

function isTerminal(descriptor: Descriptor): boolean {
  if (!mayBeTerminal(descriptor)) return false;
  switch (descriptor) {
    case STDIN:
      return process.stdin.isTTY;
    case STDOUT:
      return process.stdout.isTTY;
    case STDERR:
      return process.stderr.isTTY;
  }
}

/** A line while the work goes on, which does not wait for whoever reads it. */
function tell(text: string): void {
  streams().stderr.write(text);
}

function say(text: string): void {
  streams().stdout.write(text);
}

/** A reader that is gone, or a full disk behind a redirection: only the exit status can still tell the caller. */
function streams(): Pick<typeof process, "stdout" | "stderr"> {
  if (!isStreaming) {
    process.stderr.on("error", () => {});
    process.stdout.on("error", lose);
  }
  isStreaming = true;
  return process;
}

let isStreaming = false;

function lose(): void {
  process.exitCode = 1;
  isLost = true;
}

let isLost = false;

/** The last words: nothing else is left to do. */
function end({ stdout, stderr, exitCode }: Answer): void {
  if (isStreaming) {
    tell(stderr);
    say(stdout);
  } else {
    try {
      writeAll(STDERR, stderr);
    } catch {}
    try {
      writeAll(STDOUT, stdout);
    } catch {
      isLost = true;
    }
  }
  process.exitCode = isLost ? 1 : exitCode;
}

answer(process.argv.slice(2))
  .catch((error: unknown): Answer => {
    const paint = paintFor(isTerminal(STDERR), everyVariable());
    const line = (message: string) => `${paint("red", `docker_iptables: ${oneLine(message)}`)}\n`;
    const isUsage = error instanceof UsageError;
    const { message, code } = isUsage ? { message: error.message, code: "arguments_invalid" } : asFailure(error);
    // To Nagios, 2 would be that rules are wrong.
    if (asksForCheck(process.argv.slice(2))) return printUnknown(`${oneLine(message)} [${code}]`);
    if (isUsage) return { stdout: "", stderr: `${line(message)}${helpHint(error.verb)}`, exitCode: 2 };
    return { stdout: "", stderr: line(`${message} [${code}]`), exitCode: 1 };
  })
  .then((said) => {
    verbose(() => `done: exit status ${said.exitCode}`);
    statusLine?.clear();
    end(said);
  });
