import { describe, expect, test } from "vitest";
import { readLive } from "../../src/iptables/live.ts";
import { lostRules } from "../../src/iptables/lost.ts";

const WEB =
  '-A FORWARD -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -m comment --comment "docker_iptables: web" -j ACCEPT';
const DB = WEB.replaceAll("172.17.0.2", "172.17.0.3").replace(": web", ": db");
const SSH = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT";
const HAND = "-A INPUT -s 10.1.2.3/32 -j ACCEPT";
const MASQUERADE = "-A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE";

const filter = (lines: string[], policy = "DROP") =>
  `*filter\n:INPUT ${policy} [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n${lines.map((line) => `${line}\n`).join("")}COMMIT\n`;
const nat = (lines: string[]) =>
  `*nat\n:POSTROUTING ACCEPT [0:0]\n${lines.map((line) => `${line}\n`).join("")}COMMIT\n`;
const fragment = (...lines: string[]) => ({ text: `*filter\n${lines.map((line) => `${line}\n`).join("")}COMMIT\n` });

const HOST = fragment(":INPUT DROP [0:0]", SSH);
const BEFORE = readLive(filter([SSH, HAND, WEB, DB]) + nat([MASQUERADE]));

function lost(after: string, fragments = [HOST, fragment(WEB), fragment(DB)], former: string[][] = []) {
  return lostRules(
    BEFORE,
    readLive(after),
    fragments,
    former.map((rule) => new Map([["filter", [rule]]])),
  );
}

describe("what a load took away", () => {
  test("nothing, in whatever order and with more than before", () => {
    expect(lost(nat([MASQUERADE]) + filter([DB, "-A INPUT -j LOG", WEB, HAND, SSH]))).toEqual({
      declared: [],
      undeclared: [],
    });
  });

  test("all of it, by a flush", () => {
    expect(lost("")).toEqual({ declared: [WEB, DB, ":INPUT DROP", SSH], undeclared: [HAND, `nat: ${MASQUERADE}`] });
  });

  test("the user's, and ours are there", () => {
    expect(lost(filter([WEB, DB]) + nat([MASQUERADE]))).toEqual({ declared: [SSH], undeclared: [HAND] });
  });

  test("a policy alone", () => {
    const accepts = filter([SSH, HAND, WEB, DB], "ACCEPT") + nat([MASQUERADE]);
    expect(lost(accepts)).toEqual({ declared: [":INPUT DROP"], undeclared: [] });
    // The fragment says so now.
    const edited = [fragment(":INPUT ACCEPT [0:0]", SSH), fragment(WEB), fragment(DB)];
    expect(lost(accepts, edited)).toEqual({ declared: [], undeclared: [] });
  });

  test("of ours only what a fragment still has", () => {
    const after = filter([SSH, HAND]) + nat([MASQUERADE]);
    expect(lost(after, [HOST, fragment(DB)])).toEqual({ declared: [DB], undeclared: [] });
    expect(lost(after, [HOST])).toEqual({ declared: [], undeclared: [] });
  });

  test("what was replaced, without a comment, was to go", () => {
    const after = filter([SSH, WEB, DB]) + nat([MASQUERADE]);
    expect(lost(after, undefined, [HAND.split(" ")])).toEqual({ declared: [], undeclared: [] });
  });
});
