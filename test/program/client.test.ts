// The client fails, hangs, lies, or knows nothing of the container: nothing is written, and the answer says why.

import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ErrorCode } from "../../src/generated/result.ts";
import { isAlive, until } from "../until.ts";
import { fakeHost } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

describe.concurrent("the container", () => {
  test("does not exist", async () => {
    const { msg, error } = await fakeHost().refuses({ container: "web" }, "container_missing");
    expect(msg).toMatch(/web does not exist/);
    expect(error).toMatchObject({ containers: ["web"], wait_timeout: 0 });
  });

  test.each(["created", "exited", "dead"])("is %s, and stays so", async (status) => {
    const host = fakeHost();
    host.container("web", { ports: PORTS, status });
    let looks = 0;
    // On a slow machine one attempt takes longer than a short wait.
    for (let wait_timeout = 1; looks < 2; wait_timeout *= 4) {
      const { msg } = await host.refuses({ container: "web", wait_timeout }, "container_not_running");
      expect(msg).toContain(`web is ${status}`);
      looks = host.calls().filter((call) => call === "docker inspect web").length;
    }
  });

  test("restarts without end", async () => {
    const host = fakeHost();
    const State = { Status: "restarting", Running: true, Restarting: true };
    host.document("web", { Id: "a".repeat(64), Name: "/web", State, NetworkSettings: { Ports: PORTS } });
    const { msg } = await host.refuses({ container: "web" }, "container_not_running");
    expect(msg).toContain("web is restarting");
  });

  test("does not exist, while another does not run: both are named", async () => {
    const host = fakeHost();
    host.container("db", { status: "exited" });
    host.container("web", { ports: PORTS });
    const { msg } = await host.refuses({ container: ["web", "db", "cache"] }, "container_missing");
    expect(msg).toMatch(/db is exited, cache does not exist/);
    expect(msg).not.toMatch(/web (is|does)/);
  });

  test("is only an image of that name", async () => {
    const host = fakeHost();
    const image = { Id: "sha256:0123", RepoTags: ["web:latest"], Config: {}, Architecture: "amd64" };
    host.on("docker", `[ "$1" = inspect ] && { echo '[${JSON.stringify(image)}]'; exit 0; }`);
    await host.refuses({ container: "web" }, "container_missing");
  });

  test.each(["exists", "runs"])("is waited for until it %s", async (what) => {
    const host = fakeHost();
    host.container("web", { ports: PORTS, ...(what === "runs" ? { status: "created" } : {}) });
    const before = join(host.fake, "before.json");
    const seen = join(host.fake, "seen");
    // The third attempt finds it.
    host.on(
      "docker",
      `[ "$1" = inspect ] || return 0
echo >> ${seen}
[ "$(wc -l < ${seen})" -lt 3 ] && { [ ${what} = runs ] && { printf '['; cat ${before}; echo ']'; exit 0; }; echo "Error: No such object: web" >&2; echo '[]'; exit 1; }`,
    );
    copyFileSync(join(host.fake, "containers/web.json"), before);
    host.container("web", { ports: PORTS });
    const result = await host.ask({ container: "web", wait_timeout: 600 });
    expect(result).toMatchObject({ changed: true, msg: "published: web" });
    // Once more, under the lock: time has passed.
    expect(readFileSync(seen, "utf8").length).toBe(4);
  });
});

describe.concurrent("the client fails", () => {
  test.each<[string, string, ErrorCode, RegExp]>([
    [
      "daemon down",
      "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1",
      "daemon_unreachable",
      /docker cannot reach its daemon/,
    ],
    [
      "permission denied",
      "echo 'permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock' >&2; exit 1",
      "permission_denied",
      /docker has no permission to use its daemon/,
    ],
    ["an error of its own", "echo 'boom: 500' >&2; exit 125", "client_failed", /boom: 500/],
    ["an error without a word", "exit 3", "client_failed", /exit status 3/],
    ["killed", "kill -SEGV $$", "client_failed", /139/],
    ["no JSON", "echo hello", "client_answer_invalid", /did not print JSON: hello/],
    ["nothing", "exit 0", "client_answer_invalid", /did not print JSON: nothing/],
    ["half of its JSON", `printf '[{"Name": "/web"'; exit 0`, "client_answer_invalid", /did not print JSON/],
    ["an object", "echo '{}'; exit 0", "client_answer_invalid", /must be array/],
    ["null", "echo null; exit 0", "client_answer_invalid", /must be array/],
    ["numbers", "echo '[1, 2]'; exit 0", "client_answer_invalid", /not in the format of inspect/],
    ["nulls", "echo '[null]'; exit 0", "client_answer_invalid", /not in the format of inspect/],
    ["bytes that are no text", "head -c 100000 /dev/urandom; exit 0", "client_answer_invalid", /did not print JSON/],
    ["100 MB", "head -c 100000000 /dev/zero; exit 0", "output_too_large", /more than 64 MiB/],
    ["100 MB of complaints", "head -c 100000000 /dev/zero >&2; exit 1", "output_too_large", /more than 64 MiB/],
  ])("%s", async (_what, script, code, message) => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.on("docker", script);
    const { msg, error } = await host.refuses({ container: "web" }, code);
    expect(msg).toMatch(message);
    expect(msg.length).toBeLessThan(2000);
    expect(error?.["command"]).toBe("docker inspect web");
  });

  test.each(["docker-not-there", "/nowhere/docker"])("%s is not installed", async (client) => {
    const host = fakeHost();
    const { msg } = await host.refuses({ container: "web", client }, "command_missing");
    expect(msg).toContain(`${client} is not installed`);
  });

  test.each([
    ["a file that is no program", "10_docker"],
    ["a directory", ""],
  ])("the client is %s", async (_what, name) => {
    const host = fakeHost();
    await host.refuses({ container: "web", client: join(host.iptablesDir, name) }, "permission_denied");
  });

  test.each([
    ["hangs", "sleep 600"],
    ["hangs and ignores SIGTERM", "trap '' TERM; sleep 600; sleep 600"],
    ["hangs while it prints", "while :; do echo x; sleep 1; done"],
    ["ends, and its child keeps the output open", "sleep 600 & exit 0"],
  ])("it %s: the limit of time holds", async (_what, script) => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.on("docker", `echo $$ > "$FAKE/pid"; ${script}`);
    const { msg, error } = await host.refuses({ container: "web", timeout: 1 }, "command_timeout");
    const pid = join(host.fake, "pid");
    // A slow machine may not even have started the script.
    if (existsSync(pid)) await until("the client has ended", () => !isAlive(Number(readFileSync(pid, "utf8"))));
    expect(msg).toMatch(/'docker inspect web' did not end within 1 s/);
    expect(error).toMatchObject({ command: "docker inspect web", timeout: 1 });
  });

  test("the network cannot be inspected", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.on("docker", '[ "$1" = network ] && { echo "Error response from daemon: boom" >&2; exit 1; }');
    const { msg } = await host.refuses({ container: "web" }, "client_failed");
    expect(msg).toMatch(/docker network inspect/);
  });

  test("one container is missing, and the client failed over the other: that is no missing container", async () => {
    const host = fakeHost();
    host.on(
      "docker",
      "echo '[]'; echo 'Error: No such object: web' >&2; echo 'Error response from daemon: boom' >&2; exit 1",
    );
    await host.refuses({ container: ["web", "db"] }, "client_failed");
  });
});

describe.concurrent("hostile or broken values in the answer", () => {
  const document = (change: {
    Name?: string;
    settings?: Record<string, unknown>;
    network?: Record<string, unknown>;
  }) => ({
    Id: "a".repeat(64),
    Name: change.Name ?? "/web",
    State: { Status: "running", Running: true, Restarting: false },
    HostConfig: { NetworkMode: "default" },
    NetworkSettings: {
      Ports: PORTS,
      Networks: { bridge: { NetworkID: "bridge", IPAddress: "172.17.0.2", Gateway: "172.17.0.1", ...change.network } },
      ...change.settings,
    },
  });
  const published = (HostIp: unknown, HostPort: unknown, key = "80/tcp") => ({
    settings: { Ports: { [key]: [{ HostIp, HostPort }] } },
  });

  test.each<[string, Parameters<typeof document>[0]]>([
    ["a name that is a path", { Name: "/../../etc/passwd" }],
    ["a name with a newline", { Name: "/web\n-A INPUT -j ACCEPT" }],
    ["an address with a command", { network: { IPAddress: "172.17.0.2; reboot" } }],
    ["an address with a mask", { network: { IPAddress: "172.17.0.0/16" } }],
    ["an address with a newline", { network: { IPAddress: "172.17.0.2\n" } }],
    ["an address with octal digits", { network: { IPAddress: "172.17.0.0010" } }],
    ["an address that is a number", { network: { IPAddress: 2886795266 } }],
    ["an IPv6 address with a zone", { network: { GlobalIPv6Address: "fe80::1%eth0" } }],
    ["an IPv6 address with an option", { network: { GlobalIPv6Address: "fd00::2 -j ACCEPT" } }],
    ["a host address that is a name", published("example.org", "8080")],
    ["a host address with an option", published("0.0.0.0 -j ACCEPT", "8080")],
    ["port 99999", published("0.0.0.0", "99999")],
    ["port 65536", published("0.0.0.0", 65536)],
    ["port -1", published("0.0.0.0", "-1")],
    ["port 0x50", published("0.0.0.0", "0x50")],
    ["port 80 with a newline", published("0.0.0.0", "80\n")],
    ["a range of ports", published("0.0.0.0", "8000-8010")],
    ["a port that is an object", published("0.0.0.0", {})],
    ["protocol icmp", published("0.0.0.0", "8080", "80/icmp")],
    ["protocol tcp with an option", published("0.0.0.0", "8080", "80/tcp -j ACCEPT")],
    ["container port 0", published("0.0.0.0", "8080", "0/tcp")],
    ["a container port that is a word", published("0.0.0.0", "8080", "http/tcp")],
    ["ports that are a list", { settings: { Ports: ["80/tcp"] } }],
    ["bindings that are a string", { settings: { Ports: { "80/tcp": "8080" } } }],
    ["networks that are a string", { settings: { Networks: "bridge" } }],
  ])("%s", async (_what, change) => {
    const host = fakeHost();
    host.document("web", document(change));
    await host.refuses({ container: "web" }, "client_answer_invalid");
  });

  test.each(["docker 0", "docker0\n", "docker+", "+", "a/b", "sixteen_letters_", "é", "!"])(
    "a bridge named %j",
    async (bridge) => {
      const host = fakeHost();
      host.container("web", { ports: PORTS });
      host.network("bridge", { Options: { "com.docker.network.bridge.name": bridge } });
      await host.refuses({ container: "web" }, "client_answer_invalid");
    },
  );

  test("a bridge that this host has not", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.network("bridge", { Options: { "com.docker.network.bridge.name": "br-not-here" } });
    const { msg, error } = await host.refuses({ container: "web" }, "bridge_missing");
    expect(msg).toMatch(/br-not-here of web's network bridge is not an interface of this host/);
    expect(error).toMatchObject({ container: "web", network: "bridge", bridge: "br-not-here" });
  });

  test("a network that the container is not in", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    const { msg } = await host.refuses({ container: "web", network: "backend" }, "network_unknown");
    expect(msg).toMatch(/not in the network backend; it is in: bridge/);
  });

  test("a container that calls itself otherwise than it was asked for, and is not that id", async () => {
    const host = fakeHost();
    host.document("web", document({ Name: "/other" }));
    await host.refuses({ container: "web" }, "container_missing");
  });
});
