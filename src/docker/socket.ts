// Asks the Docker daemon itself, on its socket, what its client would ask it for us: a client is a process of some 25 ms,
// the daemon's answer takes 2. Where anything is unusual it answers nothing, and the client is asked, which knows better and
// has the words for what is wrong: a host or a context of the client's own, a socket on which it is not Docker that answers.
//
// The paths bear no version, so a daemon answers as its own release's client would have it (Docker's API reference). HTTP/1.0
// is all that is needed: the answer comes in one piece and ends with the connection. node:http would take 10 ms to begin with.
//
// podman's service answers the same paths, and its documents there name no bridge: it is asked on paths of its own, which have
// what `podman inspect` prints (podman's API reference, "libpod"; tried, 5.4 and 5.8).

import { constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { errno, excerpt, Failure } from "../model/errors.ts";
import type { Client } from "../model/request.ts";
import { variable } from "../system/environment.ts";
import { inLanes } from "../system/lanes.ts";
import { verbose, verboseSpan } from "../system/verbose.ts";

const DEFAULT_HOST = "unix:///var/run/docker.sock";
/** bytes; a container with 10,000 ports is 2 MB. */
const LIMIT = 64 * 1024 * 1024;

/**
 * The JSON that the daemon answers to a GET of each path; undefined for what is not there. Undefined as a whole where the
 * client is to be asked. Throws Failure `command_timeout`.
 */
export async function askDaemon(
  { client, docker_host, timeout }: Client,
  paths: readonly string[],
): Promise<unknown[] | undefined> {
  // An executable named by its path is to be run.
  const socket = client === "docker" ? await findSocket(docker_host) : undefined;
  if (socket === undefined) return undefined;
  const open = new Set<Socket>();
  try {
    return await inLanes(paths, async (path) => {
      const said = await get(socket, path, timeout, open);
      const podmans = podmansPath(said, path);
      if (podmans === undefined) return readAnswer(said, DOCKERS);
      return readAnswer(await get(socket, podmans, timeout, open), PODMANS);
    });
  } catch (error) {
    // Nothing waits for the others, and they would keep the process running.
    for (const connection of open) connection.destroy();
    if (error instanceof Failure) throw error;
    verbose(() => `daemon: unusable answer from ${socket}, using ${client} instead: ${reasonOf(error)}`);
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Words, ids and names, each of which begins with a letter or a digit: no `..`, no query, no space, no end of a line. */
const PATH = /^(\/[a-zA-Z0-9][a-zA-Z0-9_.-]*)+$/;

/**
 * What the daemon says to one question, head and body; `open` has the connection meanwhile. Throws Failure
 * `command_timeout`, and what node:net throws.
 */
async function get(socket: string, path: string, timeout: number, open: Set<Socket>): Promise<string> {
  // No other characters may be part of a requested path, or it could end early.
  if (!PATH.test(path)) throw new Error("no path");
  const answered = verboseSpan(() => `GET ${path} on ${socket}`);
  const connection = connect(socket);
  open.add(connection);
  const timer = setTimeout(() => {
    const message = `the Docker daemon did not answer on ${socket} within ${timeout} s; see 'systemctl status docker', or raise timeout`;
    connection.destroy(new Failure("command_timeout", message, { command: `GET ${path}`, path: socket, timeout }));
  }, timeout * 1000);
  try {
    connection.write(`GET ${path} HTTP/1.0\r\nHost: docker\r\n\r\n`);
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of connection) {
      size += chunk.length;
      if (size > LIMIT) throw new Error("too large");
      chunks.push(chunk);
    }
    const said = Buffer.concat(chunks).toString("utf8");
    answered(() => `GET: ${excerpt(said.slice(0, said.indexOf("\r")), 80)}, ${size} bytes`);
    return said;
  } catch (error) {
    answered(() => `GET: no answer: ${reasonOf(error)}`);
    throw error;
  } finally {
    clearTimeout(timer);
    open.delete(connection);
  }
}

/** Where podman has its own answer to the same question; undefined where it is not podman that has answered. */
function podmansPath(said: string, path: string): string | undefined {
  const version = /\r\nserver: libpod\/(\d[a-z0-9.-]*) /i.exec(headOf(said))?.[1];
  return version === undefined ? undefined : `/v${version}/libpod${path === "/networks" ? "/networks/json" : path}`;
}

function headOf(said: string): string {
  return said.slice(0, said.indexOf("\r\n\r\n") + 2);
}

const DOCKERS = /\r\nserver: docker\//i;
const PODMANS = /\r\nserver: libpod\//i;

/** Throws where it is another `server` that answers, or not as expected. */
function readAnswer(said: string, server: RegExp): unknown {
  const head = headOf(said);
  const status = /^HTTP\/1\.[01] (\d{3}) /.exec(head)?.[1];
  if (!server.test(head)) throw new Error(server === DOCKERS ? "not Docker" : "not podman");
  if (status === "404") return undefined;
  if (status !== "200") throw new Error(`status ${status}`);
  return JSON.parse(said.slice(head.length + 2));
}

/** Whether it is this host's own daemon that the client asks, as far as is known. */
export async function asksThisHost({ client, docker_host }: Pick<Client, "client" | "docker_host">): Promise<boolean> {
  return client === "docker" && (await findSocket(docker_host)) !== undefined;
}

/** Where the client would look for the daemon; undefined where that is not a socket of this host, or unknown. */
async function findSocket(asked: string | undefined): Promise<string | undefined> {
  const named = asked ?? variable("DOCKER_HOST");
  if (named === undefined && (await hasContext())) {
    verbose(() => "daemon: socket not used, because a docker context is set");
    return undefined;
  }
  const socket = /^unix:\/\/(\/.+)$/.exec(named ?? DEFAULT_HOST)?.[1];
  if (socket === undefined) verbose(() => "daemon: socket not used, because the host is not unix:///PATH");
  return socket;
}

/** Whether the client's daemon is set by name: by `docker context use`, or by the environment. */
async function hasContext(): Promise<boolean> {
  const named = variable("DOCKER_CONTEXT");
  if (named !== undefined) return named !== "default";
  try {
    const path = join(variable("DOCKER_CONFIG") ?? join(homedir(), ".docker"), "config.json");
    // Relative to nothing that the client would be started in.
    if (!isAbsolute(path)) return true;
    // A pipe under this name must not keep us waiting.
    const flag = constants.O_RDONLY | constants.O_NONBLOCK;
    const { currentContext = "default" } = JSON.parse(await readFile(path, { encoding: "utf8", flag }));
    return currentContext !== "" && currentContext !== "default";
  } catch (error) {
    return errno(error) !== "ENOENT";
  }
}
