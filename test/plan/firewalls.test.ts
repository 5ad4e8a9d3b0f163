// Other firewalls beside thousands of ports: their rules are not read again for each.

import { expect, test } from "vitest";
import type { Loading } from "../../src/model/request.ts";
import type { NftTable, Statements } from "../../src/netfilter/nft-tables.ts";
import { firewallProblems, warnOfOthers } from "../../src/plan/firewalls.ts";
import type { Item } from "../../src/plan/item.ts";
import { NOBODY_AROUND } from "../../src/plan/preflight.ts";
import type { ContainerRule } from "../../src/rules/model.ts";

const PORTS = Array.from({ length: 300 }, (_, index) => 20_000 + 2 * index);

const meaning = PORTS.flatMap((port): ContainerRule[] => {
  const ports = { protocol: "tcp", first: port, last: port };
  return [
    {
      kind: "dnat",
      hostAddress: undefined,
      ports,
      to: { address: "10.89.0.2", port, base: undefined },
      exceptFrom: "b",
    },
    { kind: "accept", address: "10.89.0.2", bridge: "br0", ports },
  ];
});

const ITEM: Item = {
  ...{ owner: { kind: "container", name: "web" }, family: "ipv4", meaning, path: "", fragment: "", drift: undefined },
  ...{ before: undefined, after: "", former: new Map(), wanted: new Map() },
};

/** A table, and how often its rules were asked for. */
function counted(name: string, rules: Statements[]): { table: NftTable; asked: () => number } {
  let count = 0;
  const table: NftTable = {
    name,
    bases: [{ name: "forward", hook: "forward", type: "filter", policy: "drop" }],
    get rules() {
      count++;
      return new Map([["forward", rules]]);
    },
  };
  return { table, asked: () => count };
}

const match = (left: unknown, right: unknown) => ({ match: { op: "==", left, right } });

test("podman's own, whose rules lead to the container, too", () => {
  const subnet = match({ payload: { protocol: "ip", field: "daddr" } }, { prefix: { addr: "10.89.0.0", len: 24 } });
  const { table, asked } = counted("inet netavark", [[subnet, { accept: null }]]);
  const warnings = warnOfOthers({ tables: [table], iptables: [] }, [ITEM]);
  expect(warnings).toEqual([expect.stringContaining("podman's own firewall also publishes the ports of web")]);
  expect(asked()).toBeLessThan(10);
});

test("a blocklist, and a policy that lets nothing through", () => {
  const banned = match({ payload: { protocol: "ip", field: "saddr" } }, "192.0.2.7");
  const { table, asked } = counted("inet fw", [[banned, { drop: null }]]);
  const { problems } = firewallProblems({ ...NOBODY_AROUND, tables: [table] }, [ITEM], false, {
    reload: "patch",
  } as Loading);
  expect(problems).toEqual([expect.objectContaining({ msg: expect.stringContaining("drops all connections") })]);
  expect(asked()).toBeLessThan(10);
});

test("ports are told apart where a rule asks for one", () => {
  const one = match({ payload: { protocol: "tcp", field: "dport" } }, 20_000);
  const { table } = counted("inet fw", [[one, { accept: null }]]);
  const others: Item = { ...ITEM, meaning: meaning.slice(0, 2) };
  expect(warnOfOthers({ tables: [table], iptables: [] }, [others])).toEqual([]);
  expect(warnOfOthers({ tables: [table], iptables: [] }, [ITEM])).toEqual([
    expect.stringContaining("inet fw drops all connections"),
  ]);
});
