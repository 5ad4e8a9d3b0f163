import { describe, expect, test } from "vitest";
import { completeCommand } from "../../src/cli/hints.ts";
import { readRequest } from "../../src/cli/request.ts";
import { readFlags } from "../../src/model/flags.ts";
import type { Request } from "../../src/model/request.ts";
import { NO_SETTINGS, type Settings } from "../../src/model/settings.ts";

function callWith(given: Record<string, unknown> = {}, values: Settings = {}): Request {
  return readRequest({ container: "web", ...given }, { env: {}, cwd: "/" }, { ...NO_SETTINGS, values });
}

describe("a command in a message has the flags of this host", () => {
  test.each<[string, string, Record<string, unknown>]>([
    ["run 'docker_iptables setup' once", "run 'docker_iptables setup' once", {}],
    ["'docker_iptables setup' makes it", "'docker_iptables setup --reload patch' makes it", { reload: "patch" }],
    [
      "'docker_iptables create web' or 'docker_iptables sync' fixes it",
      "'docker_iptables create web --ipv6 --client podman' or 'docker_iptables sync --ipv6 --client podman' fixes it",
      { ipv6: true, client: "podman" },
    ],
    [
      "'docker_iptables load ipv4'",
      "'docker_iptables load ipv4 --iptables-dir /srv/v4'",
      { iptables_dir: "/srv/v4", reload: "restore", chain: "MINE" },
    ],
    [
      "'docker_iptables create web'",
      "'docker_iptables create web --no-guards --network front'",
      { guards: false, network: "front" },
    ],
    [
      "'docker_iptables create web'",
      `'docker_iptables create web --iptables-dir "/srv/my \\$v4"'`,
      { iptables_dir: "/srv/my $v4" },
    ],
    ["'docker_iptables explain web'", "'docker_iptables explain web'", { reload: "patch", chain: "MINE" }],
    [
      "'docker_iptables create web --reload patch'",
      "'docker_iptables create web --reload patch'",
      { reload: "restore" },
    ],
    ["'docker_iptables nonsense' stays", "'docker_iptables nonsense' stays", { reload: "patch" }],
    ["what one call alone has goes", "what one call alone has goes", {}],
    ["'docker_iptables setup'", "'docker_iptables setup'", { timeout: 5, wait_timeout: 0, debug: true }],
  ])("%s -> %s", (text, told, given) => {
    expect(completeCommand(text, callWith(given))).toBe(told);
  });

  test("and those by which it was set up, unless the call says otherwise", () => {
    const recorded = readFlags(["--reload", "patch", "--ipv6", "--no-guards", "--chain", "MINE"]);
    const set = "--no-guards --chain MINE --ipv6";
    expect(completeCommand("'docker_iptables sync'", callWith(), recorded)).toBe(
      `'docker_iptables sync ${set} --reload patch'`,
    );
    expect(completeCommand("'docker_iptables sync'", callWith({ reload: "none" }), recorded)).toBe(
      `'docker_iptables sync ${set} --reload none'`,
    );
  });

  test("but not what the host's settings say anyway", () => {
    const call = callWith({ chain: "MINE", guards: true }, { reload: "patch", guards: false, ipv6: true });
    expect(completeCommand("'docker_iptables sync'", call)).toBe("'docker_iptables sync --guards --chain MINE'");
  });

  test("and a setup that succeeded has kept what it was given", () => {
    const call = callWith({ base: true, reload: "patch", client: "podman" });
    const told = (failed: boolean) => completeCommand("'docker_iptables sync'", call, {}, failed);
    expect(told(false)).toBe("'docker_iptables sync'");
    expect(told(true)).toBe("'docker_iptables sync --reload patch --client podman'");
  });
});
