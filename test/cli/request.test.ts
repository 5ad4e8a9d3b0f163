// readRequest: Ansible's coercions, messages and control keys (ansible-core 2.14), and what never becomes an argument.

import { describe, expect, test } from "vitest";
import { readRequest } from "../../src/cli/request.ts";
import { Failure } from "../../src/model/errors.ts";
import type { Request } from "../../src/model/request.ts";
import { NO_SETTINGS } from "../../src/model/settings.ts";

const SURROUNDINGS = { env: { HOME: "/root", RULES: "/srv/rules", EMPTY: "" }, cwd: "/srv" };

function read(raw: Record<string, unknown>): Request {
  return readRequest({ container: "web", ...raw }, SURROUNDINGS, NO_SETTINGS);
}

const args = (raw: Record<string, unknown>) => read(raw).args as unknown as Record<string, unknown>;

/** The message of the refusal. */
function refusal(raw: Record<string, unknown>): string {
  try {
    readRequest(raw, SURROUNDINGS, NO_SETTINGS);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    expect(error.code).toBe("arguments_invalid");
    return error.message;
  }
  throw new Error("was not refused");
}

test("one name is enough; the rest has the defaults of the contract", () => {
  const { args, options, check, diff, warnings } = read({});
  expect({ args, options, check, diff, warnings }).toEqual({
    args: {
      container: ["web"],
      state: "present",
      base: false,
      adopt: false,
      backend: "iptables",
      nftables_dir: "/etc/nftables.d",
      nftables_service: "docker_iptables-nft.service",
      nftables_include: false,
      all: false,
      watch: false,
      replace: false,
      guards: true,
      chain: "DOCKER_CONTAINERS",
      ipv6: false,
      iptables_dir: "/etc/iptables.d",
      ip6tables_dir: "/etc/ip6tables.d",
      reload: "systemd",
      iptables_service: "iptables.service",
      ip6tables_service: "ip6tables.service",
      wait_timeout: 60,
      timeout: 10,
      client: "docker",
      debug: false,
    },
    options: {},
    check: false,
    diff: false,
    warnings: [],
  });
});

describe("coercions", () => {
  test.each([
    ...["y", "yes", "on", "1", "true", "t", "YES", "True", " on ", 1, true].map((value) => [value, true] as const),
    ...["n", "no", "off", "0", "false", "f", "OFF", "False", " 0 ", 0, false].map((value) => [value, false] as const),
  ])("the boolean %j is %j", (value, expected) => {
    expect(args({ ipv6: value, guards: value })).toMatchObject({ ipv6: expected, guards: expected });
  });

  test.each([
    [5, 5],
    ["5", 5],
    [" 05 ", 5],
    ["+5", 5],
  ])("the integer %j is %j", (value, expected) => {
    expect(args({ wait_timeout: value })["wait_timeout"]).toBe(expected);
  });

  test.each([
    ["web", ["web"]],
    ["web,db", ["web", "db"]],
    ["web, db", ["web", "db"]],
    [
      ["web", "db"],
      ["web", "db"],
    ],
    [
      [7, "db"],
      ["7", "db"],
    ],
    [7, ["7"]],
    [
      ["db", "web", "db"],
      ["db", "web"],
    ],
  ])("the list %j is %j", (value, expected) => {
    expect(args({ container: value })["container"]).toEqual(expected);
  });

  test.each([
    ["~/rules", "/root/rules"],
    ["~", "/root"],
    ["$RULES/a", "/srv/rules/a"],
    [`\${RULES}4`, "/srv/rules4"],
    ["$NOBODY/a", "/srv/$NOBODY/a"],
    ["rules", "/srv/rules"],
    ["/a/../b//c/", "/b/c"],
    ["/a~/b", "/a~/b"],
  ])("the path %j is %j", (value, expected) => {
    expect(args({ iptables_dir: value, ip6tables_dir: value })).toMatchObject({
      iptables_dir: expected,
      ip6tables_dir: expected,
    });
  });

  test.each([
    [7, "7"],
    [true, "True"],
    [false, "False"],
  ])("the string %j is %j, as in Python", (value, expected) => {
    expect(args({ chain: value })["chain"]).toBe(expected);
  });

  test.each(["chain", "network", "ipv6", "wait_timeout", "iptables_dir", "docker_host", "debug"])(
    "%s: null is as good as absent",
    (name) => {
      expect(args({ [name]: null })).toEqual(args({}));
    },
  );
});

describe("what is no argument", () => {
  test("control keys of Ansible and Bolt", () => {
    const control = { _ansible_version: "2.14", _ansible_no_log: false, _task: "x", _installdir: "/x", _target: {} };
    expect(read(control)).toEqual(read({}));
  });

  test.each([
    [{ _ansible_check_mode: true }, true, false],
    [{ _ansible_check_mode: "yes" }, true, false],
    [{ _ansible_check_mode: false }, false, false],
    [{ _noop: true }, true, false],
    [{ _noop: false, _ansible_check_mode: true }, true, false],
    [{ _ansible_diff: true }, false, true],
    [{ _ansible_diff: null }, false, false],
    [{ _ansible_check_mode: "no", _ansible_diff: "true" }, false, true],
  ])("%j", (control, check, diff) => {
    expect(read(control)).toMatchObject({ check, diff });
  });

  test("name is another word for container; given both, it wins, with Ansible's warning", () => {
    expect(readRequest({ name: "db" }, SURROUNDINGS, NO_SETTINGS)).toMatchObject({
      args: { container: ["db"] },
      warnings: [],
    });
    expect(read({ name: "db" })).toMatchObject({
      args: { container: ["db"] },
      warnings: ["Both option container and its alias name are set."],
    });
    expect(read({ name: null })).toMatchObject({ args: { container: ["web"] }, warnings: [] });
  });
});

describe("refused in Ansible's words", () => {
  test.each<[Record<string, unknown>, RegExp]>([
    [{}, /^one of the following is required: container, base, all, query$/],
    [{ container: null }, /^one of the following is required: container, base, all, query$/],
    [{ base: false }, /^one of the following is required: container, base, all, query$/],
    [{ container: "web", adopt: true }, /^missing parameter\(s\) required by 'adopt': base$/],
    [{ container: "web", base: "no", replace: "yes" }, /^missing parameter\(s\) required by 'replace': base$/],
    [{ base: true, adopt: true, replace: true }, /^parameters are mutually exclusive: adopt\|replace$/],
    [
      { container: "web", zeta: 1, alpha: 2 },
      /^Unsupported parameters for \(docker_iptables\) module: alpha, zeta\. Supported parameters include: adopt, all, allow, backend, base, chain, client, config, confirm, container \(name\), /,
    ],
    [JSON.parse('{"container": "web", "__proto__": 1}'), /^Unsupported parameters .*: __proto__\. /],
    [{ container: "web", constructor: 1 }, /^Unsupported parameters .*: constructor\. /],
    [{ container: "web", state: "gone" }, /^value of state must be one of: present, absent, got: gone$/],
    [
      { container: "web", timeout: "ten" },
      /^argument 'timeout' is of type <class 'str'> and we were unable to convert to int: /,
    ],
    [
      { container: "web", timeout: 1.5 },
      /^argument 'timeout' is of type <class 'float'> and we were unable to convert to int: /,
    ],
    [
      { container: "web", ipv6: "maybe" },
      /^argument 'ipv6' is of type <class 'str'> and we were unable to convert to bool: The value 'maybe' is not a valid boolean/,
    ],
    [
      { container: "web", ipv6: 2 },
      /^argument 'ipv6' is of type <class 'int'> and we were unable to convert to bool: /,
    ],
    [
      { container: { a: 1 } },
      /^argument 'container' is of type <class 'dict'> and we were unable to convert to list: /,
    ],
    [
      { container: [["web"]] },
      /^argument 'container' is of type <class 'list'> and we were unable to convert to str: /,
    ],
    [
      { container: "web", chain: ["A"] },
      /^argument 'chain' is of type <class 'list'> and we were unable to convert to str: /,
    ],
    [
      { container: "web", iptables_dir: {} },
      /^argument 'iptables_dir' is of type <class 'dict'> and .* convert to path: /,
    ],
  ])("%j", (raw, message) => {
    expect(refusal(raw)).toMatch(message);
  });
});

describe("refused because it would do harm", () => {
  test.each([
    ...["../../etc/passwd", "-rf", "a b", "web\n", "\nweb", "$(reboot)", "w".repeat(236), "", ".web", "web/db", "wéb"],
    ...["web,,db", [], ["web", ""]],
  ])("container %j", (container) => {
    expect(refusal({ container }).length).toBeLessThan(400);
  });

  test("every bad name is named, and no good one", () => {
    const message = refusal({ container: ["web", "a b", "db", "-rf"] });
    expect(message).toContain('"a b"');
    expect(message).toContain('"-rf"');
    expect(message).not.toMatch(/"web"|"db"/);
  });

  test.each(["DOCKER", "DOCKER-USER", "DOCKER-", "C".repeat(29), "x y", "-A", "", "a\n", "FORWARD", "ACCEPT", "DNAT"])(
    "chain %j",
    (chain) => {
      expect(refusal({ container: "web", chain })).toMatch(/^chain must/);
    },
  );

  test.each(["DOCKER_CONTAINERS", "DOCKERS", "docker", "C".repeat(28), "_x", "A.b-c"])("but not chain %j", (chain) => {
    expect(args({ chain })["chain"]).toBe(chain);
  });

  test.each<[string, unknown]>([
    ["timeout", 0],
    ["timeout", 3601],
    ["timeout", "99999999999999999999"],
    ["wait_timeout", -1],
    ["wait_timeout", 86401],
    ["iptables_dir", ""],
    ["iptables_dir", "/etc/a\nb"],
    ["ip6tables_dir", "/etc/a\0b"],
    ["network", "-x"],
    ["network", ""],
    ["client", "../docker"],
    ["client", "docker --host tcp://x"],
    ["client", ""],
    ["docker_host", "tcp://10.0.0.1:2375"],
    ["docker_host", "unix://relative"],
    ["iptables_service", "--now"],
    ["iptables_service", "a b"],
    ["ip6tables_service", "../x"],
    ["reload", "flush"],
  ])("%s %j", (name, value) => {
    expect(refusal({ container: "web", [name]: value })).toMatch(new RegExp(`^(value of )?${name} must`));
  });

  test("a long value is not repeated at length", () => {
    expect(refusal({ container: "w".repeat(100_000) }).length).toBeLessThan(400);
    expect(refusal({ container: "web", state: "w".repeat(100_000) }).length).toBeLessThan(400);
    expect(refusal({ container: "web", ipv6: "w".repeat(100_000) }).length).toBeLessThan(400);
  });
});
