// Docker's daemon is asked on its socket, and where that is not Docker's or not to be had, its client is.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { daemon, said, truthful } from "./daemon.ts";
import { type FakeHost, fakeHost, startProcesses } from "./host.ts";

// That a run ends, whoever has not answered, is among what these are about.
startProcesses();

const ports = (port: number) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort: String(port) }] });
const clientCalls = (host: FakeHost) => host.calls().filter((call) => call.startsWith("docker "));
const by = (host: FakeHost) => ({ docker_host: `unix://${host.root}/docker.sock` });

describe.concurrent("the daemon answers", () => {
  test("no client is started, and the fragment is the same", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const asked = await daemon(host, truthful(host, ["web"]));
    expect(await host.ask({ container: "web", ...by(host) })).toMatchObject({ changed: true });
    const fragment = host.fragment("web");
    expect(asked).toEqual(["/containers/web/json", "/networks/bridge"]);
    expect(clientCalls(host)).toEqual([]);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: false });
    expect(clientCalls(host)).not.toEqual([]);
    expect(host.fragment("web")).toBe(fragment);
  });

  test("of all containers", async () => {
    const host = fakeHost();
    const names = Array.from({ length: 30 }, (_, index) => `c${index}`);
    for (const [index, name] of names.entries()) {
      host.container(name, { ports: ports(8080 + index), address: `172.17.0.${2 + index}` });
    }
    const asked = await daemon(host, truthful(host, names));
    expect(await host.ask({ all: true, ...by(host) })).toMatchObject({ changed: true });
    expect(names.filter((name) => host.fragment(name) === undefined)).toEqual([]);
    expect(asked.filter((path) => path === "/containers/json")).toHaveLength(1);
    expect(clientCalls(host)).toEqual([]);
  });

  test("that a container is not there, and it is waited for", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const answer = truthful(host, ["web"]);
    const missing = said('{"message":"No such container: web"}', "404 Not Found");
    let looks = 0;
    await daemon(host, (path) => (path === "/containers/web/json" && ++looks < 3 ? missing : answer(path)));
    expect(await host.ask({ container: "web", wait_timeout: 600, ...by(host) })).toMatchObject({ changed: true });
    // Time has passed: once it may write it reads again.
    expect(looks).toBe(4);
    expect(clientCalls(host)).toEqual([]);
  });

  test("of all networks, in no particular order: the host rules have them by name", async () => {
    const host = fakeHost();
    const networks = ["b", "a", "c"].map((name) => ({
      Id: name,
      Name: name,
      Driver: "bridge",
      Options: { "com.docker.network.bridge.name": `br-${name}` },
    }));
    const order = [
      [0, 1, 2],
      [2, 1, 0],
    ];
    const answer = (path: string) => {
      if (path !== "/networks") return said(JSON.stringify(networks.find(({ Id }) => path === `/networks/${Id}`)));
      return said(JSON.stringify(order.shift()?.map((at) => networks[at])));
    };
    await daemon(host, answer);
    const given = { base: true, replace: true, reload: "none", ...by(host) };
    for (const name of ["10_docker", "90_docker"]) {
      for (const directory of [host.iptablesDir, host.ip6tablesDir]) rmSync(join(directory, name), { force: true });
    }
    expect(await host.ask(given)).toMatchObject({ changed: true, base: { networks: ["a", "b", "c"] } });
    expect(await host.ask(given)).toMatchObject({ changed: false });
    expect(order).toEqual([]);
    expect(clientCalls(host).filter((call) => !/ version /.test(call))).toEqual([]);
  });

  test("podman: on paths of its own, as which its own command prints", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const answer = truthful(host, ["web"]);
    const networks = [{ name: "podman", id: "2f259bab93aa", driver: "bridge", network_interface: "podman0" }];
    const own = (path: string) => {
      if (path === "/networks/json") return said(JSON.stringify(networks));
      return path === "/networks/2f259bab93aa" ? said(JSON.stringify(networks[0])) : answer(path);
    };
    const asked = await daemon(host, (path) => {
      const [, rest] = /^\/v5\.4\.2\/libpod(.*)/.exec(path) ?? [];
      // As Docker would have it podman's documents name no bridge.
      const text = rest === undefined ? said('[{"Id":"web","Name":"/web"}]') : own(rest);
      return text.replace("Docker/20.10.24", "Libpod/5.4.2");
    });
    expect(await host.ask({ container: "web", ...by(host) })).toMatchObject({ changed: true });
    expect(host.fragment("web")).toContain("--to-destination 172.17.0.2:80");
    expect(await host.ask({ container: "gone", wait_timeout: 0, ...by(host) })).toMatchObject({
      error: { code: "container_missing" },
    });
    for (const name of ["10_docker", "90_docker"]) {
      for (const directory of [host.iptablesDir, host.ip6tablesDir]) rmSync(join(directory, name), { force: true });
    }
    const base = { base: true, replace: true, reload: "none", ...by(host) };
    expect(await host.ask(base)).toMatchObject({ changed: true, base: { networks: ["podman"] } });
    expect(asked.filter((path) => path.startsWith("/v5.4.2"))).toContain("/v5.4.2/libpod/networks/json");
    expect(clientCalls(host).filter((call) => !/ (version|ps) /.test(call))).toEqual([]);
  });

  test("with something that is no container: refused, as from the client", async () => {
    const host = fakeHost();
    await daemon(host, () => said('{"Id":"web","State":7}'));
    const { msg } = await host.refuses({ container: "web", ...by(host) }, "client_answer_invalid");
    expect(msg).toMatch(/'GET \/containers\/web\/json' returned JSON that is not in the format of inspect: \/State /);
  });

  test.each([
    ["what is no id", '[{"Id":"-v"}]', "-v"],
    ["an empty id", '[{"Id":""}]', "nothing"],
    ["no ids", "[{}]", "nothing"],
  ])("with a list of %s: refused, and no fragment goes", async (_, list, words) => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    await host.ask({ container: "web" });
    await daemon(host, () => said(list));
    const { msg } = await host.refuses({ all: true, ...by(host) }, "client_answer_invalid");
    expect(msg).toContain(`'GET /containers/json' returned something that is not an id: ${words}`);
    const base = { base: true, replace: true, reload: "none", ...by(host) };
    expect((await host.refuses(base, "client_answer_invalid")).msg).toContain(`not an id: ${words}`);
  });

  test("to one question not at all: the others do not keep the process", async () => {
    const host = fakeHost();
    const container = ["web", ...Array.from({ length: 40 }, (_, index) => `c${index}`)];
    const answer = async () => {
      await sleep(800);
      return said("{}");
    };
    const asked = await daemon(host, (path) => (path === "/containers/web/json" ? undefined : answer()));
    await host.refuses({ container, timeout: 1, ...by(host) }, "command_timeout");
    expect(asked.length).toBeLessThan(container.length);
  });

  test("late, of the container and of its network: it is asked again as long as a container is waited for", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const answer = truthful(host, ["web"]);
    const times = new Map<string, number>();
    await daemon(host, (path) => {
      times.set(path, (times.get(path) ?? 0) + 1);
      return (times.get(path) ?? 0) < 3 ? undefined : answer(path);
    });
    const given = { container: "web", timeout: 1, wait_timeout: 600, ...by(host) };
    expect(await host.ask({ ...given, reload: "none" })).toMatchObject({ changed: true });
    expect(times.get("/networks/bridge")).toBeGreaterThanOrEqual(3);
    expect(clientCalls(host)).toEqual([]);
  });

  test("late when it is asked once more before it is written: all of it is asked again", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const answer = truthful(host, ["web"]);
    const missing = said('{"message":"No such container: web"}', "404 Not Found");
    let looks = 0;
    await daemon(host, (path) => {
      if (path !== "/containers/web/json") return answer(path);
      looks += 1;
      return looks === 1 ? missing : looks === 3 ? undefined : answer(path);
    });
    const given = { container: "web", timeout: 1, wait_timeout: 600, ...by(host) };
    expect(await host.ask({ ...given, reload: "none" })).toMatchObject({ changed: true });
    expect(looks).toBeGreaterThan(3);
  });

  test("not in time", async () => {
    const host = fakeHost();
    await daemon(host, () => undefined);
    const { msg } = await host.refuses({ container: "web", timeout: 1, ...by(host) }, "command_timeout");
    expect(msg).toMatch(/the Docker daemon did not answer on \S+docker\.sock within 1 s; .*raise timeout/);
    expect(clientCalls(host)).toEqual([]);
  });
});

describe.concurrent("the client is asked", () => {
  const document = '{"Id":"web"}';
  test.each([
    ["podman of no version", said(document, "200 OK", "Libpod/main (linux)")],
    ["podman, which fails on its own paths, too", said('{"message":"boom"}', "500 Error", "Libpod/4.3.1 (linux)")],
    ["nobody in particular", `HTTP/1.0 200 OK\r\n\r\n${document}`],
    ["a daemon that fails", said('{"message":"boom"}', "500 Internal Server Error")],
    ["a daemon that forbids it", said('{"message":"authorization denied by plugin"}', "403 Forbidden")],
    ["no JSON", said("<html>")],
    ["half of it", said(document.slice(0, 5))],
    ["no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["an answer in pieces, for which nobody asked", said(`5\r\n${document}\r\n0\r\n\r\n`)],
    ["nothing", ""],
  ])("where it is %s that answers", async (_, text) => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const asked = await daemon(host, () => text);
    expect(await host.ask({ container: "web", ...by(host) })).toMatchObject({ changed: true });
    expect(asked).not.toEqual([]);
    expect(clientCalls(host)).toContain(`docker --host unix://${host.root}/docker.sock inspect web`);
  });

  test("where the answer does not end", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    await daemon(host, () => said(" ".repeat(65 * 1024 * 1024)));
    expect(await host.ask({ container: "web", ...by(host) })).toMatchObject({ changed: true });
  });

  test("where there is no socket, or nobody listens", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    expect(await host.ask({ container: "web", ...by(host) })).toMatchObject({ changed: true });
    writeFileSync(join(host.root, "docker.sock"), "");
    expect(await host.ask({ container: "web", ...by(host) })).toMatchObject({ changed: false });
  });

  test("where it is named by its path", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const asked = await daemon(host, truthful(host, ["web"]));
    const client = join(host.bin, "docker");
    expect(await host.ask({ container: "web", client, ...by(host) })).toMatchObject({ changed: true });
    expect(asked).toEqual([]);
  });
});

/** Where the daemon is, by what the client's users have. */
describe.concurrent("the socket", () => {
  async function asksOn(env: (host: FakeHost) => Record<string, string>): Promise<boolean> {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const asked = await daemon(host, truthful(host, ["web"]));
    const words = Object.entries(env(host)).map(([name, value]) => `${name}='${value}'`);
    const answered = await host.shell(`echo "$JSON" | env -u DOCKER_CONTEXT ${words.join(" ")} "$EXE"`, {
      container: "web",
    });
    expect(answered.stdout).toContain('"changed":true');
    return asked.length > 0;
  }
  const socket = (host: FakeHost) => `unix://${host.root}/docker.sock`;
  const contextual = (host: FakeHost, text: string) => {
    mkdirSync(join(host.root, ".docker"));
    writeFileSync(join(host.root, ".docker/config.json"), text);
    return {};
  };

  test("that DOCKER_HOST names", async () => {
    expect(await asksOn((host) => ({ DOCKER_HOST: socket(host) }))).toBe(true);
  });

  test("that DOCKER_HOST names, whatever the context", async () => {
    expect(await asksOn((host) => ({ DOCKER_HOST: socket(host), DOCKER_CONTEXT: "far" }))).toBe(true);
  });

  test.each(["tcp://127.0.0.1:1", "ssh://nowhere", "unix://docker.sock"])("not %s", async (DOCKER_HOST) => {
    expect(await asksOn(() => ({ DOCKER_HOST }))).toBe(false);
  });

  test.each([
    ["names a context", '{"currentContext":"far"}'],
    ["cannot be read", "{"],
    ["holds no object", "null"],
  ])("none, where the client's configuration %s", async (_, text) => {
    expect(await asksOn((host) => contextual(host, text))).toBe(false);
  });

  test("none, where the client's configuration is a pipe: it is not waited for", async () => {
    const host = fakeHost();
    host.container("web", { ports: ports(8080) });
    const script =
      'mkfifo "$DIRS/config.json"; echo "$JSON" | env -u DOCKER_CONTEXT DOCKER_CONFIG="$DIRS" timeout -s KILL 300 "$EXE"';
    expect((await host.shell(script, { container: "web" })).stdout).toContain('"changed":true');
  });
});
