// Which clients a view of explain is of, in words.

import { expect, test } from "vitest";
import { describeClients } from "../../src/cli/origins.ts";
import type { Sources, View } from "../../src/iptables/views.ts";
import type { ProbeOrigin } from "../../src/rules/probe.ts";

function viewOf(from: ProbeOrigin, sources?: Sources, interfaces?: string[]): View {
  const trip = { family: "ipv4", from: "eth0", source: "", destination: "", protocol: "tcp", port: 80 } as const;
  const arrival = { reached: undefined, why: "", by: [], doubts: [], asked: [] };
  return { from, trip, arrival, sources, interfaces };
}

const some = (count: number, rest?: string): Sources => ({
  subnets: Array.from({ length: count }, (_, at) => `10.${at}.0.0/16`),
  rest,
});

test.each<[string, Sources | undefined, string[] | undefined]>([
  ["another machine", undefined, undefined],
  ["another machine by eth1, eth2", undefined, ["eth1", "eth2"]],
  ["another machine from 10.0.0.0/16", some(1), undefined],
  ["another machine from 192.0.2.7", { subnets: ["192.0.2.7/32"], rest: undefined }, undefined],
  ["another machine from 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16", some(3), undefined],
  ["another machine from 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16 and 4 more", some(7), undefined],
  ["another machine from elsewhere", some(0, "0.0.0.0/0"), undefined],
  ["another machine from 10.0.0.0/16 and elsewhere by eth1", some(1, "0.0.0.0/0"), ["eth1"]],
  ["another machine from 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 1 more and elsewhere", some(4, "0.0.0.0/0"), undefined],
])("%s", (words, sources, interfaces) => {
  expect(describeClients(viewOf({ kind: "machine" }, sources, interfaces), "web")).toBe(words);
});

test("a network's bridge is named once", () => {
  const view = viewOf({ kind: "other_bridge", bridge: "br1, br2" }, some(1), ["br1", "br2"]);
  expect(describeClients(view, "web")).toBe("a container on another network (br1, br2) from 10.0.0.0/16");
  expect(describeClients(viewOf({ kind: "container" }), "web")).toBe("web itself");
});
