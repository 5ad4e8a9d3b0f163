// Who may connect: `allow` of arguments, labels and settings, in files and kernel.

import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost } from "./host.ts";

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

const mangle = (host: FakeHost, family = "ipv4") =>
  host.kernel("mangle", family).split("\n").filter((line) => line.startsWith("-A")).map((line) => line.replace(/ALLOW-[0-9a-f]+/, "ALLOW"));

describe.concurrent("an argument", () => {
  test("lists stand in the mangle table of both families, and are live", async () => {
    const host = await published({ "8080/tcp": ["10.0.0.0/8", "wg0"] });
    const comment = '-m comment --comment "docker_iptables: web"';
    expect(mangle(host)).toEqual([
      `-A FORWARD -d 172.17.0.2/32 ! -i lo -o lo -p tcp -m tcp --dport 80 -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL ${comment} -j ALLOW`,
      `-A INPUT ! -i lo -p tcp -m tcp --dport 8080 ${comment} -j ALLOW`,
      `-A ALLOW -i lo ${comment} -j RETURN`,
      `-A ALLOW -s 10.0.0.0/8 ${comment} -j RETURN`,
      `-A ALLOW -i wg0 ${comment} -j RETURN`,
      `-A ALLOW ${comment} -j DROP`,
    ]);
    expect(mangle(host, "ipv6")).toEqual([
      `-A INPUT ! -i lo -p tcp -m tcp --dport 8080 ${comment} -j ALLOW`,
      `-A ALLOW -i lo ${comment} -j RETURN`,
      `-A ALLOW -i wg0 ${comment} -j RETURN`,
      `-A ALLOW ${comment} -j DROP`,
    ]);
    expect(await host.ask({ container: "web", allow: { "8080/tcp": ["wg0", "10.0.0.0/8"] }, reload: "restore" })).toMatchObject({ changed: true });
  });
});
