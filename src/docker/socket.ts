// Asks the Docker daemon itself, on its socket, what its client would ask it for us: a client is a process of some 25 ms,
// the daemon's answer takes 2. Where anything is unusual it answers nothing, and the client is asked, which knows better and
// has the words for what is wrong: a host or a context of the client's own, a socket on which it is not Docker that answers.
//
// The paths bear no version, so a daemon answers as its own release's client would have it (Docker's API reference).

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { homedir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { errno, Failure } from "../errors.ts";
import type { Arguments } from "../generated/arguments.ts";

const DEFAULT_HOST = "unix:///var/run/docker.sock";
/** At once. */
const CONNECTIONS = 8;
/** bytes; a container with 10,000 ports is 2 MB. */
const LIMIT = 64 * 1024 * 1024;

/**
 * The JSON that the daemon answers to a GET of each path; undefined for what is not there. Undefined as a whole where the
 * client is to be asked. Throws Failure `command_timeout`.
 */
export async function askDaemon(
  { client, docker_host, timeout }: Pick<Arguments, "client" | "docker_host" | "timeout">,
  paths: readonly string[],
): Promise<unknown[] | undefined> {
  // An executable named by its path is to be run.
  const socketPath = client === "docker" ? await findSocket(docker_host) : undefined;
  if (socketPath === undefined) return undefined;
  // It costs a few milliseconds, and not every run asks.
  const { Agent, get } = await import("node:http");
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const signal = AbortSignal.timeout(timeout * 1000);
  const ask = async (path: string): Promise<unknown> => {
    const [response]: IncomingMessage[] = await once(get({ socketPath, path, agent, signal }), "response");
    return response && readAnswer(response);
  };
  try {
    return await Promise.all(paths.map(ask));
  } catch {
    if (!signal.aborted) return undefined;
    const message = `the Docker daemon did not answer on ${socketPath} within ${timeout} s; look at 'systemctl status docker', or raise timeout`;
    throw new Failure("command_timeout", message, { command: `GET ${paths[0]}`, path: socketPath, timeout });
  } finally {
    agent.destroy();
  }
}

/** Throws where it is not Docker's answer. podman has a socket that looks like Docker's, and documents that do not. */
async function readAnswer(response: IncomingMessage): Promise<unknown> {
  const { statusCode, headers } = response;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += chunk.length;
    if (size > LIMIT) throw new Error("too large");
    chunks.push(chunk);
  }
  if (!String(headers.server).startsWith("Docker/")) throw new Error("not Docker");
  if (statusCode === 404) return undefined;
  if (statusCode !== 200) throw new Error(`status ${statusCode}`);
  return JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

/** Where the client would look for the daemon; undefined where that is no socket of this host, or not to be told. */
async function findSocket(asked: string | undefined): Promise<string | undefined> {
  const host = asked ?? (env["DOCKER_HOST"] || undefined) ?? ((await hasContext()) ? "" : DEFAULT_HOST);
  return /^unix:\/\/(\/.+)$/.exec(host)?.[1];
}

/** Whether the client is told of a daemon by name: by `docker context use`, or by the environment. */
async function hasContext(): Promise<boolean> {
  const named = env["DOCKER_CONTEXT"];
  if (named) return named !== "default";
  try {
    const path = join(env["DOCKER_CONFIG"] || join(homedir(), ".docker"), "config.json");
    const { currentContext = "default" } = JSON.parse(await readFile(path, "utf8"));
    return currentContext !== "" && currentContext !== "default";
  } catch (error) {
    return errno(error) !== "ENOENT";
  }
}
