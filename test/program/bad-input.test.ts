// Arguments that must be refused, each with one clear sentence, before anything was run or written.

import { describe, expect, test } from "vitest";
import { readRequest } from "../../src/cli/request.ts";
import { Failure } from "../../src/model/errors.ts";
import { NO_SETTINGS } from "../../src/model/settings.ts";
import { oneLine } from "../../src/text/visible.ts";
import { fakeHost } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const LONGEST_NAME = "n".repeat(235);

/** Refused by the program as arguments_invalid; returns the message. Nothing was called. */
async function refusal(given: Record<string, unknown>): Promise<string> {
  const host = fakeHost();
  const { msg } = await host.refuses(given, "arguments_invalid");
  expect(host.calls()).toEqual([]);
  expect(msg.length).toBeLessThan(2000);
  expect(msg).toBe(oneLine(complaint(host.args(given))));
  return msg;
}

/** The same, of the one function that reads arguments: for long tables. */
function complaint(raw: Record<string, unknown>): string {
  try {
    readRequest(raw, { env: {}, cwd: "/" }, NO_SETTINGS);
  } catch (error) {
    expect(error).toBeInstanceOf(Failure);
    expect(error).toMatchObject({ code: "arguments_invalid" });
    return (error as Failure).message;
  }
  throw new Error("it was not refused");
}

describe.concurrent("names", () => {
  test.each([
    ["a path", "../../etc/passwd"],
    ["an option", "-rf"],
    ["a space", "a b"],
    ["a newline at the end", "web\n"],
    ["a newline inside", "web\n-A INPUT -j ACCEPT"],
    ["a carriage return", "web\r"],
    ["a zero byte", "web\0"],
    ["4096 characters", "w".repeat(4096)],
    ["one character too many", `${LONGEST_NAME}n`],
    ["a command", "$(reboot)"],
    ["another command", "`reboot`"],
    ["a quote", 'web"'],
    ["a semicolon", "web;reboot"],
    ["a leading slash", "/web"],
    ["a leading dot", ".web"],
    ["a dot and nothing else", "."],
    ["letters beyond ASCII", "wéb"],
    ["letters that only look the same", "wеb"],
    ["an invisible letter", "web\u200b"],
    ["nothing", ""],
    ["a comma too many", "web,"],
  ])("%s", async (_what, container) => {
    expect(await refusal({ container })).toMatch(/^container must be the name or id of a container/);
  });

  test("absent takes no more than present", async () => {
    expect(await refusal({ container: "../../etc/passwd", state: "absent" })).toMatch(/^container must be the name/);
  });

  test("all bad ones are named at once, and none of the good ones", async () => {
    const message = await refusal({ container: ["web", "a b", "db", "-rf", "$(reboot)", "../x"] });
    for (const bad of ['"a b"', '"-rf"', '"$(reboot)"', '"../x"']) expect(message).toContain(bad);
    expect(message).not.toMatch(/"web"|"db"/);
  });

  test("an empty list", async () => {
    expect(await refusal({ container: [] })).toMatch(/container must name at least one container/);
  });

  test("the longest name that Docker and the file system take works", async () => {
    const host = fakeHost();
    host.container(LONGEST_NAME, { ports: PORTS });
    expect(await host.ask({ container: LONGEST_NAME })).toMatchObject({ changed: true });
    expect(await host.ask({ container: LONGEST_NAME })).toMatchObject({ changed: false });
    expect(await host.ask({ container: LONGEST_NAME, state: "absent" })).toMatchObject({ changed: true });
    expect(host.fragment(LONGEST_NAME)).toBeUndefined();
  });

  test.each(["web.bak", "web.tmp", "web.orig", "web.rpmsave", "web.swp", "a", "0", "web..", "WEB_1.x-"])(
    "a container may be called %s",
    async (container) => {
      const host = fakeHost();
      host.container(container, { ports: PORTS });
      const result = await host.ask({ container, reload: "restore" });
      expect(result.failed, result.msg).toBeUndefined();
      expect(host.kernel("nat")).toContain(`docker_iptables: ${container}`);
      expect(await host.ask({ container, reload: "restore" })).toMatchObject({ changed: false });
    },
  );
});

describe.concurrent("the chain", () => {
  test.each([
    ["DOCKER", /must not be DOCKER or DOCKER-\*: the Docker daemon/],
    ["DOCKER-USER", /must not be DOCKER or DOCKER-\*/],
    ["DOCKER-", /must not be DOCKER or DOCKER-\*/],
    ["C".repeat(29), /at most 28/],
    ["x y", /must be a chain name/],
    ["-F", /must be a chain name/],
    ["x\n", /must be a chain name/],
    ["x\nCOMMIT", /must be a chain name/],
    ["", /must be a chain name/],
    ["FORWARD", /built-in/],
    ["PREROUTING", /built-in/],
    ["DROP", /built-in/],
    ["DNAT", /built-in/],
  ])("%j", (chain, message) => {
    expect(complaint({ container: "web", chain })).toMatch(message);
  });

  test.each(["C".repeat(28), "DOCKER_CONTAINERS", "DOCKERS", "docker"])("%s is a good one", async (chain) => {
    const host = fakeHost();
    const base = `*nat\n:${chain} - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j ${chain}\nCOMMIT\n`;
    host.write("10_docker", base);
    host.container("web", { ports: PORTS });
    expect(await host.ask({ container: "web", chain })).toMatchObject({ changed: true });
    expect(host.fragment("web")).toMatch(new RegExp(`^-A ${chain} .*DNAT`, "m"));
  });
});

describe.concurrent("the other arguments", () => {
  test.each<[Record<string, unknown>, RegExp]>([
    [{ docker_host: "tcp://10.0.0.1:2375" }, /docker_host must be a socket on this host/],
    [{ docker_host: "ssh://root@other" }, /docker_host must be/],
    [{ docker_host: "unix://relative" }, /docker_host must be/],
    [{ timeout: 0 }, /timeout must be a number of seconds from 1 to 3600, got: 0/],
    [{ timeout: -1 }, /timeout must be/],
    [{ timeout: 3601 }, /timeout must be/],
    [{ timeout: 1e300 }, /timeout must be|unable to convert/],
    [{ wait_timeout: -1 }, /wait_timeout must be a number of seconds from 0 to 86400/],
    [{ wait_timeout: "99999999999999999999" }, /wait_timeout must be/],
    [{ state: "gone" }, /value of state must be one of: present, absent, got: gone/],
    [{ state: "" }, /value of state must be one of: present, absent, got: /],
    [{ reload: "patchy" }, /value of reload must be one of: systemd, restore, .*got: patchy/],
    [{ iptables_service: "-H root@other" }, /iptables_service must be the name of a systemd unit/],
    [{ iptables_service: "a b" }, /iptables_service must be/],
    [{ ip6tables_service: "../x" }, /ip6tables_service must be/],
    [{ nftables_service: "../x" }, /nftables_service must be/],
    [{ nftables_dir: "a\u0000b" }, /nftables_dir must be/],
    [{ backend: "pf" }, /value of backend must be one of: iptables, nft, got: pf/],
    [{ client: "docker --host x" }, /client must be the name or the absolute path/],
    [{ client: "../docker" }, /client must be/],
    [{ client: "-x" }, /client must be/],
    [{ network: "a b" }, /network must be the name of a network/],
    [{ network: "-f" }, /network must be/],
    [{ iptables_dir: "" }, /iptables_dir must be a directory's path/],
    [{ iptables_dir: "/etc/x\n" }, /iptables_dir must be/],
    [{ ip6tables_dir: "/etc/\0x" }, /ip6tables_dir must be/],
  ])("%j", (given, message) => {
    expect(complaint({ container: "web", ...given })).toMatch(message);
  });

  test("several at once are all named", async () => {
    const message = await refusal({ container: "a b", chain: "DOCKER", timeout: 0 });
    expect(message).toMatch(/container must be/);
    expect(message).toMatch(/chain must not be/);
    expect(message).toMatch(/timeout must be/);
  });

  test("one directory for both families is refused: each would take the other's fragment for its own", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    const { msg } = await host.refuses(
      { container: "web", ip6tables_dir: host.iptablesDir, reload: "none" },
      "arguments_invalid",
    );
    expect(msg).toMatch(/iptables_dir.*ip6tables_dir|ip6tables_dir.*iptables_dir/);
  });
});

describe.concurrent("wrong types, in Ansible's words", () => {
  const couldNot = (name: string, type: string, wanted: string) =>
    `argument '${name}' is of type <class '${type}'> and we were unable to convert to ${wanted}: `;

  test.each<[Record<string, unknown>, string]>([
    [{ timeout: "soon" }, couldNot("timeout", "str", "int")],
    [{ timeout: "10.5" }, couldNot("timeout", "str", "int")],
    [{ timeout: "1e1" }, couldNot("timeout", "str", "int")],
    [{ timeout: "" }, couldNot("timeout", "str", "int")],
    [{ timeout: 1.5 }, couldNot("timeout", "float", "int")],
    [{ timeout: [10] }, couldNot("timeout", "list", "int")],
    [{ ipv6: "perhaps" }, couldNot("ipv6", "str", "bool")],
    [{ ipv6: 2 }, couldNot("ipv6", "int", "bool")],
    [{ ipv6: [] }, couldNot("ipv6", "list", "bool")],
    [{ chain: ["A"] }, couldNot("chain", "list", "str")],
    [{ chain: { a: 1 } }, couldNot("chain", "dict", "str")],
    [{ iptables_dir: ["/etc"] }, couldNot("iptables_dir", "list", "path")],
    [{ container: { name: "web" } }, couldNot("container", "dict", "list")],
  ])("%j", (given, message) => {
    expect(complaint({ container: "web", ...given })).toContain(message);
  });

  test.each([[[["web"]]], [[{ name: "web" }]], [[null]]])("a list of containers with %j in it", async (container) => {
    expect(await refusal({ container })).toMatch(/container/);
  });

  test("unknown arguments are named, with all that there are", async () => {
    const message = await refusal({ container: "web", colour: "red", adress: "x" });
    expect(message).toContain("Unsupported parameters for (docker_iptables) module: adress, colour. ");
    expect(message).toMatch(
      /Supported parameters include: adopt, all, allow, backend, base, chain, client, config, confirm, container \(name\), .*wait_timeout, watch\.$/,
    );
  });

  test.each(["__proto__", "constructor", "toString", "hasOwnProperty"])("%s is unknown, too", async (key) => {
    const host = fakeHost();
    const answered = await host.run([], `{"container": "web", "${key}": {"ipv6": true}}`);
    expect(answered.stdout).toContain(`Unsupported parameters for (docker_iptables) module: ${key}.`);
    expect(answered.exitCode).toBe(1);
  });

  test("a missing container is named, null and an empty object included", async () => {
    expect(await refusal({})).toBe("one of the following is required: container, base, all, query");
    expect(await refusal({ container: null })).toBe("one of the following is required: container, base, all, query");
    const answered = await fakeHost().run([], "{}");
    expect(JSON.parse(answered.stdout)).toMatchObject({
      failed: true,
      msg: "one of the following is required: container, base, all, query",
    });
  });

  test("a huge value of the wrong type is not echoed", async () => {
    expect(await refusal({ container: "web", chain: { long: "x".repeat(500_000) } })).toContain("'chain'");
  });
});
