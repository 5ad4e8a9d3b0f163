// The executable on a fake host: present and absent, from JSON to files, kernel and answer.

import { describe, expect, test } from "vitest";
import { fakeHost } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const COMMENT = '-m comment --comment "docker_iptables: web"';

describe("present", () => {
  test("writes the fragment, reloads the service, and answers with the rules", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    const result = await host.ask({ container: "web" });
    expect(result).toMatchObject({
      changed: true,
      state: "present",
      msg: "published: web",
      containers: [{ name: "web", changed: true, reasons: ["file", "kernel"] }],
      files: [{ path: `${host.iptablesDir}/11-docker-container_web`, change: "created" }],
      reloaded: ["iptables.service"],
      warnings: [],
      rules: {
        ipv4: {
          raw: [`-A PREROUTING -d 172.17.0.2/32 ! -i lo ${COMMENT} -j DROP`],
          nat: [
            `-A DOCKER_CONTAINERS ! -i lo -p tcp -m tcp --dport 8080 ${COMMENT} -j DNAT --to-destination 172.17.0.2:80`,
          ],
          filter: [`-A FORWARD -d 172.17.0.2/32 ! -i lo -o lo -p tcp -m tcp --dport 80 ${COMMENT} -j ACCEPT`],
        },
        ipv6: {},
      },
    });
    expect(host.fragment("web")).toContain("--to-destination 172.17.0.2:80");
    expect(host.kernel("nat")).toContain("--to-destination 172.17.0.2:80");
  });

  test("a second time changes nothing and reloads nothing", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    await host.ask({ container: "web" });
    host.calls();
    const again = await host.ask({ container: "web" });
    expect(again).toMatchObject({
      changed: false,
      reloaded: [],
      containers: [{ name: "web", changed: false, reasons: [] }],
    });
    expect(host.calls().filter((call) => /systemctl|restore/.test(call))).toEqual([]);
  });

  test.each(["systemd", "restore"])(
    "a flushed table is put back, and that is a change (reload: %s)",
    async (reload) => {
      const host = fakeHost();
      host.container("web", { ports: PORTS });
      await host.ask({ container: "web", reload });
      host.flush("nat");
      const again = await host.ask({ container: "web", reload });
      expect(again).toMatchObject({ changed: true, containers: [{ name: "web", reasons: ["kernel"] }] });
      expect(host.kernel("nat")).toContain("--to-destination 172.17.0.2:80");
    },
  );
});

test.each(["systemd", "restore", "patch"])(
  "a jump to the chain that is gone is put back (reload: %s)",
  async (reload) => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    await host.ask({ container: "web", reload });
    const jump = /^-A (PREROUTING|OUTPUT) .*-j DOCKER_CONTAINERS\n/gm;
    host.setKernel("nat", host.kernel("nat").replaceAll(jump, ""));
    expect(await host.ask({ container: "web", reload })).toMatchObject({
      changed: true,
      containers: [{ name: "web", reasons: ["kernel"] }],
    });
    expect(host.kernel("nat").match(jump)).toHaveLength(2);
  },
);

describe("a rule that refuses everything", () => {
  const REJECT = "-A FORWARD -j REJECT --reject-with icmp-port-unreachable";

  test("before ours in FORWARD is reported, changed or not", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.write("05_policy", `*filter\n${REJECT}\nCOMMIT\n`);
    const warning = expect.stringContaining(`'${REJECT}' comes before the rules of web`);
    for (const reload of ["systemd", "restore"]) {
      expect(await host.ask({ container: "web", reload })).toMatchObject({ warnings: [warning] });
    }
  });

  test("after ours is as it should be", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.write("95_policy", `*filter\n${REJECT}\nCOMMIT\n`);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, warnings: [] });
  });
});

describe("absent", () => {
  test("removes file and rules without asking Docker", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    await host.ask({ container: "web" });
    host.on("docker", "exit 70");
    const result = await host.ask({ container: "web", state: "absent" });
    expect(result).toMatchObject({
      changed: true,
      msg: "unpublished: web",
      files: [{ path: `${host.iptablesDir}/11-docker-container_web`, change: "removed" }],
    });
    expect(host.fragment("web")).toBeUndefined();
    expect(host.kernel("nat")).not.toContain("172.17.0.2");
    expect(await host.ask({ container: "web", state: "absent" })).toMatchObject({
      changed: false,
      files: [],
      reloaded: [],
    });
  });
});
