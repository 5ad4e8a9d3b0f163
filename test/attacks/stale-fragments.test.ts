// A fragment of an excluded container (label, no bridge, an unusable document) stays only while it is correct: its address may have
// become another container's, which was not published.

import { describe, expect, test } from "vitest";
import type { Problem } from "../../src/generated/result.ts";
import { type FakeHost, fakeHost } from "../program/host.ts";

const port = (HostPort: string) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort }] });
const dirs = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
const DISABLED = { Config: { Labels: { "docker_iptables.enable": "false" } } };

function change(host: FakeHost, more: object): void {
  host.document("first", { ...JSON.parse(host.documentOf("first")), ...more });
}

/** first is published at 172.17.0.2; web, too, elsewhere. */
async function publishedHost(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("first", { ports: port("9000") });
  host.container("web", { ports: port("8080"), address: "172.17.0.8" });
  await host.boot();
  await host.ask({ all: true });
  return host;
}

async function problemsOf(host: FakeHost): Promise<Problem[]> {
  const { stdout } = await host.run(["status", "--json", ...dirs(host)]);
  const problems: Problem[] = JSON.parse(stdout).problems;
  return problems.filter(({ kind }) => !["daemon_settings", "fragment_untrusted"].includes(kind));
}

const MADE: Record<string, [(host: FakeHost) => void, RegExp]> = {
  "another container of that name, with the label, without a network": [
    (host) => {
      host.container("first", { address: "" });
      change(host, DISABLED);
    },
    /first is disabled by its label, and is not at 172\.17\.0\.2 on lo/,
  ],
  "the label, and another address": [
    (host) => {
      host.container("first", { ports: port("9000"), address: "172.17.0.7" });
      change(host, DISABLED);
    },
    /first is disabled by its label, and is not at 172\.17\.0\.2 on lo/,
  ],
  "the label, and the same address behind another bridge": [
    (host) => {
      host.network("far", { Options: { "com.docker.network.bridge.name": "br-far" } });
      change(host, {
        ...DISABLED,
        NetworkSettings: { Ports: {}, Networks: { far: { NetworkID: "far", IPAddress: "172.17.0.2" } } },
      });
    },
    /first is disabled by its label, and is not at 172\.17\.0\.2 on lo/,
  ],
  "a network whose bridge is not here": [
    (host) => {
      host.network("far", { Options: { "com.docker.network.bridge.name": "br-far" } });
      change(host, {
        NetworkSettings: { Ports: port("9000"), Networks: { far: { NetworkID: "far", IPAddress: "172.30.0.9" } } },
      });
    },
    /first cannot be located, and is not at 172\.17\.0\.2 on lo/,
  ],
  "a document that cannot be used, and another address": [
    (host) => {
      host.container("first", { ports: port("99999"), address: "172.17.0.7" });
    },
    /first cannot be used, and is not at 172\.17\.0\.2 on lo/,
  ],
  "a document of which nothing can be read": [
    (host) => change(host, { HostConfig: 7 }),
    /first cannot be used, and is not/,
  ],
};

const made = Object.entries(MADE).map(([what, [make, why]]) => ({ what, make, why }));

describe.each(made)("$what", ({ make, why }) => {
  test("its rules go, and sync, its check and status say so", async () => {
    const host = await publishedHost();
    make(host);
    const foretold = await host.ask({ all: true, _ansible_check_mode: true });
    expect(foretold).toMatchObject({ changed: true, msg: "would be unpublished: first" });
    const [problem, ...more] = (await problemsOf(host)).filter(({ kind }) => kind !== "answer_unusable");
    expect(problem).toMatchObject({ kind: "fragment_outdated", container: "first", msg: expect.stringMatching(why) });
    expect(more).toEqual([]);
    const result = await host.ask({ all: true });
    expect(result, result.msg).toMatchObject({ changed: true, msg: "unpublished: first" });
    expect(result.warnings).toContainEqual(expect.stringMatching(why));
    expect(host.kernel("nat")).not.toContain("172.17.0.2");
    expect(host.fragment("first")).toBeUndefined();
    expect(host.fragment("web")).toBeDefined();
    expect((await problemsOf(host)).filter(({ kind }) => kind !== "answer_unusable")).toEqual([]);
    expect(await host.ask({ all: true })).toMatchObject({ changed: false });
  });
});

describe("true, it stays", () => {
  test.each<[string, (host: FakeHost) => void]>([
    ["with the label", (host) => change(host, { ...DISABLED })],
    ["with a port that is none", (host) => host.container("first", { ports: port("99999") })],
  ])("%s", async (_what, make) => {
    const host = await publishedHost();
    make(host);
    const before = host.fragment("first");
    expect(await host.ask({ all: true })).toMatchObject({ changed: false });
    expect(host.fragment("first")).toBe(before);
    expect((await problemsOf(host)).filter(({ kind }) => kind !== "answer_unusable")).toEqual([]);
  });
});

describe("create of the container that has its address now", () => {
  test.each<[string, Parameters<FakeHost["container"]>[1]]>([
    ["publishes", { ports: port("8090") }],
    ["publishes nothing", {}],
    ["publishes IPv6 alone", { ports: { "80/tcp": [{ HostIp: "::1", HostPort: "8090" }] } }],
  ])("and %s", async (_what, options) => {
    const host = await publishedHost();
    host.container("first", { ports: port("9000"), address: "172.17.0.7" });
    change(host, DISABLED);
    host.container("secretdb", options);
    const result = await host.ask({ container: "secretdb" });
    expect(result, result.msg).toMatchObject({ changed: true, msg: expect.stringMatching(/updated: first$/) });
    expect(result.warnings).toContainEqual(
      expect.stringMatching(
        /_first is removed: the container first is disabled by its label, and 172\.17\.0\.2 now belongs to secretdb/,
      ),
    );
    expect(host.kernel("nat")).not.toContain('--comment "docker_iptables: first"');
    expect(host.fragment("first")).toBeUndefined();
  });
});
