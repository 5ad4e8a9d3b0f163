// docs/rules is what the golden cases say: `npm run readme` writes it. A command that a page shows publishes what its case does.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Case, makePages, PAGES_FOLDER, readCase } from "./rule-pages/markdown.ts";
import { PAGES } from "./rule-pages/pages.ts";

const pages = makePages();

test.each([...pages])("docs/rules/%s is as 'npm run readme' writes it", (file, text) => {
  expect(readFileSync(join(PAGES_FOLDER, file), "utf8")).toBe(text);
});

test("docs/rules holds nothing else", () => {
  expect(readdirSync(PAGES_FOLDER).sort()).toEqual([...pages.keys()].sort());
});

const shown = PAGES.filter(({ of }) => of === "container").flatMap(({ examples }) => examples);

test.each(shown.map(({ name, shell }) => [name, shell] as const))("%s is started as its page says", (name, shell) => {
  const { ports, networks } = placedBy(readCase("container", name));
  const asked = [...shell.matchAll(/--publish (\S+)/g)].flatMap(([, publish = ""]) => publishedBy(publish));
  // Where the network publishes nothing, inspect shows nothing of it.
  if (ports.length > 0) expect([...new Set(asked)].sort()).toEqual(ports);
  const joined = shell.matchAll(/(?:--network (?:name=)?|network connect )([\w:]+)/g);
  expect(
    [...joined]
      .map(([, network = ""]) => network)
      .filter(isOwn)
      .sort(),
  ).toEqual(networks);
});

/** Not a word of the client's, nor a network that it gives by itself. */
function isOwn(network: string): boolean {
  return !/^(?:bridge|host|none|podman|container:.*|unknown-eth0|docker_gwbridge)$/.test(network);
}

/** `[ADDRESS:]HOST[-HOST]:PORT[-PORT][/PROTOCOL]`, each port as "ADDRESS HOST PORT/PROTOCOL". */
function publishedBy(publish: string): string[] {
  const [, bracketed, dotted, host, port = "", protocol = "tcp"] =
    /^(?:\[([\da-f:]+)\]:|(\d+\.[\d.]+):)?(?:([\d-]+):)?([\d-]+)(?:\/(\w+))?$/.exec(publish) ?? [];
  const address = spellEvery(bracketed ?? dotted ?? "");
  const hosts = host === undefined ? [""] : numbers(host);
  return numbers(port).map((one, index) => `${address} ${hosts[index]} ${one}/${protocol}`);
}

/** Every address is "", however it is written. */
function spellEvery(address: string): string {
  return /^(?:0\.0\.0\.0|::)$/.test(address) ? "" : address;
}

function numbers(range: string): number[] {
  const [first = 0, last = first] = range.split("-").map(Number);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

function placedBy({ inspect = [] }: Case): { ports: string[]; networks: string[] } {
  interface Settings {
    Ports?: Record<string, { HostIp: string; HostPort: string }[] | null>;
    Networks?: Record<string, unknown>;
  }
  const { Ports = {}, Networks = {} } = (inspect[0]?.["NetworkSettings"] ?? {}) as Settings;
  const ports = Object.entries(Ports).flatMap(([port, bindings]) =>
    // What has a port of the host is listed without one for a routed network beside.
    (bindings ?? [])
      .filter(({ HostPort }) => HostPort !== "" || bindings?.every((one) => one.HostPort === ""))
      .map(({ HostIp, HostPort }) => `${spellEvery(HostIp)} ${HostPort} ${port}`),
  );
  return { ports: [...new Set(ports)].sort(), networks: Object.keys(Networks).filter(isOwn).sort() };
}
