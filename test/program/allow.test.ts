// Who may connect: `allow` of arguments, labels and settings, in files and kernel.

import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { type FakeHost, fakeHost, readAnswer } from "./host.ts";

const PORTS = {
  "80/tcp": [
    { HostIp: "0.0.0.0", HostPort: "8080" },
    { HostIp: "::", HostPort: "8080" },
  ],
};

async function published(allow: Record<string, string[]>, more: Record<string, unknown> = {}): Promise<FakeHost> {
  const host = fakeHost();
  await host.boot();
  host.container("web", { ports: PORTS, address6: "fd00::2" });
  const result = await host.ask({ container: "web", allow, reload: "restore", ...more });
  expect(result.failed, result.msg).toBeUndefined();
  return host;
}

const IMAGE = "ab".repeat(32);

/** web, with these labels, of which its image carries some. */
function labelled(host: FakeHost, labels: Record<string, string>, carried: Record<string, string> = {}): void {
  host.image(IMAGE, carried);
  host.container("web", { ports: PORTS });
  const document = { ...JSON.parse(host.documentOf("web")), Image: `sha256:${IMAGE}` };
  host.document("web", { ...document, Config: { Labels: { ...carried, ...labels } } });
}

async function status(host: FakeHost): Promise<Result> {
  const words = ["status", "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  return JSON.parse((await host.run(words)).stdout);
}

const mangle = (host: FakeHost, family = "ipv4") =>
  host
    .kernel("mangle", family)
    .split("\n")
    .filter((line) => line.startsWith("-A"))
    .map((line) => line.replace(/ALLOW-[0-9a-f]+/, "ALLOW"));

describe.concurrent("an argument", () => {
  test("lists stand in the mangle table of both families, and are live", async () => {
    const host = await published({ "8080/tcp": ["10.0.0.0/8", "wg0"] });
    const comment = '-m comment --comment "docker_iptables: web"';
    expect(mangle(host)).toEqual([
      `-A FORWARD -d 172.17.0.2/32 ! -i lo -o lo -p tcp -m conntrack --ctstate DNAT --ctorigdstport 8080 --ctdir ORIGINAL ${comment} -j ALLOW`,
      `-A FORWARD -d 172.17.0.2/32 ! -i lo -o lo -p tcp -m tcp --dport 80 -m conntrack ! --ctstate DNAT --ctdir ORIGINAL ${comment} -j DROP`,
      `-A INPUT ! -i lo -p tcp -m tcp --dport 8080 ${comment} -j ALLOW`,
      `-A ALLOW -i lo ${comment} -j RETURN`,
      `-A ALLOW -s 10.0.0.0/8 ${comment} -j RETURN`,
      `-A ALLOW -i wg0 ${comment} -j RETURN`,
      `-A ALLOW ${comment} -j DROP`,
    ]);
    expect(mangle(host, "ipv6")).toEqual([
      `-A FORWARD -d fd00::2/128 ! -i lo -o lo -p tcp -m tcp --dport 80 -m conntrack ! --ctstate DNAT --ctdir ORIGINAL ${comment} -j DROP`,
      `-A INPUT ! -i lo -p tcp -m tcp --dport 8080 ${comment} -j ALLOW`,
      `-A ALLOW -i lo ${comment} -j RETURN`,
      `-A ALLOW -i wg0 ${comment} -j RETURN`,
      `-A ALLOW ${comment} -j DROP`,
    ]);
  });

  test.each(["restore", "patch"])(
    "another list replaces the former one, none takes it back (reload: %s)",
    async (reload) => {
      const host = await published({ "8080/tcp": ["10.0.0.0/8"] }, { reload });
      const chains = () => [...new Set(host.kernel("mangle").match(/ALLOW-[0-9a-f]{20}/g))];
      const [first] = chains();
      await host.ask({ container: "web", allow: { "8080/tcp": ["10.0.0.0/8", "192.0.2.7"] }, reload });
      expect(chains()).toHaveLength(1);
      expect(chains()).not.toEqual([first]);
      expect(mangle(host)).toContainEqual(expect.stringContaining("-s 192.0.2.7/32"));
      const again = await host.ask({ container: "web", reload });
      expect(again.failed, again.msg).toBeUndefined();
      expect(again.warnings.join()).toContain("--allow 8080/tcp=10.0.0.0/8,192.0.2.7");
      expect(chains()).toEqual([]);
      expect(mangle(host)).toEqual([]);
    },
  );

  test.each(["restore", "patch", "systemd"])("absent leaves no chain (reload: %s)", async (reload) => {
    const host = await published({ "8080/tcp": ["10.0.0.0/8"] }, { reload });
    expect(await host.ask({ container: "web", state: "absent", reload })).toMatchObject({ changed: true });
    expect(host.kernel("mangle")).not.toContain("ALLOW-");
    expect(host.kernel("mangle", "ipv6")).not.toContain("ALLOW-");
    expect(host.fragment("web")).toBeUndefined();
  });

  test.each([
    [{ "8081": [] }, /8081.*none of its ports/],
    [{ "8080": ["example.com"] }, /no source/],
    [{ "8080": ["@office"] }, /no group/],
    [{ "8080": [], "08080": [] }, /neither is more exact/],
    [{ http: [] }, /names no ports/],
  ])("%j is refused, and nothing is changed", async (allow, words) => {
    const host = fakeHost();
    await host.boot();
    host.container("web", { ports: PORTS });
    expect(await host.refuses({ container: "web", allow }, "arguments_invalid")).toMatchObject({
      msg: expect.stringMatching(words),
    });
  });

  test("over UDP the answers to others are dropped, too; by which interface one came they do not say", async () => {
    const host = fakeHost();
    await host.boot();
    host.container("dns", { ports: { "53/udp": [{ HostIp: "192.0.2.9", HostPort: "5353" }] } });
    const answers = () => mangle(host).filter((line) => /--ctdir REPLY|--sport/.test(line));
    await host.ask({ container: "dns", allow: { "5353": ["10.0.0.0/8"] }, reload: "restore" });
    const comment = '-m comment --comment "docker_iptables: dns"';
    const reply = "--ctorigdstport 5353 --ctdir REPLY";
    expect(answers()).toEqual([
      `-A FORWARD -s 172.17.0.2/32 -i lo ! -o lo -p udp -m conntrack --ctstate DNAT --ctorigdst 192.0.2.9 ${reply} ${comment} -j ALLOW`,
      `-A OUTPUT -s 192.0.2.9/32 ! -o lo -p udp -m udp --sport 5353 ${comment} -j ALLOW`,
    ]);
    expect(mangle(host)).toContain(`-A ALLOW -d 10.0.0.0/8 ${comment} -j RETURN`);
    await host.ask({ container: "dns", allow: { "5353": ["10.0.0.0/8", "wg0"] }, reload: "restore" });
    expect(answers()).toEqual([]);
  });

  test("a list for everyone is none; the other family's is one", async () => {
    const host = await published({ "8080": ["0.0.0.0/0", "10.0.0.0/8"] });
    // What nobody publishes is no part of it.
    expect(mangle(host)).toEqual([expect.stringContaining("! --ctstate DNAT")]);
    expect(mangle(host, "ipv6").at(-1)).toContain("-j DROP");
  });

  test("IPv6 that docker-proxy answers for a container without an IPv6 address is closed, asked for or not", async () => {
    for (const ipv6 of [true, false]) {
      const host = fakeHost();
      await host.boot();
      // As Docker before 20.10 lists them: it listens at [::] all the same.
      host.container("web", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] } });
      const result = await host.ask({ container: "web", allow: { "8080": ["10.0.0.0/8"] }, reload: "restore", ipv6 });
      expect(result.failed, result.msg).toBeUndefined();
      expect(mangle(host, "ipv6")[0]).toMatch(/^-A INPUT ! -i lo -p tcp -m tcp --dport 8080 .* -j ALLOW$/);
      expect(host.kernel("nat", "ipv6")).not.toContain("web");
    }
  });

  test("a host without IPv6 gets none of it", async () => {
    const host = fakeHost();
    await host.boot();
    rmSync(join(host.fake, "machine/proc/net/if_inet6"));
    host.container("web", { ports: PORTS });
    expect(await host.ask({ container: "web", allow: { "8080": [] }, reload: "restore" })).toMatchObject({
      changed: true,
    });
    expect(mangle(host)).not.toEqual([]);
    expect(mangle(host, "ipv6")).toEqual([]);
  });

  describe("what this host lacks is said, and nothing is changed", () => {
    const refused = async (host: FakeHost) => {
      host.container("web", { ports: PORTS });
      return host.refuses({ container: "web", allow: { "8080": [] }, reload: "restore" }, "list_unsupported");
    };
    const lacking = {
      "no ip6tables": [
        (host: FakeHost) => rmSync(join(host.bin, "ip6tables-save")),
        /there is no ip6tables; install it/,
      ],
      "no directory": [
        (host: FakeHost) => rmSync(host.ip6tablesDir, { recursive: true }),
        /there is no \S+ip6tables.d for that; 'docker_iptables setup --iptables-dir \S+ --ip6tables-dir \S+ --reload restore' makes it/,
      ],
      "no mangle table": [
        (host: FakeHost) =>
          host.on("iptables-save", 'case "$*" in *mangle*) echo "Table does not exist" >&2; exit 1 ;; esac'),
        /no mangle table for IPv4; 'modprobe iptable_mangle'/,
      ],
    } as const;
    test.each(Object.keys(lacking) as (keyof typeof lacking)[])("%s", async (name) => {
      const [prepare, words] = lacking[name];
      const host = fakeHost();
      await host.boot();
      prepare(host);
      expect(await refused(host)).toMatchObject({ msg: expect.stringMatching(words) });
      // Without lists it works as before.
      expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true });
    });

    test("a sync leaves such a container as it is, and goes on with the others", async () => {
      const host = fakeHost();
      await host.boot();
      rmSync(join(host.bin, "ip6tables-save"));
      labelled(host, { "docker_iptables.allow": "10.0.0.0/8" });
      host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
      const result = await host.ask({ all: true, reload: "restore" });
      expect(result).toMatchObject({
        changed: true,
        warnings: [expect.stringMatching(/^web is skipped, and everybody may reach its ports: the lists of web/)],
      });
      expect([host.fragment("web"), host.fragment("db")]).toEqual([undefined, expect.anything()]);
      expect((await status(host)).problems).toContainEqual(
        expect.objectContaining({ kind: "list_unsupported", container: "web" }),
      );
    });
  });

  describe("interfaces", () => {
    test("one that is not there gets its rule, a warning, and a problem until it is there", async () => {
      const host = await published({ "8080": ["wg0"] });
      const list = { kind: "list_interface", container: "web" };
      const kinds = async () => ((await status(host)).problems ?? []).filter(({ kind }) => kind === "list_interface");
      expect(await kinds()).toMatchObject([{ ...list, msg: expect.stringMatching(/wg0 is no network interface/) }]);
      const again = await host.ask({ container: "web", allow: { "8080": ["wg0"] }, reload: "restore" });
      expect(again).toMatchObject({
        changed: false,
        warnings: [expect.stringContaining("wg0 is no network interface")],
      });
      host.interfaces({ lo: ["127.0.0.1/8", "::1/128"], wg0: ["10.9.0.1/24"] });
      expect(await kinds()).toEqual([]);
    });

    test("a bridge's port is refused, with the bridge's name; where it became one later, it is a problem", async () => {
      const enslave = (host: FakeHost) => {
        mkdirSync(join(host.fake, "machine/sys/class/net/eth1"), { recursive: true });
        symlinkSync("../br0", join(host.fake, "machine/sys/class/net/eth1/master"));
      };
      const there = { lo: ["127.0.0.1/8", "::1/128"], eth1: [], br0: ["192.0.2.1/24"] };
      const host = await published({ "8080": ["br0"] });
      host.interfaces(there);
      enslave(host);
      const { msg } = await host.refuses({ container: "web", allow: { "8080": ["eth1"] } }, "arguments_invalid");
      expect(msg).toBe(
        "allow: eth1 is a port of br0, and the rules see what comes by it as br0's, so it lets nobody in; name br0 in its place",
      );
      const later = await published({ "8080": ["eth1"] });
      later.interfaces(there);
      enslave(later);
      expect((await status(later)).problems).toContainEqual(
        expect.objectContaining({ kind: "list_interface", msg: expect.stringContaining("eth1 is a port of br0") }),
      );
    });
  });

  test("one whose port is published no more is told, and a problem", async () => {
    const host = await published({ "8080/tcp": ["10.0.0.0/8"] });
    host.container("web", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] } });
    const { warnings } = await host.ask({ all: true, reload: "restore" });
    expect(warnings).toContain("web: its own list for 8080/tcp is about none of its ports");
    expect((await status(host)).problems).toContainEqual(
      expect.objectContaining({ kind: "list_unused", container: "web", msg: expect.stringContaining("for 8080/tcp") }),
    );
  });

  test("a label about none of its ports is a problem while everyone may connect to one of them", async () => {
    const host = fakeHost();
    await host.boot();
    const labels = { "docker_iptables.allow.8081/tcp": "10.0.0.0/8" };
    labelled(host, labels);
    await host.ask({ all: true, reload: "restore" });
    expect((await status(host)).problems).toContainEqual({
      kind: "list_unused",
      container: "web",
      msg: "the label of web for 8081/tcp is about none of its ports, and everyone may connect to one of them",
      hint: expect.stringMatching(/^'docker_iptables ls web .*' shows its ports; correct the label, and recreate the/),
    });
    labelled(host, { ...labels, "docker_iptables.allow": "10.0.0.0/8" });
    await host.ask({ all: true, reload: "restore" });
    expect((await status(host)).problems?.filter(({ kind }) => kind === "list_unused")).toEqual([]);
  });

  test("of lists for several containers each keeps those about its ports", async () => {
    const host = fakeHost();
    await host.boot();
    host.container("web", { ports: PORTS });
    host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "5432" }] }, address: "172.17.0.3" });
    const allow = { "8080": ["10.0.0.0/8"], "5432": ["10.1.0.0/16"], "*": [] };
    const result = await host.ask({ container: ["web", "db"], allow, reload: "restore" });
    expect(result).toMatchObject({ changed: true, warnings: [] });
    const { status: rows, problems } = await status(host);
    expect(problems?.filter(({ kind }) => kind.startsWith("list_"))).toEqual([]);
    // Another one's list is not taken from it in silence.
    const second = await host.ask({ container: ["web", "db"], allow: { "8080": [] }, reload: "restore" });
    expect(second.warnings.join()).toContain("this call does not give --allow 5432=10.1.0.0/16");
    expect(rows?.map(({ options }) => options)).toEqual([
      { allow: { "5432": ["10.1.0.0/16"], "*": [] } },
      { allow: { "8080": ["10.0.0.0/8"], "*": [] } },
    ]);
  });

  test("no advice drops it: what publishes a container again is a sync", async () => {
    const host = await published({ "8080/tcp": ["10.0.0.0/8"] });
    host.flush("mangle");
    const { problems = [] } = await status(host);
    expect(problems.map(({ kind }) => kind)).toContain("rules_missing");
    for (const { hint } of problems) expect(hint).not.toContain("create web");
    expect(await host.ask({ all: true, reload: "restore" })).toMatchObject({ changed: true });
    expect(mangle(host)).toContainEqual(expect.stringContaining("-s 10.0.0.0/8"));
  });

  test("it is kept over a sync, and by a call that names another container", async () => {
    const host = await published({ "8080/tcp": ["10.0.0.0/8"] });
    const before = [host.fragment("web"), mangle(host)];
    host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
    expect(await host.ask({ container: "db", reload: "restore" })).toMatchObject({ changed: true });
    expect(await host.ask({ all: true, reload: "restore" })).toMatchObject({ changed: false });
    expect([host.fragment("web"), mangle(host)]).toEqual(before);
  });
});

test.concurrent("ls and the answer say who may connect, range by range", async () => {
  const host = fakeHost();
  await host.boot();
  const range = Array.from({ length: 6 }, (_, index) => [
    `${80 + index}/tcp`,
    [{ HostIp: "0.0.0.0", HostPort: `${8080 + index}` }],
  ]);
  host.container("web", {
    ports: { ...Object.fromEntries(range), "22/tcp": [{ HostIp: "127.0.0.1", HostPort: "2222" }] },
  });
  const allow = { "8081-8082": ["10.0.0.0/8", "wg0"], "8084": [] };
  const { published = [] } = await host.ask({ container: "web", allow });
  expect(published.map(({ publish, to, from }) => `${publish} ${to} ${from}`)).toEqual([
    "127.0.0.1:2222/tcp 172.17.0.2:22 this host",
    "0.0.0.0:8080/tcp 172.17.0.2:80 everyone",
    "0.0.0.0:8081-8082/tcp 172.17.0.2:81-82 10.0.0.0/8, wg0",
    "0.0.0.0:8083/tcp 172.17.0.2:83 everyone",
    "0.0.0.0:8084/tcp 172.17.0.2:84 this host",
    "0.0.0.0:8085/tcp 172.17.0.2:85 everyone",
  ]);
  const ls: Result = JSON.parse(
    (await host.run(["ls", "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir])).stdout,
  );
  expect(ls.published?.map(({ live, ...one }) => (live ? one : live))).toEqual(published);
});

describe.concurrent("at a shell", () => {
  test("--allow, and --allow none", async () => {
    const host = await published({});
    const words = [
      "--json",
      "--reload",
      "restore",
      "--iptables-dir",
      host.iptablesDir,
      "--ip6tables-dir",
      host.ip6tablesDir,
    ];
    const ask = async (...more: string[]): Promise<Result> =>
      readAnswer(await host.run(["create", "web", ...more, ...words]));
    expect(await ask("--allow", "8080/tcp=10.0.0.0/8,wg0", "--allow", "*=")).toMatchObject({ changed: true });
    expect(mangle(host)).toContainEqual(expect.stringContaining("-s 10.0.0.0/8"));
    expect(await ask("--allow", "none")).toMatchObject({ changed: true });
    expect(mangle(host)).toEqual([]);
    expect((await host.run(["create", "web", "--allow", "8080"])).stderr).toContain("PORTS=SOURCES");
  });
});

describe.concurrent("settings and labels", () => {
  const settled = (host: FakeHost, settings: object) =>
    writeFileSync(host.settingsPath, JSON.stringify({ reload: "restore", ...settings }), { mode: 0o644 });

  test("what is published is for a group alone, and follows it", async () => {
    const host = fakeHost();
    await host.boot();
    host.container("web", { ports: PORTS });
    settled(host, { sources: { office: ["203.0.113.0/24"] }, allow: { "*": ["@office"] } });
    await host.ask({ container: "web" });
    expect(mangle(host)).toContainEqual(expect.stringContaining("-s 203.0.113.0/24"));
    settled(host, { sources: { office: ["198.51.100.0/24"] }, allow: { "*": ["@office"] } });
    expect(await host.ask({ all: true })).toMatchObject({ changed: true });
    expect(mangle(host)).toContainEqual(expect.stringContaining("-s 198.51.100.0/24"));
    expect(mangle(host).join()).not.toContain("203.0.113");
  });

  test("a label narrows, and no more", async () => {
    const host = fakeHost();
    await host.boot();
    settled(host, { allow: { "*": ["10.0.0.0/8"] } });
    labelled(host, { "docker_iptables.allow.8080/tcp": "10.1.0.0/16, 192.0.2.0/24" });
    const result = await host.ask({ all: true });
    expect(mangle(host)).toContainEqual(expect.stringContaining("-s 10.1.0.0/16"));
    expect(mangle(host).join()).not.toContain("192.0.2.0");
    expect(result.warnings.join()).toContain("its label for 8080/tcp allows 192.0.2.0/24, which the settings do not");
  });

  test("a broken label closes all ports, and says so", async () => {
    const host = fakeHost();
    await host.boot();
    settled(host, {});
    labelled(host, { "docker_iptables.allow.8080": "example.com" });
    const result = await host.ask({ all: true });
    expect(result.warnings.join()).toMatch(
      /web: all ports are closed to other machines: in its label, .*'example.com'/,
    );
    expect(mangle(host).filter((line) => line.includes("RETURN"))).toHaveLength(1);
    const { problems } = await status(host);
    expect(problems).toMatchObject([
      { kind: "list_unreadable", container: "web", msg: expect.stringContaining("in its label, '8080' allows") },
    ]);
    // Who names the container decides.
    expect(await host.ask({ container: "web", allow: { "8080": ["10.0.0.1"] } })).toMatchObject({
      changed: true,
      warnings: [],
    });
    expect(mangle(host)).toContainEqual(expect.stringContaining("-s 10.0.0.1/32"));
  });

  describe("a label that an image carries opens nothing", () => {
    const ALL = "docker_iptables.allow";
    const ONE = "docker_iptables.allow.8080/tcp";
    const sources = async (host: FakeHost, settings: object) => {
      settled(host, settings);
      const { warnings } = await host.ask({ all: true });
      const lines = mangle(host).filter((line) => line.includes("RETURN") && !line.includes("-i lo"));
      return { warnings, sources: lines.map((line) => / -s (\S+)/.exec(line)?.[1] ?? line) };
    };

    test.each([
      [
        "beside a wider key of the container's own",
        { [ALL]: "10.0.0.0/8" },
        { [ONE]: "0.0.0.0/0" },
        {},
        ["10.0.0.0/8"],
      ],
      ["beside a more exact one", { [ONE]: "10.0.0.0/8" }, { [ALL]: "10.1.0.0/16" }, {}, ["10.1.0.0/16"]],
      ["that is the container's own no more", { [ONE]: "10.0.0.0/8" }, { [ONE]: "10.1.0.0/16" }, {}, ["10.0.0.0/8"]],
      ["alone", {}, { [ONE]: "10.1.0.0/16" }, {}, ["10.1.0.0/16"]],
      [
        "though the settings trust labels",
        {},
        { [ONE]: "0.0.0.0/0" },
        { allow: { "*": ["10.0.0.0/8"] }, labels: "trusted" },
        ["10.0.0.0/8"],
      ],
      [
        "beside one of the container's own that the settings trust",
        { [ALL]: "192.0.2.0/24" },
        { [ONE]: "192.0.2.0/25,10.0.0.0/8" },
        { allow: { "*": ["10.0.0.0/8"] }, labels: "trusted" },
        ["192.0.2.0/25"],
      ],
    ])("%s", async (_, labels, carried, settings, expected) => {
      const host = fakeHost();
      await host.boot();
      labelled(host, labels as Record<string, string>, carried as Record<string, string>);
      expect((await sources(host, settings)).sources).toEqual(expected);
    });

    test("an image that cannot be asked about costs no other container; what its containers' labels say only narrows", async () => {
      const host = fakeHost();
      await host.boot();
      labelled(host, { [ONE]: "10.0.0.0/8" });
      host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
      host.on("docker", 'case "$*" in "image inspect"*) echo "unexpected trouble" >&2; exit 1 ;; esac');
      const settings = { allow: { "8080": ["0.0.0.0/0"] }, labels: "trusted" };
      expect(await sources(host, settings)).toEqual({ warnings: [], sources: ["10.0.0.0/8"] });
      expect(host.fragment("db")).toBeDefined();
    });

    test("what is beyond it is told; two labels for all ports are none; without the image all labels count as its own", async () => {
      const host = fakeHost();
      await host.boot();
      labelled(host, { [ALL]: "10.0.0.0/8" }, { [ONE]: "10.1.0.0/16" });
      expect((await sources(host, {})).warnings).toEqual([
        "web: its label for * allows 10.0.0.0/8, which the settings, or its image's label, do not",
      ]);
      labelled(host, { [ALL]: "10.0.0.0/8" }, { [`${ALL}.*`]: "0.0.0.0/0" });
      const twice = await sources(host, {});
      expect(twice.sources).toEqual([]);
      expect(twice.warnings.join()).toMatch(/web: all ports are closed to other machines: .*another list in/);
      labelled(host, { [ONE]: "192.0.2.0/24" });
      rmSync(join(host.fake, `images/${IMAGE}.json`));
      const settings = { allow: { "*": ["10.0.0.0/8"] }, labels: "trusted" };
      expect((await sources(host, settings)).sources).toEqual([]);
    });
  });

  describe("a container that is left alone is closed to who is not on its lists", () => {
    const ports = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
    const left: Record<string, [(host: FakeHost) => void, object]> = {
      "by its label, or its image's": [
        (host) => {
          host.container("web", { ports });
          const Config = { Labels: { "docker_iptables.enable": "false" } };
          host.document("web", { ...JSON.parse(host.documentOf("web")), Config });
        },
        {},
      ],
      "as it is not on the network of the settings": [(host) => host.container("web", { ports }), { network: "app" }],
    };
    test("and a call that takes its address for another one leaves them", async () => {
      const host = fakeHost();
      await host.boot();
      left["by its label, or its image's"]?.[0](host);
      settled(host, { allow: { "*": ["10.0.0.0/8"] } });
      await host.ask({ all: true });
      // It has restarted at another address.
      host.document("web", JSON.parse(host.documentOf("web").replace("172.17.0.2", "172.17.0.9")));
      host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.2" });
      expect(await host.ask({ container: "db" })).toMatchObject({ changed: true });
      expect(mangle(host)).toContainEqual(expect.stringMatching(/^-A INPUT .*--dport 8080 .*web" -j ALLOW$/));
    });

    test("a list of its own that cannot be read is told, and a problem", async () => {
      const host = fakeHost();
      await host.boot();
      host.container("web", { ports });
      const Labels = { "docker_iptables.enable": "false", "docker_iptables.allow": "example.com" };
      host.document("web", { ...JSON.parse(host.documentOf("web")), Config: { Labels } });
      settled(host, {});
      expect((await host.ask({ all: true })).warnings.join()).toContain("web: all ports are closed to other machines");
      expect((await status(host)).problems).toMatchObject([{ kind: "list_unreadable", container: "web" }]);
    });

    test.each(Object.keys(left))("%s", async (name) => {
      const [prepare, more] = left[name] ?? [() => {}, {}];
      const host = fakeHost();
      await host.boot();
      prepare(host);
      settled(host, { ...more, allow: { "*": ["10.0.0.0/8"] } });
      expect(await host.ask({ all: true })).toMatchObject({ changed: true });
      expect(mangle(host)).toContainEqual(expect.stringMatching(/^-A INPUT .*--dport 8080 .* -j ALLOW$/));
      expect(mangle(host)).toContainEqual(expect.stringContaining("-s 10.0.0.0/8"));
      expect(mangle(host, "ipv6")).toContainEqual(expect.stringMatching(/^-A INPUT .*--dport 8080 .* -j ALLOW$/));
      expect(host.kernel("nat")).not.toContain('"docker_iptables: web"');
      expect(await host.ask({ all: true, _ansible_check_mode: true })).toMatchObject({ changed: false });
      expect((await status(host)).problems).toEqual([]);
      // Not lost with what cannot be read any more.
      const document = JSON.parse(host.documentOf("web"));
      host.document("web", { ...document, NetworkSettings: { ...document.NetworkSettings, Ports: 7 } });
      expect((await host.ask({ all: true })).changed).toBe(false);
      expect(mangle(host)).toContainEqual(expect.stringContaining("-s 10.0.0.0/8"));
      host.document("web", document);
      // It follows the settings, and goes with them.
      settled(host, { ...more, allow: { "*": ["192.0.2.0/24"] } });
      expect(await host.ask({ all: true })).toMatchObject({ changed: true });
      expect(mangle(host).join()).toMatch(/-s 192\.0\.2\.0\/24/);
      settled(host, more);
      expect(await host.ask({ all: true })).toMatchObject({ changed: true });
      expect([mangle(host), host.fragment("web")]).toEqual([[], undefined]);
    });
  });

  test("a label that the settings trust decides in their place", async () => {
    const host = fakeHost();
    await host.boot();
    settled(host, { allow: { "*": ["10.0.0.0/8"] }, labels: "trusted" });
    labelled(host, { "docker_iptables.allow.8080/tcp": "192.0.2.0/24" });
    expect((await host.ask({ all: true })).warnings).toEqual([]);
    expect(mangle(host)).toContainEqual(expect.stringContaining("-s 192.0.2.0/24"));
    expect(mangle(host).join()).not.toContain("10.0.0.0");
  });
});
