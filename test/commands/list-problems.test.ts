// Where a list of who may connect and another rule disagree: pure, on a host made up.

import { expect, test } from "vitest";
import { disagreements } from "../../src/commands/list-problems.ts";
import { hostWith, NETWORK, type Rules, targetOf } from "./made-up-host.ts";

const web = targetOf("web", "172.17.0.2");
const LIST = { "8080": ["192.0.2.0/24", "10.0.0.0/8"] };

function found(before: Rules, allow: Record<string, string[]> = LIST) {
  const { host, items } = hostWith([web], before, allow);
  return disagreements(items, [web], [NETWORK], host);
}

const users = (...rules: string[]) => ({ filter: [":DOCKER-USER - [0:0]", "-A FORWARD -j DOCKER-USER", ...rules] });

test("none where the list decides", () => {
  expect(found({})).toEqual({ problems: [], warnings: [] });
  expect(found({}, { "8080": [] })).toEqual({ problems: [], warnings: [] });
  expect(found({}, {})).toEqual({ problems: [], warnings: [] });
  expect(found({ filter: ["-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"] }).problems).toEqual([]);
});

test.each<[string, Rules, string]>([
  [
    "opens to a few what the list closes",
    { mangle: ["-A FORWARD -s 198.51.100.0/24 -j ACCEPT"] },
    "0.0.0.0:8080/tcp of web is open to 198.51.100.1, which comes by eth0 and is not on its list: '-A FORWARD -s 198.51.100.0/24 -j ACCEPT' decides",
  ],
  [
    "opens to everybody",
    { mangle: ["-A FORWARD -j ACCEPT"] },
    "0.0.0.0:8080/tcp of web is open to 203.0.113.9, which comes by eth0 and is not on its list: '-A FORWARD -j ACCEPT' decides",
  ],
  [
    "closes to some what the list opens",
    { raw: ["-A PREROUTING -s 10.9.0.0/16 -j DROP"] },
    "0.0.0.0:8080/tcp of web is closed to 10.9.0.1, which comes by eth0 and is on its list: '-A PREROUTING -s 10.9.0.0/16 -j DROP' decides",
  ],
  [
    "closes to all",
    { filter: ["-A FORWARD -i eth0 -j DROP"] },
    "0.0.0.0:8080/tcp of web is closed to 10.0.0.1, which comes by eth0 and is on its list: '-A FORWARD -i eth0 -j DROP' decides",
  ],
])("a rule that %s is named", (_, before, msg) => {
  const { problems, warnings } = found(before);
  expect(problems.map((one) => one.msg)).toContain(msg);
  expect(problems[0]).toMatchObject({
    ...{ kind: "list_overruled", container: "web", rule: expect.stringMatching(/^-A /) },
    hint: "'docker_iptables explain web' shows the path",
  });
  expect(warnings).toEqual([]);
});

test("a rule that somebody puts into the chain of a list", () => {
  const { host, items } = hostWith([web], {}, LIST);
  const chain = /ALLOW-[0-9a-f]{20}/.exec(items[0]?.after ?? "")?.[0];
  expect(chain).toBeDefined();
  const opened = found({ mangle: [`-A ${chain} -s 198.51.100.7 -j RETURN`] });
  expect(opened.problems).toMatchObject([{ msg: expect.stringContaining("is open to 198.51.100.7,") }]);
  expect(disagreements(items, [web], [NETWORK], host).problems).toEqual([]);
});

test("what DOCKER-USER closes beside a list is the user's will, and is told", () => {
  const { problems, warnings } = found(users("-A DOCKER-USER -s 10.9.0.0/16 -j DROP"));
  expect(problems).toEqual([]);
  expect(warnings).toEqual([
    "DOCKER-USER closes 0.0.0.0:8080/tcp of web to 10.9.0.1, which comes by eth0 and is on its list: '-A DOCKER-USER -s 10.9.0.0/16 -j DROP' decides",
  ]);
});

test("what DOCKER-USER accepts opens nothing that a list closes, and that is told", () => {
  const rule = "-A DOCKER-USER -s 198.51.100.7/32 -j ACCEPT";
  const { problems, warnings } = found(users(rule, "-A DOCKER-USER -s 10.1.2.3/32 -j ACCEPT"));
  expect(problems).toEqual([]);
  expect(warnings).toEqual([
    `'${rule}' does not open 0.0.0.0:8080/tcp of web: its list keeps 198.51.100.7 out; add that to the list, or remove the rule`,
  ]);
});

test("is not looked at where rules of the list are missing: that is reported already", () => {
  const { host, items } = hostWith([web], { mangle: ["-A FORWARD -j ACCEPT"] }, LIST);
  const lacking = items.map((item) => ({ ...item, drift: { missing: ["-A x"], surplus: 0, disordered: false } }));
  expect(disagreements(lacking, [web], [NETWORK], host)).toEqual({ problems: [], warnings: [] });
});
