// JSON that passes the schema and is nonsense nonetheless: readContainer and readNetwork either refuse it with
// `client_answer_invalid`, or what they return is what it claims to be.

import { isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Container, readContainer } from "../../src/docker/container.ts";
import { readNetwork } from "../../src/docker/network.ts";
import { Failure } from "../../src/errors.ts";
import type { ContainerDocument } from "../../src/generated/container.ts";
import type { NetworkDocument } from "../../src/generated/network.ts";
import { validate as validateContainer } from "../../src/generated/validate-container.js";
import { validate as validateNetwork } from "../../src/generated/validate-network.js";

/** Mostly right, so that the rest of a document is looked at too; else a near miss, or anything. */
const mix = (right: string[], nearly: string[]) =>
  fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...right) },
    { weight: 1, arbitrary: fc.constantFrom(...nearly) },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
    { weight: 1, arbitrary: fc.constant(null) },
  );
const text = (right: string[], nearly: string[]) => mix(right, nearly).map((value) => value ?? "");
const some = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(shape, { requiredKeys: [] });

const ipv4 = mix(["", "172.17.0.2"], ["0.0.0.0/0", "1.2.3", "::1", "1.2.3.4 -j ACCEPT"]);
const ipv6 = mix(["", "fd00::2", "::ffff:1.2.3.4"], ["fe80::1%eth0", "::/0", "1.2.3.4", "fd00::2]"]);
const attachment = some({
  IPAddress: ipv4,
  GlobalIPv6Address: ipv6,
  Gateway: ipv4,
  IPv6Gateway: ipv6,
  NetworkID: mix(["a1"], ["../x"]),
  GwPriority: fc.oneof(fc.integer(), fc.constant(null)),
});
const key = text(["80/tcp", "53/udp", "22"], ["0/tcp", "80/tcp/x", "80-90/tcp", "/", "__proto__", "80/all"]);
const hostPort = fc.oneof(mix(["8080", ""], ["1:65535", "65536", "0x50", " 80"]), fc.integer({ max: 65535, min: -1 }));
const hostIp = mix(["", "0.0.0.0", "::", "127.0.0.1"], ["[::]", "::1%lo", "localhost", "0"]);
const bindings = fc.oneof(fc.array(some({ HostIp: hostIp, HostPort: hostPort }), { maxLength: 3 }), fc.constant(null));
const dictionary = <T>(keys: fc.Arbitrary<string>, values: fc.Arbitrary<T>) =>
  fc.oneof(fc.dictionary(keys, values, { maxKeys: 3 }), fc.constant(null));

const container = some({
  Id: fc.string(),
  ID: fc.string(),
  Name: text(["/web", "web"], ["../web", "a b", "-rf", ""]),
  State: fc.oneof(some({ Running: fc.boolean(), Status: mix(["running"], ["\u001b[2J"]) }), fc.constant(null)),
  HostConfig: fc.oneof(some({ NetworkMode: mix(["bridge", "host"], ["container:"]) }), fc.constant(null)),
  NetworkSettings: fc.oneof(
    some({
      Bridge: mix(["", "docker0"], ["eth+", "a b"]),
      IPAddress: ipv4,
      GlobalIPv6Address: ipv6,
      Gateway: ipv4,
      Ports: dictionary(key, bindings),
      Networks: dictionary(
        text(["bridge", "front"], ["__proto__", "unknown-eth0"]),
        fc.oneof(attachment, fc.constant(null)),
      ),
      Other: fc.jsonValue(),
    }),
    fc.constant(null),
  ),
  Mounts: fc.jsonValue(),
});

const network = some({
  Name: text(["front", "bridge"], ["a b"]),
  Id: text(["a".repeat(64)], ["a"]),
  Driver: mix(["bridge", "overlay"], [""]),
  Options: dictionary(
    fc.constantFrom("com.docker.network.bridge.name", "__proto__"),
    mix(["br0", ""], ["eth+", "a b", "-j"]),
  ),
  Containers: dictionary(fc.string(), some({ IPv4Address: mix(["172.17.0.2/16", ""], ["1.2.3"]), IPv6Address: ipv6 })),
  driver: mix(["bridge"], ["x"]),
  network_interface: mix(["podman0"], ["eth+"]),
  plugins: fc.oneof(
    fc.array(some({ type: fc.constantFrom("bridge", "portmap"), bridge: mix(["cni0"], ["a/b"]) }), { maxLength: 2 }),
    fc.constant(null),
  ),
});

test("a container's document", () => {
  let read = 0;
  const property = fc.property(container, (document) => {
    const plain = JSON.parse(JSON.stringify(document)) as ContainerDocument;
    expect(validateContainer(plain)).toBe(true);
    const result = attempt(() => readContainer(plain));
    if (result === undefined) return;
    read += 1;
    expectSound(result);
  });
  fc.assert(property, { seed: 6, numRuns: 3000 });
  expect(read).toBeGreaterThan(300);
});

test("a network's document", () => {
  let read = 0;
  const property = fc.property(network, (document) => {
    const plain = JSON.parse(JSON.stringify(document)) as NetworkDocument;
    expect(validateNetwork(plain)).toBe(true);
    const result = attempt(() => readNetwork(plain));
    if (result === undefined) return;
    read += 1;
    if (result.bridge !== undefined) expect(result.bridge).toMatch(/^[\w.:@][\w.:@-]{0,14}$/);
    for (const address of result.members.values()) expectAddresses(address);
  });
  fc.assert(property, { seed: 7, numRuns: 3000 });
  expect(read).toBeGreaterThan(300);
});

/** The result, or undefined for the one failure that there may be. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    expect(error.code).toBe("client_answer_invalid");
    // The message carries what was found there, with control characters spelled out.
    expect(error.message).not.toMatch(/[\0-\x1f]/);
    return undefined;
  }
}

function expectSound({ name, publishes, attachments, withoutHostPort }: Container): void {
  expect(name).toMatch(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/);
  for (const { family, hostAddress, hostPort, containerPort, protocol } of publishes) {
    for (const port of [hostPort, containerPort]) expect(Number.isInteger(port) && port > 0 && port < 65536).toBe(true);
    expect(["tcp", "udp", "sctp"]).toContain(protocol);
    if (hostAddress !== undefined) expectAddresses({ [family]: hostAddress });
  }
  for (const port of withoutHostPort) expect(port).toMatch(/^\d+(\/(tcp|udp|sctp))?$/i);
  for (const { address, gateway, bridge } of attachments) {
    expectAddresses(address);
    expectAddresses(gateway);
    if (bridge !== undefined) expect(bridge).toMatch(/^[\w.:@][\w.:@-]{0,14}$/);
  }
}

function expectAddresses(address: { ipv4?: string; ipv6?: string }): void {
  if (address.ipv4 !== undefined) expect(isIPv4(address.ipv4)).toBe(true);
  if (address.ipv6 !== undefined) expect(isIPv6(address.ipv6) && !address.ipv6.includes("%")).toBe(true);
}
