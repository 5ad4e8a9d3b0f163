// The verb load, with the fake kernel: what it loads and leaves, says, keeps and refuses.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { hold } from "./hold.ts";
import { type FakeHost, fakeHost, readAnswer } from "./host.ts";

const ACCEPTS = (port: number) => `*filter\n-A INPUT -p tcp --dport ${port} -j ACCEPT\nCOMMIT\n`;
const BOOT = ".docker_iptables.boot";
const OTHER_BOOT = "# docker_iptables: boot 00000000-0000-4000-8000-000000000000\n";
const PUBLISHED = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

function start(host: FakeHost, words: readonly string[], env: Record<string, string> = {}) {
  // Tests that run side by side load one after another: there is one kernel.
  const flags = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir, "--timeout", "120"];
  return host.run(["load", ...flags, ...words], undefined, env);
}

async function load(host: FakeHost, words: readonly string[] = [], env: Record<string, string> = {}) {
  return readAnswer(await start(host, ["--json", ...words], env));
}

/** The last good texts are kept here. */
function stateOf(host: FakeHost) {
  const directory = join(host.root, "state");
  return {
    directory,
    env: { STATE_DIRECTORY: directory },
    file: (family: string) => join(directory, `${family}.rules`),
  };
}

/** A fragment of web, and a list of confirmed ones of another boot. */
function rebootedHost(): FakeHost {
  const host = fakeHost();
  host.container("web", { ports: PUBLISHED });
  host.write(
    "11-docker-container_web",
    "*nat\n-A DOCKER_CONTAINERS -p tcp --dport 8080 -j DNAT --to 172.17.0.9:80\nCOMMIT\n",
  );
  host.write(BOOT, `${OTHER_BOOT}# 11-docker-container_web\n`);
  return host;
}

describe.concurrent("load", () => {
  test("loads both families, says so, and has nothing to do the second time", async () => {
    const host = fakeHost();
    expect(await load(host)).toMatchObject({
      changed: true,
      msg: "IPv4 and IPv6 rules loaded",
      reloaded: ["iptables-restore", "ip6tables-restore"],
      warnings: [],
    });
    expect(host.kernel("nat")).toContain("172.17.0.0/16");
    expect(host.kernel("nat", "ipv6")).toContain("fd00::/64");
    host.calls();
    expect(await load(host)).toMatchObject({ changed: false, msg: "the rules are loaded already", reloaded: [] });
    // What the trials said is known.
    expect(host.calls().filter((call) => /^(unshare|ip6?tables-restore)/.test(call))).toEqual([]);
  });

  test.each([
    ['-p tcp -m comment --comment "-p udp"', '-p udp -m comment --comment "-p tcp"'],
    ["-m mark ! --mark 1 -m connmark --mark 1", "-m mark --mark 1 -m connmark ! --mark 1"],
  ])("replaces a rule of the same words that is another: %s", async (written, running) => {
    const host = fakeHost();
    host.write("10_docker", `*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD ${written} -j ACCEPT\nCOMMIT\n`);
    const kernel = `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD ${running} -j ACCEPT\nCOMMIT\n`;
    writeFileSync(join(host.fake, "kernel/ipv4/filter"), kernel);
    expect(await load(host, ["ipv4"])).toMatchObject({ changed: true });
    expect(host.kernel("filter")).toContain(`-A FORWARD ${written} -j ACCEPT`);
    expect(host.kernel("filter")).not.toContain(running);
  });

  test("refuses a quote without an end, which would take the target into the comment", async () => {
    const host = fakeHost();
    host.write("20_web", '*filter\n-A INPUT -m comment --comment "half -j DROP\nCOMMIT\n');
    expect((await load(host, ["ipv4"])).msg).toMatch(/20_web line 2: a " has no end/);
  });

  test.each([
    ["ipv4", "ipv6"],
    ["ipv6", "ipv4"],
  ])("of %s alone leaves %s as it is", async (one, other) => {
    const host = fakeHost();
    const result = await load(host, [one]);
    expect(result).toMatchObject({ changed: true, msg: `${one === "ipv4" ? "IPv4" : "IPv6"} rules loaded` });
    expect(result.reloaded).toHaveLength(1);
    expect(host.kernel("nat", one)).toContain("MASQUERADE");
    expect(host.kernel("nat", other)).toBe("");
    expect(host.calls().some((call) => call.startsWith(other === "ipv6" ? "ip6tables" : "iptables"))).toBe(false);
  });

  test("takes each table from all fragments, in bytewise order, and empties what none names", async () => {
    const host = fakeHost();
    writeFileSync(join(host.fake, "kernel/ipv4/mangle"), "*mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j LOST\nCOMMIT\n");
    host.write("9_last", ACCEPTS(9));
    host.write("20_web", ACCEPTS(20));
    const removed = (tense: string) => [`IPv4 rules not in any fragment ${tense} removed: '-A OUTPUT -j LOST'`];
    expect((await load(host, ["--check"])).warnings).toEqual(removed("would be"));
    const result = await load(host);
    expect(host.kernel("filter")).toMatch(/--dport 20 .*\n.*--dport 9 /);
    expect(host.kernel("mangle")).not.toContain("LOST");
    expect(result.warnings).toEqual(removed("were"));
  });

  test.each([
    ["a policy", ":INPUT DROP"],
    ["a chain", ":MINE -"],
  ])("loads %s alone into a kernel that has no table yet", async (_, declaration) => {
    const host = fakeHost();
    host.write("10_docker", `*mangle\n${declaration} [0:0]\nCOMMIT\n`);
    expect(await load(host, ["ipv4"])).toMatchObject({ changed: true });
    expect(host.kernel("mangle")).toContain(declaration);
  });

  test("lists three removed rules, counts the others, and does not count its own", async () => {
    const host = fakeHost();
    const lines = [1, 2, 3, 4, 5].map((mark) => `-A INPUT -m mark --mark ${mark} -j DROP\n`);
    const ours = '-A INPUT -m comment --comment "docker_iptables: gone" -j ACCEPT\n';
    writeFileSync(
      join(host.fake, "kernel/ipv4/filter"),
      `*filter\n:INPUT ACCEPT [0:0]\n${lines.join("")}${ours}COMMIT\n`,
    );
    const { warnings } = await load(host);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/--mark 1 .*--mark 2 .*--mark 3 -j DROP' and 2 more$/);
  });

  test("with --check changes nothing, and foretells", async () => {
    const host = fakeHost();
    const { directory, env } = stateOf(host);
    const before = host.state();
    expect(await load(host, ["--check"], env)).toMatchObject({
      changed: true,
      msg: "IPv4 and IPv6 rules would be loaded",
      reloaded: [],
    });
    expect(host.state()).toEqual(before);
    // Nothing is kept, so it is tried.
    expect(host.calls().filter((call) => call.startsWith("unshare"))).toHaveLength(2);
    expect(existsSync(directory)).toBe(false);
    await load(host);
    expect(await load(host, ["--check"])).toMatchObject({ changed: false });
  });

  test("prints for a person without --json", async () => {
    const host = fakeHost();
    const { exitCode, stdout, stderr } = await start(host, []);
    expect({ exitCode, stdout, stderr }).toEqual({
      exitCode: 0,
      stdout: "IPv4 and IPv6 rules loaded\n  reloaded iptables-restore\n  reloaded ip6tables-restore\n",
      stderr: "",
    });
    host.write("20_web", "*filter\nnonsense\nCOMMIT\n");
    const failed = await start(host, []);
    expect(failed).toMatchObject({ exitCode: 1, stdout: "" });
    expect(failed.stderr).toMatch(/^docker_iptables: .*20_web line 2: .* \[fragment_invalid\]\n$/);
  });

  test.each([["ipv5"], ["ipv4", "web"], ["all"], ["--frobnicate"]])(
    "%s %s: wrong usage, exit status 2",
    async (...words) => {
      const host = fakeHost();
      const before = host.state();
      const { exitCode, stdout, stderr } = await start(host, words.filter(Boolean));
      expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
      expect(stderr).toContain(words.at(-1));
      expect(host.state()).toEqual(before);
    },
  );

  test("a host without a directory for IPv6 is one without IPv6, unless that is asked for", async () => {
    const host = fakeHost();
    rmSync(host.ip6tablesDir, { recursive: true });
    expect(await load(host)).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    expect(await load(host, ["ipv6"])).toMatchObject({
      failed: true,
      exitCode: 1,
      error: { code: "directory_unusable", path: host.ip6tablesDir },
    });
  });

  test("a missing directory for IPv4 is a failure, and nothing is loaded", async () => {
    const host = fakeHost();
    rmSync(host.iptablesDir, { recursive: true });
    expect(await load(host)).toMatchObject({ failed: true, error: { code: "directory_unusable" } });
    expect(host.kernel("nat", "ipv6")).toBe("");
    expect(await load(host, ["ipv6"])).toMatchObject({ changed: true });
  });

  test("skips hidden files, directories and what editors and package managers leave", async () => {
    const host = fakeHost();
    const leftovers = ["20~", "#20#", "20.bak", "20.orig", "20.rej", "20.swp", "20.swo", "20.tmp", ".20"];
    const packages = [
      "20.dpkg-old",
      "20.dpkg-new",
      "20.dpkg-dist",
      "20.ucf-old",
      "20.rpmsave",
      "20.rpmnew",
      "20.rpmorig",
    ];
    for (const name of [...leftovers, ...packages]) host.write(name, "nonsense\n");
    mkdirSync(join(host.iptablesDir, "20_directory"));
    symlinkSync("nowhere", join(host.iptablesDir, "20_link"));
    host.write("20.rules", ACCEPTS(20));
    expect(await load(host)).toMatchObject({ changed: true, warnings: [] });
    expect(host.kernel("filter")).toContain("--dport 20 ");
  });
});

describe.concurrent("what is wrong", () => {
  test("a rule that iptables refuses in the trial: fragment and line, and nothing is loaded, of neither family", async () => {
    const host = fakeHost();
    await load(host);
    host.write("20_web", `# mine\n${ACCEPTS(20)}`);
    host.write("30_db", "*filter\n-A INPUT -j ACCEPT\n\n# here\n-A INPUT -j broken\nCOMMIT\n", host.ip6tablesDir);
    const before = host.state();
    const result = await load(host);
    expect(result).toMatchObject({
      failed: true,
      changed: false,
      error: { code: "fragment_invalid", path: join(host.ip6tablesDir, "30_db"), line: 5, rule: "-A INPUT -j broken" },
    });
    expect(host.state()).toEqual(before);
  });

  test("a trial that cannot be made: a warning, and the rules are loaded", async () => {
    const host = fakeHost();
    host.on("unshare", 'echo "unshare: unshare failed: Operation not permitted" >&2; exit 1');
    const result = await load(host);
    expect(result).toMatchObject({ changed: true });
    expect(result.warnings).toEqual([expect.stringMatching(/were not tested .*: unshare: unshare failed: Operation/)]);
    expect(host.kernel("nat")).toContain("MASQUERADE");
  });

  test.each([
    ["a second table", "iptables.d", "IPv4"],
    ["the second family", "ip6tables.d", "IPv6"],
  ])("%s fails in the kernel alone: all is put back, and told", async (_, directory, family) => {
    const host = fakeHost();
    await load(host);
    for (const each of [host.iptablesDir, host.ip6tablesDir])
      host.write("15_more", `*raw\n-A OUTPUT -j DROP\nCOMMIT\n`, each);
    host.write("20_web", "*filter\n-A INPUT -j shaky\nCOMMIT\n", join(host.root, directory));
    const rules = () => ["nat", "filter"].flatMap((table) => [host.kernel(table), host.kernel(table, "ipv6")]);
    const before = rules();
    const result = await load(host);
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "reload_failed" } });
    expect(result.rolled_back).toContain(`the kernel's ${family} rules`);
    expect(result.rolled_back).toContain("the kernel's IPv4 rules");
    expect(rules()).toEqual(before);
    for (const version of ["ipv4", "ipv6"]) expect(host.kernel("raw", version)).not.toContain("DROP");
  });

  test("the second family fails, and so does the rollback of the first: reported, and the failure is the first one", async () => {
    const host = fakeHost();
    await load(host);
    const rules = host.kernel("nat");
    for (const each of [host.iptablesDir, host.ip6tablesDir])
      host.write("20_web", "*filter\n-A INPUT -p esp -j DROP\nCOMMIT\n", each);
    host.on("ip6tables-restore", 'echo "no memory" >&2; exit 4');
    host.on("iptables-restore", '[ -e "$FAKE/once" ] && { echo "all is lost" >&2; exit 1; }; : > "$FAKE/once"');
    const result = await load(host);
    expect(result).toMatchObject({ failed: true, changed: true, error: { code: "reload_failed", exit_code: 4 } });
    expect(result.rolled_back).toEqual([expect.stringMatching(/^NOT put back: .*all is lost/)]);
    expect(host.kernel("filter")).toContain("-p esp");
    expect(host.kernel("nat")).toBe(rules);
  });

  test("another load's lock is held: locked, and nothing is loaded", async () => {
    const host = fakeHost();
    await hold(host, "load");
    let result = await load(host, ["--timeout", "1"]);
    // A slow machine may not get as far as the lock.
    if (result.error?.code !== "locked") result = await load(host, ["--timeout", "30"]);
    expect(result).toMatchObject({ failed: true, error: { code: "locked" } });
    expect(host.kernel("nat")).toBe("");
  });
});

describe.concurrent("container fragments of another boot", () => {
  test("are left out with a warning, and confirmed again by present", async () => {
    const host = rebootedHost();
    const path = join(host.iptablesDir, "11-docker-container_web");
    const { warnings } = await load(host);
    expect(warnings).toEqual([`${path} is from before this boot; skipped until 'create' confirms it`]);
    expect(host.kernel("nat")).not.toContain("172.17.0.9");
    expect(host.kernel("nat")).toContain("MASQUERADE");
    expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true, warnings: [] });
    expect(host.kernel("nat")).toContain("172.17.0.2:80");
    expect(await load(host)).toMatchObject({ changed: false, warnings: [] });
  });

  test("are confirmed by present also where not a byte of them changes", async () => {
    const host = rebootedHost();
    await host.ask({ container: "web", reload: "none" });
    const text = host.fragment("web");
    host.write(BOOT, OTHER_BOOT);
    await load(host);
    expect(host.kernel("nat")).not.toContain("172.17.0.2");
    expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({
      changed: true,
      containers: [{ reasons: ["kernel"] }],
    });
    expect(host.fragment("web")).toBe(text);
    expect(host.kernel("nat")).toContain("172.17.0.2:80");
  });

  test("are not confirmed by another's present", async () => {
    const host = rebootedHost();
    host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
    const { warnings } = await host.ask({ container: "db", reload: "restore" });
    expect(warnings).toEqual([expect.stringContaining("11-docker-container_web is from before this boot")]);
    expect(host.kernel("nat")).toContain("172.17.0.3:80");
    expect(host.kernel("nat")).not.toContain("172.17.0.9");
  });

  test("without such a list all count, and the first present lists all that are there", async () => {
    const host = rebootedHost();
    rmSync(join(host.iptablesDir, BOOT));
    host.write("11-docker-container_db", ACCEPTS(81));
    expect(await load(host)).toMatchObject({ changed: true, warnings: [] });
    expect(host.kernel("nat")).toContain("172.17.0.9");
    host.container("new", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8082" }] }, address: "172.17.0.7" });
    await host.ask({ container: "new", reload: "restore" });
    const [mark, ...names] = readFileSync(join(host.iptablesDir, BOOT), "utf8").trimEnd().split("\n");
    expect(mark).toMatch(/^# docker_iptables: boot [0-9a-f-]{36}$/);
    expect(names).toEqual(["db", "new", "web"].map((name) => `# 11-docker-container_${name}`));
    for (const address of ["172.17.0.9", "172.17.0.7"]) expect(host.kernel("nat")).toContain(address);
  });

  test("that are removed leave the list: one of that name that another program restores is not loaded", async () => {
    const host = fakeHost();
    for (const [index, name] of ["web", "db", "job"].entries()) {
      const ports = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: String(8080 + index) }] };
      host.container(name, { ports, address: `172.17.0.${index + 2}` });
    }
    await host.boot();
    const listed = () => readFileSync(join(host.iptablesDir, BOOT), "utf8").match(/(?<=container_).+$/gm);
    const given = { reload: "restore" };
    await host.ask({ ...given, container: ["web", "db", "job"] });
    expect(listed()).toEqual(["db", "job", "web"]);
    const text = host.fragment("web") ?? "";
    await host.ask({ ...given, container: "web", state: "absent" });
    expect(listed()).toEqual(["db", "job"]);
    host.write("11-docker-container_web", text);
    expect(await load(host)).toMatchObject({
      warnings: [expect.stringContaining("11-docker-container_web is from before this boot")],
    });
    expect(host.kernel("nat")).not.toContain("172.17.0.2:80");
    // A fragment that another program has removed is dropped from the list with the next write of any container, and with its own
    // next delete.
    rmSync(join(host.iptablesDir, "11-docker-container_db"));
    await host.ask({ ...given, container: "web" });
    expect(listed()).toEqual(["job", "web"]);
    rmSync(join(host.iptablesDir, "11-docker-container_job"));
    await host.ask({ ...given, container: "job", state: "absent" });
    expect(listed()).toEqual(["web"]);
  });

  test("that go make no list where there is none", async () => {
    const host = rebootedHost();
    rmSync(join(host.iptablesDir, BOOT));
    await host.ask({ container: "web", state: "absent", reload: "restore" });
    expect(host.fragment("web")).toBeUndefined();
    expect(existsSync(join(host.iptablesDir, BOOT))).toBe(false);
  });

  test.each([
    ["there is none", undefined],
    ["it is of another boot", OTHER_BOOT],
  ])("a failed present leaves that list as it was: %s", async (_, list) => {
    const host = rebootedHost();
    if (list === undefined) rmSync(join(host.iptablesDir, BOOT));
    else host.write(BOOT, list);
    host.on("iptables-restore", "exit 9");
    await host.refuses({ container: "web", reload: "restore" }, "reload_failed");
    expect(existsSync(join(host.iptablesDir, BOOT))).toBe(list !== undefined);
  });
});

describe.concurrent("the last good rules (STATE_DIRECTORY)", () => {
  test("are kept after a good load, for root alone, without the containers' rules", async () => {
    const host = fakeHost();
    const { directory, env, file } = stateOf(host);
    host.write("11-docker-container_web", ACCEPTS(8080));
    host.write("20_web", ACCEPTS(20));
    expect(await load(host, [], env)).toMatchObject({ changed: true, warnings: [] });
    const kinds = ["left", "rules", "spelled"];
    const names = ["ipv4", "ipv6"].flatMap((family) => kinds.map((kind) => `${family}.${kind}`));
    expect(readdirSync(directory).sort()).toEqual(names);
    for (const name of names) expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    expect(readFileSync(file("ipv4"), "utf8")).toContain("--dport 20 ");
    expect(readFileSync(file("ipv4"), "utf8")).not.toContain("--dport 8080 ");
    expect(host.kernel("filter")).toContain("--dport 8080 ");
  });

  test("are written over what a killed run left, and over the former ones", async () => {
    const host = fakeHost();
    const { directory, env, file } = stateOf(host);
    mkdirSync(directory);
    for (const name of ["ipv4.rules.4711.tmp", "others.tmp"]) {
      writeFileSync(join(directory, name), "*fil");
      utimesSync(join(directory, name), 1, 1);
    }
    writeFileSync(file("ipv4"), "former\n");
    expect(await load(host, [], env)).toMatchObject({ changed: true, warnings: [] });
    expect(readFileSync(file("ipv4"), "utf8")).toContain("MASQUERADE");
    expect(readdirSync(directory).filter((name) => name.includes("tmp"))).toEqual(["others.tmp"]);
  });

  test("cannot be kept: the rules are live, and that is a warning", async () => {
    const host = fakeHost();
    const { directory, env } = stateOf(host);
    writeFileSync(directory, "in the way\n");
    const result = await load(host, [], env);
    expect(result).toMatchObject({ changed: true });
    expect(result.warnings).toEqual([
      expect.stringContaining("the record of what the fragments declare could not be written"),
      expect.stringContaining("not stored for the next boot"),
    ]);
    expect(host.kernel("nat")).toContain("MASQUERADE");
  });

  test("come where a load fails and the kernel has no rules: exit status 1, and it says so", async () => {
    const host = fakeHost();
    const { env, file } = stateOf(host);
    await load(host, [], env);
    const kept = readFileSync(file("ipv4"), "utf8");
    for (const table of ["nat", "filter"]) for (const family of ["ipv4", "ipv6"]) host.flush(table, family);
    host.write("20_web", "*filter\nnonsense\nCOMMIT\n");
    const result = await load(host, ["ipv4"], env);
    expect(result).toMatchObject({
      failed: true,
      changed: true,
      exitCode: 1,
      error: { code: "fragment_invalid", line: 2, last_good: ["ipv4"] },
    });
    expect(result.msg).toMatch(/20_web line 2: .*; the kernel had no rules, so the last good IPv4 rules were loaded/);
    expect(host.kernel("nat")).toContain("MASQUERADE");
    expect(host.kernel("nat", "ipv6")).toBe("");
    expect(readFileSync(file("ipv4"), "utf8")).toBe(kept);
  });

  test("do not come where the kernel has rules: it keeps them", async () => {
    const host = fakeHost();
    const { env } = stateOf(host);
    await load(host, [], env);
    host.write("20_web", "*filter\nnonsense\nCOMMIT\n");
    const before = host.state();
    const result = await load(host, [], env);
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "fragment_invalid" } });
    expect(result.msg).not.toContain("last good");
    expect(host.state()).toEqual(before);
  });

  test.each([
    ["none are kept", undefined],
    ["those kept are garbled", "*filter\n:INPUT DROP [0:0]\nhalf a li"],
    ["those kept are refused", "*filter\n-A INPUT -j broken\nCOMMIT\n"],
  ])("where %s, all of the fragments that can be loaded is loaded, and what was left out is told", async (_, kept) => {
    const host = fakeHost();
    const { directory, env, file } = stateOf(host);
    mkdirSync(directory);
    if (kept !== undefined) writeFileSync(file("ipv4"), kept, { mode: 0o600 });
    host.write("20_web", `*filter\n:INPUT DROP [0:0]\n-A INPUT -j broken\n${ACCEPTS(20).split("\n")[1]}\nCOMMIT\n`);
    const result = await load(host, ["ipv4"], env);
    const left = { where: expect.stringMatching(/20_web line 3$/), rule: "-A INPUT -j broken" };
    expect(result).toMatchObject({
      failed: true,
      changed: true,
      error: { code: "fragment_invalid", line: 3, last_good: [], left_out: [left] },
    });
    expect(result.msg).toMatch(
      /20_web line 3: .*; the kernel had no rules, so the IPv4 rules that can be loaded were loaded instead, except .*20_web line 3 '-A INPUT -j broken' \(/,
    );
    expect(host.kernel("filter")).toContain(":INPUT DROP");
    expect(host.kernel("filter")).toContain("--dport 20 ");
    expect(host.kernel("nat")).toContain("MASQUERADE");
    const again = await load(host, ["ipv4"], env);
    expect(again.msg).not.toContain("the kernel had no rules");
  });

  test("a later load brings in what can be loaded by then, though another rule is refused still", async () => {
    const host = fakeHost();
    const { env } = stateOf(host);
    host.write("20_ssh", "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j broken\nCOMMIT\n");
    host.write("30_web", "*filter\n-A INPUT -j broken\nCOMMIT\n");
    expect((await load(host, ["ipv4"], env)).error).toMatchObject({ left_out: [{}, {}] });
    expect(host.kernel("filter")).not.toContain("--dport 22 ");
    expect((await load(host, ["ipv4"], env)).msg).not.toContain("skipped rules");
    host.write("20_ssh", `*filter\n:INPUT DROP [0:0]\n${ACCEPTS(22).split("\n")[1]}\nCOMMIT\n`);
    const better = await load(host, ["ipv4"], env);
    expect(better).toMatchObject({ failed: true, changed: true, error: { left_out: [{}] } });
    expect(better.msg).toContain(
      "an earlier load skipped rules, and now the IPv4 rules that can be loaded were loaded",
    );
    expect(host.kernel("filter")).toContain("--dport 22 ");
    // Not fewer.
    host.write("20_ssh", "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j broken\nCOMMIT\n");
    await load(host, ["ipv4"], env);
    expect(host.kernel("filter")).toContain("--dport 22 ");
    for (const name of ["20_ssh", "30_web"]) host.write(name, ACCEPTS(22));
    expect(await load(host, ["ipv4"], env)).toMatchObject({ changed: true });
    host.write("30_web", "*filter\n-A INPUT -j broken\nCOMMIT\n");
    expect(await load(host, ["ipv4"], env)).toMatchObject({ failed: true, changed: false });
  });

  test("a rule of another firewall's that a fragment has, too, does not pass for ours where there is a base", async () => {
    const host = fakeHost();
    const { env } = stateOf(host);
    const base = '-A FORWARD -m comment --comment "docker_iptables: (90_docker)" -j DROP';
    host.write("90_docker", `# docker_iptables: (90_docker) (do not edit)\n*filter\n${base}\nCOMMIT\n`);
    host.write("20_ssh", ACCEPTS(22));
    host.write("30_web", "*filter\n-A INPUT -j broken\nCOMMIT\n");
    host.setKernel("filter", ACCEPTS(22));
    host.setKernel("nat", "*nat\nCOMMIT\n");
    const result = await load(host, ["ipv4"], env);
    expect(result).toMatchObject({
      failed: true,
      changed: true,
      error: { left_out: [{ rule: "-A INPUT -j broken" }] },
    });
    expect(host.kernel("filter")).toContain("(90_docker)");
    expect(host.kernel("filter")).toContain("--dport 22 ");
    // Once all of it was loaded, what runs is not replaced by less.
    host.write("30_web", ACCEPTS(23));
    expect(await load(host, ["ipv4"], env)).toMatchObject({ changed: true });
    host.write("30_web", "*filter\n-A INPUT -j broken\nCOMMIT\n");
    host.setKernel("filter", host.kernel("filter").replaceAll(/^.*90_docker.*\n/gm, ""));
    expect(await load(host, ["ipv4"], env)).toMatchObject({ failed: true, changed: false });
    expect(host.kernel("filter")).toContain("--dport 23 ");
  });

  test("a table that the kernel does not have is left out, and no other", async () => {
    const host = fakeHost();
    const { env } = stateOf(host);
    host.write("20_ssh", ACCEPTS(22));
    host.write("30_odd", "*broken\n-A INPUT -j DROP\n-A INPUT -j LOG\nCOMMIT\n");
    const result = await load(host, ["ipv4"], env);
    const left = { where: expect.stringMatching(/30_odd line 2$/), rule: "*broken with its 2 rules" };
    expect(result).toMatchObject({ failed: true, changed: true, error: { left_out: [left] } });
    expect(result.msg).toContain("BLOCKS NOBODY");
    expect(host.kernel("filter")).toContain("--dport 22 ");
    expect(host.kernel("nat")).toContain("MASQUERADE");
  });

  test("what another unit keeps (StateDirectory=web) is not ours: a create in it leaves that alone", async () => {
    const host = fakeHost();
    const directory = join(host.root, "web");
    mkdirSync(directory);
    writeFileSync(join(directory, "ipv4.rules.4711.tmp"), "theirs");
    utimesSync(join(directory, "ipv4.rules.4711.tmp"), 1, 1);
    host.environment["STATE_DIRECTORY"] = directory;
    host.container("web", { ports: PUBLISHED });
    expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true });
    expect(readdirSync(directory)).toEqual(["ipv4.rules.4711.tmp"]);
    expect(existsSync(join(host.iptablesDir, ".docker_iptables", "ipv4.rules"))).toBe(true);
  });

  test("what a service of load keeps is ours, also with an option before the verb", async () => {
    const host = fakeHost();
    const { directory, env, file } = stateOf(host);
    mkdirSync(directory);
    const flags = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir, "--timeout", "120"];
    await host.run(["--json", "load", ...flags], undefined, env);
    expect(existsSync(file("ipv4"))).toBe(true);
  });

  test("without STATE_DIRECTORY they are hidden beside the fragments, whoever loads", async () => {
    const host = fakeHost();
    host.container("web", { ports: PUBLISHED });
    expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true });
    const kept = readFileSync(join(host.iptablesDir, ".docker_iptables", "ipv4.rules"), "utf8");
    expect(kept).toContain("MASQUERADE");
    expect(kept).not.toContain("docker_iptables: web");
  });

  test("a patch leaves those of the host in them", async () => {
    const host = fakeHost();
    const path = join(host.iptablesDir, ".docker_iptables", "ipv4.rules");
    const publish = (name: string) => {
      host.container(name, { ports: PUBLISHED, address: "172.17.0.7" });
      return host.ask({ container: name, reload: "patch" });
    };
    host.write("20_ssh", ACCEPTS(22));
    await load(host, ["ipv4"]);
    expect(await publish("web")).toMatchObject({ changed: true });
    const kept = readFileSync(path, "utf8");
    expect(kept).toContain("--dport 22 ");
    expect(kept).toContain("MASQUERADE");
    expect(kept).not.toContain("docker_iptables: web");
    writeFileSync(path, "*filter\n-A INPUT -j DROP\n");
    // What cannot be read is not made a text that says less.
    expect(await host.ask({ container: "web", state: "absent", reload: "patch" })).toMatchObject({ changed: true });
    expect(readFileSync(path, "utf8")).toBe("*filter\n-A INPUT -j DROP\n");
  });
});

test("a service's start loads as its reload does, where there are no foreign rules", async () => {
  const [start, reload] = [fakeHost(), fakeHost()];
  expect(await load(start, ["ipv4", "--keep-undeclared"])).toMatchObject({ changed: true, warnings: [] });
  await load(reload, ["ipv4"]);
  expect(start.kernel("nat")).toBe(reload.kernel("nat"));
  expect(start.kernel("nat")).toContain("MASQUERADE");
});

describe("odd fragments, with --check", () => {
  async function check(text: string | Uint8Array, name = "20_odd") {
    const host = fakeHost();
    writeFileSync(join(host.iptablesDir, name), text);
    return load(host, ["--check"]);
  }

  test("10 MB of rules are read", async () => {
    const rules = Array.from(
      { length: 100_000 },
      (_, mark) => `-A INPUT -m mark --mark ${mark} -m comment --comment "${"x".repeat(60)}" -j ACCEPT\n`,
    );
    const text = `*filter\n${rules.join("")}COMMIT\n`;
    expect(text.length).toBeGreaterThan(10_000_000);
    expect(await check(text)).toMatchObject({ changed: true });
  });

  test("10 MB in one line, and 10 MB of nonsense, are refused with a readable message", async () => {
    for (const text of ["x".repeat(10_000_000), "junk\n".repeat(2_000_000)]) {
      const result = await check(text);
      expect(result).toMatchObject({ failed: true, error: { code: "fragment_invalid", line: 1 } });
      expect(JSON.stringify(result).length).toBeLessThan(100_000);
    }
  });

  test("NUL bytes and bytes that are no UTF-8 end in an answer", async () => {
    expect(await check("\0\0\0\n")).toMatchObject({ failed: true, error: { code: "fragment_invalid", line: 1 } });
    expect(await check(Buffer.from([0xff, 0xfe, 0x0a]))).toMatchObject({
      error: { code: "fragment_invalid", line: 1 },
    });
  });

  test("a NUL byte within a rule is refused: iptables would read no further", async () => {
    expect(await check("*filter\n-A INPUT -s 192.0.2.1 \0 -j DROP\nCOMMIT\n")).toMatchObject({
      failed: true,
      error: { code: "fragment_invalid", line: 2 },
    });
  });

  test.each([
    ["CRLF", ACCEPTS(20).replaceAll("\n", "\r\n"), 1],
    ["no COMMIT", "*filter\n-A INPUT -j ACCEPT\n", 3],
    ["no final newline, no COMMIT", "*filter\n-A INPUT -j ACCEPT", 2],
    ["a rule before any table", "-A INPUT -j ACCEPT\n", 1],
    ["shell", "iptables -A INPUT -j ACCEPT\n", 1],
    ["nft", "table ip filter {\n}\n", 1],
    ["a table within a table", "*filter\n*nat\nCOMMIT\n", 2],
  ])("%s: refused, with the line", async (_, text, line) => {
    expect(await check(text)).toMatchObject({ failed: true, error: { code: "fragment_invalid", line } });
  });

  test.each([
    ["no final newline", "*filter\n-A INPUT -p tcp --dport 20 -j ACCEPT\nCOMMIT"],
    ["two sections of one table", ACCEPTS(20) + ACCEPTS(21)],
    ["empty", ""],
    ["comments", "# only\n\n   \n#\n"],
    ["a table of a module", "*custom\nCOMMIT\n"],
  ])("%s: taken", async (_, text) => {
    expect(await check(text)).toMatchObject({ changed: true });
  });

  test("two sections of one table become one", async () => {
    const host = fakeHost();
    host.write("20_twice", ACCEPTS(20) + ACCEPTS(21));
    await load(host);
    expect(host.kernel("filter").match(/^\*filter$/gm)).toHaveLength(1);
    expect(host.kernel("filter")).toMatch(/--dport 20 .*\n.*--dport 21 /);
  });

  test("200 fragments with 20,000 rules are loaded, all of them, in order", async () => {
    const host = fakeHost();
    for (let file = 0; file < 200; file++) {
      const rules = Array.from(
        { length: 100 },
        (_, rule) => `-A INPUT -m mark --mark ${file * 100 + rule} -j ACCEPT\n`,
      );
      host.write(`2${String(file).padStart(3, "0")}`, `*filter\n${rules.join("")}COMMIT\n`);
    }
    expect(await load(host)).toMatchObject({ changed: true });
    const marks = [...host.kernel("filter").matchAll(/--mark (\d+) /g)].map(([, mark]) => Number(mark));
    expect(marks).toEqual(Array.from({ length: 20_000 }, (_, mark) => mark));
    expect(await load(host)).toMatchObject({ changed: false });
  });

  const REAL = new URL("../fragments/real/", import.meta.url);
  test.each(readdirSync(REAL))("%s, as it is found in the wild: no line is rejected, none is missing", async (name) => {
    const host = fakeHost();
    const text = readFileSync(new URL(name, REAL), "utf8");
    host.write("00_real", text);
    expect(await load(host)).toMatchObject({ changed: true, warnings: [] });
    const written = text.split("\n").filter((line) => /^(\[\d+:\d+\] )?-[AI] /.test(line));
    const rules = written.map((line) => line.replace(/^\[\d+:\d+\] /, "").replace(/^-I (\S+)( \d+)?/, "-A $1"));
    expect(rules.length).toBeGreaterThan(1);
    const tables = ["mangle", "nat", "filter"].map((table) => host.kernel(table)).join("");
    for (const rule of rules) expect(tables.split("\n")).toContain(rule);
    for (const [, chain] of text.matchAll(/^(?::|-N )(\S+)/gm)) expect(tables).toMatch(new RegExp(`^:${chain} `, "m"));
  });
});

test("a directory that may not be read: permission_denied", async ({ skip }) => {
  if (process.getuid?.() === 0) skip("root may read all");
  const host = fakeHost();
  chmodSync(host.iptablesDir, 0);
  expect(await load(host)).toMatchObject({ failed: true, error: { code: "permission_denied" } });
  chmodSync(host.iptablesDir, 0o755);
});
