// Documents that cannot be used: each costs only itself, and is described in words that a terminal can bear.

import { expect, test } from "vitest";
import { readContainers, readNetworks, describe as tell } from "../../src/docker/documents.ts";

const ID = "bad0".repeat(16);
const good = { Id: "900d".repeat(16), Name: "/web", State: { Running: true } };
const bad = (more: object) => ({ Id: ID, Name: "/bad", State: { Running: true }, ...more });
const at = (IPAddress: string) => ({ NetworkSettings: { Networks: { bridge: { IPAddress } } } });

test.each<[string, unknown, string, RegExp]>([
  ["a name too long for a file", bad({ Name: "a".repeat(236) }), `${"a".repeat(64)}…`, /236 characters.* room for 235/],
  ["a name that is a path", bad({ Name: "/../../etc/x" }), "../../etc/x", /name/],
  ["a name of controls", bad({ Name: "/e\u001b[2J\u009b\u202ex\n-A" }), "e\\x1b[2J\\x9b\\u{202e}x -A", /name/],
  ["no name", bad({ Name: undefined }), "bad0bad0bad0", /name/],
  ["a name that is no text", bad({ Name: 7 }), "bad0bad0bad0", /\/Name must be string/],
  ["nothing at all", {}, "", /^$/],
  ["a number", 7, "without a name", /must be object/],
  ["null", null, "without a name", /must be object/],
  ["a number for its state", bad({ State: 7 }), "bad", /\/State must be object/],
  [
    "networks in a list",
    bad({ NetworkSettings: { Networks: [] } }),
    "bad",
    /\/NetworkSettings\/Networks must be object/,
  ],
  [
    "a key of controls",
    bad({ NetworkSettings: { Networks: { "\u001b[2J": 7 } } }),
    "bad",
    /\/Networks\/\\x1b\[2J must be/,
  ],
  ["a subnet for an address", bad(at("172.17.0.9/0")), "bad", /172\.17\.0\.9\/0/],
  ["everybody's address", bad(at("0.0.0.0")), "bad", /"0\.0\.0\.0" where a container's own address/],
  ["the host's own address", bad(at("127.0.0.1")), "bad", /"127\.0\.0\.1" where a container's own address/],
  ["a group's address", bad(at("224.0.0.1")), "bad", /own address/],
])("a container with %s", (_what, document, who, why) => {
  const { usable, unusable } = readContainers([good, document], "docker inspect");
  expect(usable.map(({ name }) => name)).toEqual(["web"]);
  // What is no container is left out, as images are.
  expect(unusable.map(tell)).toEqual(who === "" ? [] : [expect.stringMatching(why)]);
  for (const text of unusable.map(tell)) {
    expect(text).toContain(`the container ${who} cannot be used: `);
    expect(text).not.toMatch(/\p{C}/u);
  }
});

test.each<[string, object, RegExp]>([
  ["a bridge that is every interface", { Options: { "com.docker.network.bridge.name": "+" } }, /"\+" where/],
  ["a bridge that is many", { Options: { "com.docker.network.bridge.name": "evil+" } }, /"evil\+" where/],
  ["options that are no words", { Options: { x: 7 } }, /\/Options\/x must be/],
  ["a subnet that is none", { IPAM: { Config: [{ Subnet: "10.9.0.0/99" }] } }, /10\.9\.0\.0\/99/],
  ["no text for a name", { Name: 7 }, /\/Name must be string/],
])("a network with %s", (_what, more, why) => {
  const documents = [
    { Id: ID, Name: "evil", Driver: "bridge", ...more },
    { Id: "f".repeat(64), Name: "front", Driver: "bridge" },
  ];
  const { usable, unusable } = readNetworks(documents, "docker network inspect");
  expect(usable.map(({ name }) => name)).toEqual(["front"]);
  expect(unusable.map(tell)).toEqual([expect.stringMatching(why)]);
  expect(unusable).toMatchObject([{ id: ID }]);
});

test("containers of other clients of containerd, which nerdctl lists without a name, do not count; each is there once", () => {
  const other = { Id: "web", Name: "", State: { Running: false }, NetworkSettings: {} };
  const { usable, unusable } = readContainers([good, other, good], "nerdctl inspect web");
  expect(usable.map(({ id }) => id)).toEqual([good.Id]);
  expect(unusable).toEqual([]);
});

test("what can be read of an unusable container's places is kept: all of them, or none", () => {
  const settings = (Networks: object) => bad({ NetworkSettings: { Ports: { "x/y": [{}] }, Networks } });
  const of = (document: object) => readContainers([document], "docker inspect").unusable[0]?.attachments.length;
  const bridge = { NetworkID: "bridge", IPAddress: "172.17.0.9" };
  expect(of(settings({ bridge }))).toBe(1);
  expect(of(settings({ bridge, other: { IPAddress: "x" } }))).toBe(0);
});
