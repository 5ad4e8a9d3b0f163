// The owners of both families' fragments, and their order.

import { expect, test } from "vitest";
import { compareNames, type Fragments, ownersIn, textIn } from "../../src/fragments/by-family.ts";

const HERE: Fragments = {
  ipv4: [
    { path: "/etc/iptables.d/10_docker", text: "base" },
    { path: "/etc/iptables.d/11-docker-container_db", text: "db" },
    { path: "/etc/iptables.d/11-docker-container_web", text: "web" },
  ],
  ipv6: [
    { path: "/etc/ip6tables.d/11-docker-container_web", text: "web, too" },
    { path: "/etc/ip6tables.d/90-11-docker-container_odd", text: "another's" },
  ],
};

test("each container that has a fragment is an owner, once", () => {
  expect([...ownersIn(HERE)]).toEqual(["db", "web"]);
  expect(ownersIn({}).size).toBe(0);
});

test("the text of a container's fragment is that of the family", () => {
  expect(textIn(HERE, "ipv4", "web")).toBe("web");
  expect(textIn(HERE, "ipv6", "web")).toBe("web, too");
  expect(textIn(HERE, "ipv6", "db")).toBeUndefined();
  expect(textIn(HERE, "ipv4", "we")).toBeUndefined();
  expect(textIn({}, "ipv4", "web")).toBeUndefined();
});

test("names are in the order of their bytes, not of UTF-16", () => {
  const names = ["b", "😀", "～", "a-b", "a", "B", "10_docker", "a_b", ""];
  expect(names.sort(compareNames)).toEqual(["", "10_docker", "B", "a", "a-b", "a_b", "b", "～", "😀"]);
  expect(compareNames("a", "a")).toBe(0);
});
