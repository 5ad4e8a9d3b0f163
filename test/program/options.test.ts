// The options that a call by name gives a container, and that later calls hold it to.

import { rmSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { type FakeHost, fakeHost } from "./host.ts";

const published = (port: string) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort: port }] });

/** A container in two networks, `front` and `back`, of which Docker itself would choose `back`. */
function inTwo(host: FakeHost, name: string, front: string, back: string, port: string): void {
  for (const network of ["front", "back"])
    host.network(network, { Options: { "com.docker.network.bridge.name": "lo" } });
  host.document(name, {
    Id: Buffer.from(name.padEnd(32, "\0")).toString("hex"),
    Name: `/${name}`,
    State: { Status: "running", Running: true, Restarting: false },
    HostConfig: { NetworkMode: "back" },
    NetworkSettings: {
      Bridge: "",
      Ports: published(port),
      Networks: {
        front: { NetworkID: "front", IPAddress: front, Gateway: "172.18.0.1" },
        back: { NetworkID: "back", IPAddress: back, Gateway: "172.19.0.1" },
      },
    },
  });
}

async function status(host: FakeHost, ...flags: string[]): Promise<Result> {
  const directories = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  const { stdout } = await host.run(["status", "--json", ...directories, "--reload", "restore", ...flags]);
  return JSON.parse(stdout);
}

/** Removed. */
function leave(host: FakeHost, name: string): void {
  rmSync(join(host.fake, "containers", `${name}.json`), { force: true });
}

const OF_RULES = /^(fragment_missing|fragment_outdated|container_gone|rules_|base_outdated)/;
const kindsOf = ({ problems = [] }: Result) => problems.map(({ kind }) => kind).filter((kind) => OF_RULES.test(kind));
const sync = (host: FakeHost, given: Record<string, unknown> = {}) =>
  host.ask({ all: true, reload: "restore", ...given });
const create = (host: FakeHost, given: Record<string, unknown>) =>
  host.ask({ container: "web", reload: "restore", ...given });

describe.concurrent("what a call by name gives", () => {
  test("is in the head of the fragment, and nothing if nothing was given", async () => {
    const host = fakeHost();
    host.container("web", { ports: published("8080") });
    await create(host, { guards: false, ipv6: false });
    expect(host.fragment("web")?.split("\n").slice(0, 2)).toEqual([
      "# docker_iptables: web (generated: do not edit)",
      '# options: {"guards":false,"ipv6":false}',
    ]);
    await create(host, {});
    expect(host.fragment("web")?.split("\n")[1]).toBe("*raw");
  });

  test("holds for sync and status", async () => {
    const host = fakeHost();
    host.container("web", { ports: published("8080") });
    await create(host, { guards: false });
    const text = host.fragment("web");
    expect(text).not.toContain("*raw");
    expect(kindsOf(await status(host))).toEqual([]);
    expect(await sync(host)).toMatchObject({ changed: false });
    expect(host.fragment("web")).toBe(text);
  });

  test("holds for the call that names another container", async () => {
    const host = fakeHost();
    inTwo(host, "db", "172.18.0.2", "172.19.0.2", "5432");
    await create(host, { container: "db", network: "front" });
    expect(host.fragment("db")).toContain("--to-destination 172.18.0.2:80");
    // Its former address is web's by now.
    inTwo(host, "db", "172.18.0.9", "172.19.0.9", "5432");
    inTwo(host, "web", "172.19.0.3", "172.18.0.2", "8080");
    expect(await create(host, { network: "back", guards: false })).toMatchObject({ changed: true });
    expect(host.fragment("db")).toContain("--to-destination 172.18.0.9:80");
    expect(host.fragment("db")).toContain("*raw");
    expect(host.fragment("db")).toContain('# options: {"network":"front"}');
    expect(await sync(host)).toMatchObject({ changed: false });
    expect(kindsOf(await status(host))).toEqual([]);
  });

  test("outlives a stop, and being recreated under its name", async () => {
    const host = fakeHost();
    host.container("web", { ports: published("8080") });
    await create(host, { guards: false });
    leave(host, "web");
    const gone = await sync(host);
    expect(gone).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(host.fragment("web")).toBe('# docker_iptables: web (generated: do not edit)\n# options: {"guards":false}\n');
    expect(host.kernel("nat")).not.toContain("docker_iptables: web");
    expect(await sync(host)).toMatchObject({ changed: false });
    expect(await status(host)).toMatchObject({ problems: [] });
    host.container("web", { ports: published("8080"), address: "172.17.0.9" });
    expect(await sync(host)).toMatchObject({ changed: true, msg: "published: web" });
    expect(host.fragment("web")).toContain("172.17.0.9:80");
    expect(host.fragment("web")).not.toContain("*raw");
  });

  test("is forgotten by absent, by name or of all", async () => {
    for (const given of [{ container: "web" }, { all: true }]) {
      const host = fakeHost();
      host.container("web", { ports: published("8080") });
      await create(host, { guards: false });
      leave(host, "web");
      await sync(host);
      expect(await host.ask({ ...given, state: "absent", reload: "restore" })).toMatchObject({ changed: true });
      expect(host.fragment("web")).toBeUndefined();
    }
  });

  test("is dropped by a call by name that does not give it, which says so", async () => {
    const host = fakeHost();
    host.container("web", { ports: published("8080") });
    await create(host, { guards: false });
    const { warnings } = await create(host, {});
    expect(warnings).toContainEqual("web: this call does not give --no-guards, as an earlier call did; it is dropped");
    expect(host.fragment("web")).toContain("*raw");
    expect((await create(host, {})).warnings).not.toContainEqual(expect.stringContaining("dropped"));
  });

  test("network: auto is Docker's own choice, and stays that", async () => {
    const host = fakeHost();
    inTwo(host, "web", "172.18.0.2", "172.19.0.2", "8080");
    await create(host, { network: "front" });
    expect(host.fragment("web")).toContain("172.18.0.2:80");
    await create(host, { network: "auto" });
    expect(host.fragment("web")).toContain("172.19.0.2:80");
    expect(await sync(host, { network: "front" })).toMatchObject({ changed: false });
  });
});

describe.concurrent("a fragment of a version that kept no options", () => {
  const asBefore = (host: FakeHost, name: string) => {
    const text = (host.fragment(name) ?? "")
      .replace(/^# options.*\n/m, "")
      .replace("generated: do not edit", "do not edit: it is written anew");
    host.write(`11-docker-container_${name}`, text);
  };

  test("keeps its chain and its IPv6, which are options from then on", async () => {
    const host = fakeHost();
    host.container("web", {
      ports: {
        "80/tcp": [
          { HostIp: "", HostPort: "8080" },
          { HostIp: "::", HostPort: "8080" },
        ],
      },
      address6: "fd00::2",
    });
    await create(host, { ipv6: true });
    asBefore(host, "web");
    const six = host
      .fragment("web", host.ip6tablesDir)
      ?.replace(/^# options.*\n/m, "")
      .replace("generated: do not edit", "do not edit: it is written anew");
    host.write("11-docker-container_web", six ?? "", host.ip6tablesDir);
    expect(await sync(host)).toMatchObject({ changed: true });
    expect(host.fragment("web")).toContain('# options: {"ipv6":true}');
    expect(host.fragment("web", host.ip6tablesDir)).toContain("[fd00::2]:80");
    expect(await sync(host)).toMatchObject({ changed: false });
  });

  test("keeps the network in which its address is", async () => {
    const host = fakeHost();
    inTwo(host, "db", "172.18.0.2", "172.19.0.2", "5432");
    await create(host, { container: "db", network: "front" });
    asBefore(host, "db");
    await sync(host);
    expect(host.fragment("db")).toContain('# options: {"network":"front"}');
    expect(host.fragment("db")).toContain("172.18.0.2:80");
  });
});

test.each([
  ["no JSON", "# options: {guards"],
  ["no options", '# options: ["guards"]'],
  ["a value of another kind", '# options: {"guards":"no"}'],
  ["a chain of Docker's", '# options: {"chain":"DOCKER"}'],
  ["a chain that is none", '# options: {"chain":"X -j ACCEPT"}'],
])("a head that holds %s counts for nothing", async (_, head) => {
  const host = fakeHost();
  host.container("web", { ports: published("8080") });
  await create(host, {});
  const text = host.fragment("web") ?? "";
  host.write("11-docker-container_web", text.replace("\n", `\n${head}\n`));
  expect(await sync(host)).toMatchObject({ changed: true });
  expect(host.fragment("web")).toBe(text);
});

test("status has no problem of files or kernel exactly when sync --check changes nothing", async () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant("create" as const),
      name: fc.constantFrom("a", "b"),
      given: fc.record(
        { guards: fc.boolean(), ipv6: fc.boolean(), network: fc.constantFrom("front", "back", "auto") },
        { requiredKeys: [] },
      ),
    }),
    fc.record({
      kind: fc.constantFrom("start" as const, "stop" as const, "delete" as const, "remove" as const),
      name: fc.constantFrom("a", "b"),
    }),
    fc.record({ kind: fc.constantFrom("sync" as const, "flush" as const) }),
  );
  const flags = fc.record({ guards: fc.boolean(), ipv6: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 6 }), flags, async (steps, host1) => {
      const host = fakeHost();
      let octet = 2;
      const start = (name: string) => {
        octet++;
        inTwo(host, name, `172.18.0.${octet}`, `172.19.0.${octet}`, name === "a" ? "8001" : "8002");
      };
      start("a");
      for (const one of steps) {
        if (one.kind === "create") await create(host, { container: one.name, wait_timeout: 0, ...one.given });
        else if (one.kind === "start") start(one.name);
        else if (one.kind === "stop") leave(host, one.name);
        else if (one.kind === "delete") await create(host, { container: one.name, state: "absent" });
        else if (one.kind === "remove") rmSync(`${host.iptablesDir}/11-docker-container_${one.name}`, { force: true });
        else if (one.kind === "flush") host.flush("nat");
        else await sync(host);
      }
      const words = [host1.guards ? "--guards" : "--no-guards", ...(host1.ipv6 ? ["--ipv6"] : [])];
      const kinds = kindsOf(await status(host, ...words));
      const would = await sync(host, { ...host1, _ansible_check_mode: true });
      expect(would.failed, would.msg).toBeUndefined();
      expect([kinds.length === 0, kinds], JSON.stringify(steps)).toEqual([!would.changed, kinds]);
    }),
    { numRuns: 40, seed: 7 },
  );
});
