// Asks the client (docker, podman, nerdctl), or in its place Docker's daemon (socket.ts): `inspect` and `network inspect`. What
// they say is checked, a document at a time, before anybody reads it (documents.ts).

import { basename } from "node:path";
import { excerpt, Failure } from "../model/errors.ts";
import type { Client } from "../model/request.ts";
import { commandFailure, follow, type Ran, run } from "../system/exec.ts";
import { spellCommand } from "../system/verbose.ts";
import type { Container } from "./container.ts";
import { type Answered, readContainers, readImages, readNetworks } from "./documents.ts";
import type { Network } from "./network.ts";
import { askDaemon } from "./socket.ts";

/** The ids of the containers that run. Throws Failure: see `ask`. */
export async function listContainers(client: Client): Promise<string[]> {
  // Other clients of containerd choose ids of their own, and nerdctl lists their containers, too.
  const pattern = basename(client.client) === "nerdctl" ? NAME : /^[0-9a-f]{12,64}$/;
  return listIds(client, "/containers/json", ["ps", "--quiet", "--no-trunc"], pattern);
}

/** The names of all containers, also of those that do not run. Throws Failure: see `ask`. */
export async function listNames(client: Client): Promise<string[]> {
  const { command, stdout } = await ask(client, ["ps", "--all", "--format", "{{.Names}}"]);
  // podman prints all names of one container in a line.
  return readIds(command, wordsOf(stdout, /[\n,]/), NAME);
}

/** Of a list that the daemon has at a path, or else of a client's command, which prints an id a line. */
async function listIds(client: Client, path: string, args: string[], pattern: RegExp): Promise<string[]> {
  const [listed] = (await askDaemon(client, [path])) ?? [];
  if (Array.isArray(listed)) {
    // podman's networks have a small id.
    const ids = listed.map((one) => String(one?.Id ?? one?.id ?? ""));
    return readIds(`GET ${path}`, ids, pattern);
  }
  const { command, stdout } = await ask(client, args);
  return readIds(command, wordsOf(stdout, "\n"), pattern);
}

/** What a client has printed, without the empty lines. */
function wordsOf(stdout: string, separator: string | RegExp): string[] {
  const words = stdout.split(separator).map((word) => word.trim());
  return words.filter((word) => word !== "");
}

/** An id, or a name, each. Anything else is refused: what is not understood must not pass for "nothing is there". */
function readIds(command: string, ids: string[], pattern: RegExp): string[] {
  const strange = ids.find((id) => !pattern.test(id));
  if (strange === undefined) return ids;
  const message = `'${command}' returned something that is not an id: ${excerpt(strange, 120) || "nothing"}`;
  throw new Failure("client_answer_invalid", message, { command });
}

/**
 * Those containers that exist; names without a container are left out.
 *
 * Plain `inspect`, not `container inspect` (Docker 1.13) nor `--format` (the client rewrites fields). It also finds
 * images and networks of that name.
 *
 * Throws Failure: see `ask`.
 */
export async function inspectContainers(client: Client, names: readonly string[]): Promise<Answered<Container>> {
  if (names.length === 0) return { usable: [], unusable: [] };
  const paths = names.map((name) => `/containers/${name}/json`);
  const { command, documents } = await askForDocuments(client, paths, ["inspect", ...names]);
  return readContainers(documents, command);
}

/** Those networks that exist. Throws Failure: see `ask`. */
export async function inspectNetworks(client: Client, names: readonly string[]): Promise<Answered<Network>> {
  if (names.length === 0) return { usable: [], unusable: [] };
  const paths = names.map((name) => `/networks/${name}`);
  const { command, documents } = await askForDocuments(client, paths, ["network", "inspect", ...names]);
  return readNetworks(documents, command);
}

/** The labels of those images that exist, by id. Throws Failure: see `ask`. */
export async function inspectImages(
  client: Client,
  ids: readonly string[],
): Promise<Map<string, Readonly<Record<string, string>>>> {
  const paths = ids.map((id) => `/images/${id}/json`);
  const { documents } = await askForDocuments(client, paths, ["image", "inspect", ...ids]);
  return readImages(documents);
}

/** Of the daemon's paths, or else of a client's command. Throws Failure: see `ask`. */
async function askForDocuments(
  client: Client,
  paths: readonly string[],
  args: string[],
): Promise<{ command: string; documents: unknown[] }> {
  const said = await askDaemon(client, paths);
  if (said === undefined) {
    const ran = await ask(client, args);
    return { command: ran.command, documents: parse(ran) };
  }
  return { command: `GET ${paths.join(" ")}`, documents: said.filter((document) => document !== undefined) };
}

/** All networks. Throws Failure: see `ask`. */
export async function inspectAllNetworks(client: Client): Promise<Answered<Network>> {
  // podman has names where the others have ids.
  return inspectNetworks(client, await listIds(client, "/networks", ["network", "ls", "--quiet"], NAME));
}

/** The daemon's version, e.g. "20.10.24"; undefined where the client does not say. Throws Failure: see `ask`. */
export async function askVersion(client: Client): Promise<string | undefined> {
  const { stdout } = await ask(client, ["version", "--format", "{{.Server.Version}}"]);
  return /^\d+\.\S+$/.test(stdout.trim()) ? stdout.trim() : undefined;
}

/** Who gets the daemon's events. */
export interface EventListener {
  /** One event, as JSON. */
  line: (line: string) => void;
  /** That events of the last moment may be missing. */
  gap: () => void;
}

/** milliseconds: a client follows the events by then, or the machine is busy. */
const CONNECTED = 1000;

/**
 * The daemon's events from a second ago on, until the client ends or the signal aborts; where the client cannot look back (nerdctl),
 * those from now on. Throws Failure: see `ask`.
 */
export async function followEvents(client: Client, listener: EventListener, signal: AbortSignal): Promise<void> {
  const follows = (since: string[]) =>
    follow(client.client, [...hostOption(client), "events", ...since, "--format", "{{json .}}"], listener.line, signal);
  let ran = await follows(["--since", "1s"]);
  if (ran.exitCode !== 0 && /unknown flag: --since/.test(ran.stderr) && !signal.aborted) {
    const timer = setTimeout(listener.gap, CONNECTED);
    ran = await follows([]).finally(() => clearTimeout(timer));
  }
  // One that was ended says nothing.
  if (ran.stderr.trim() !== "") refuseFailed(client.client, ran);
}

/** Of a container or a network. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** How each client names the option for its daemon's socket; docker's own is the common one. */
const HOST_OPTION = new Map([["podman", "--url"]]);

const NOT_FOUND = /no such (object|container|image|network)|network \S+ not found|no container with name/i;
const NO_RIGHTS = /permission denied|must be run as root|operation not permitted/i;
const NO_DAEMON =
  /cannot connect|is the docker daemon running|is the containerd daemon running|connection refused|cannot access containerd socket|unable to connect/i;

/**
 * Throws Failure: `daemon_unreachable`, `permission_denied`, `client_failed`, and those of `run`. That something does
 * not exist is no failure.
 */
async function ask(client: Client, args: string[]): Promise<Ran> {
  const ran = await run(client.client, [...hostOption(client), ...args], { timeoutSeconds: client.timeout });
  refuseFailed(client.client, ran);
  return ran;
}

/** A client's command as a shell reads it, with the daemon that it asks. */
export function clientCommand(client: Client): string {
  return spellCommand([client.client, ...hostOption(client)]);
}

/** The words that name the daemon's socket to the client; none where it knows its own. */
function hostOption({ client, docker_host }: Client): string[] {
  return docker_host === undefined ? [] : [HOST_OPTION.get(basename(client)) ?? "--host", docker_host];
}

function refuseFailed(client: string, ran: Ran): void {
  if (ran.exitCode === 0) return;
  // A warning (of an unreadable configuration, say) is no reason to fail.
  const said = ran.stderr.split("\n").filter((line) => line.trim() !== "" && !/^warning|level=(warn|info)/i.test(line));
  const someSay = (pattern: RegExp) => said.some((line) => pattern.test(line));
  if (someSay(NO_RIGHTS))
    throw commandFailure("permission_denied", `${client} has no permission to use its daemon; run as root`, ran);
  if (someSay(NO_DAEMON)) {
    throw commandFailure("daemon_unreachable", `${client} cannot reach its daemon; is it running?`, ran);
  }
  if (said.length > 0 && said.every((line) => NOT_FOUND.test(line))) return;
  throw commandFailure("client_failed", `${client} failed`, ran);
}

function parse(ran: Ran): unknown[] {
  let answer: unknown;
  try {
    answer = ran.stdout.trim() === "" && ran.exitCode !== 0 ? [] : JSON.parse(ran.stdout);
  } catch (error) {
    const message = `'${ran.command}' did not print JSON: ${excerpt(ran.stdout, 120) || "nothing"}`;
    throw new Failure("client_answer_invalid", message, { command: ran.command }, { cause: error });
  }
  if (Array.isArray(answer)) return answer;
  const message = `'${excerpt(ran.command)}' returned JSON that is not in the format of inspect: / must be array`;
  throw new Failure("client_answer_invalid", message, { command: ran.command, path: "" });
}
