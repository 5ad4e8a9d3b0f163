// Docker's daemon on a socket of a host made of files, in the test's own process.

import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { FakeHost } from "./host.ts";

const servers: Server[] = [];
afterAll(() => {
  for (const server of servers) server.close();
});

/** What is sent. */
export function said(body: string, status = "200 OK", server = "Docker/20.10.24 (linux)"): string {
  return `HTTP/1.0 ${status}\r\nApi-Version: 1.41\r\nServer: ${server}\r\n\r\n${body}`;
}

/** A daemon on a socket of the host's: it says what `answer` makes of a path, and nothing at all for undefined. */
export async function daemon(
  host: FakeHost,
  answer: (path: string) => string | undefined | Promise<string>,
): Promise<string[]> {
  const asked: string[] = [];
  const server = createServer((connection) => {
    connection.on("error", () => {});
    connection.once("data", async (data) => {
      const path = /^GET (\S+) HTTP\/1\.0\r\n/.exec(data.toString())?.[1] ?? "";
      asked.push(path);
      const text = await answer(path);
      if (text !== undefined) connection.end(text);
    });
  });
  servers.push(server);
  await new Promise<void>((listening) => server.listen(join(host.root, "docker.sock"), listening));
  return asked;
}

/** As Docker answers, of the host's containers and networks. */
export function truthful(host: FakeHost, names: readonly string[]) {
  const documents = () => names.map((name) => JSON.parse(host.documentOf(name)));
  return (path: string): string => {
    if (path === "/containers/json") return said(JSON.stringify(documents()));
    const name = /^\/containers\/(\w+)\/json$/.exec(path)?.[1];
    const document = documents().find(({ Id, Name }) => Name === `/${name}` || Id === name);
    if (document !== undefined) return said(JSON.stringify(document));
    const network = { Id: "bridge", Name: "bridge", Driver: "bridge" };
    if (path === "/networks/bridge") {
      return said(JSON.stringify({ ...network, Options: { "com.docker.network.bridge.name": "lo" } }));
    }
    return said('{"message":"No such container"}', "404 Not Found");
  };
}
