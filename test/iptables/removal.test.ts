import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readFragment } from "../../src/iptables/fragment-text.ts";
import { readLive } from "../../src/iptables/live.ts";
import { goneLines, removalText, withoutLines } from "../../src/iptables/removal.ts";
import { containerOwner } from "../../src/model/owner.ts";

const own = (name: string, port: number) =>
  `-A DOCKER_CONTAINERS -p tcp -m tcp --dport ${port} -m comment --comment "docker_iptables: ${name}" -j DNAT --to-destination 172.17.0.2:80`;
const BARE = "-A DOCKER_CONTAINERS ! -i lo -p tcp -m tcp --dport 9090 -j DNAT --to-destination 172.17.0.3:80";
const HEAD = "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER_CONTAINERS - [0:0]\n";
const live = (...lines: string[]) =>
  readLive(`# Generated\n${HEAD}${lines.map((line) => `${line}\n`).join("")}COMMIT\n`);
const gone = (name: string, text = "") => ({ owner: containerOwner(name), former: readFragment(text) });

function removal(owners: ReturnType<typeof gone>[], kept: string[], from: ReturnType<typeof live>) {
  return removalText(
    goneLines(
      owners,
      kept.map((text) => ({ text })),
      from,
    ),
    from,
  );
}

describe("what is gone", () => {
  test("is deleted by its spelling, and nothing else is in the text", () => {
    const from = live(own("web", 8080), own("web2", 8081), "-A PREROUTING -j DOCKER_CONTAINERS");
    expect(removal([gone("web")], [], from)).toBe(`*nat\n${own("web", 8080).replace("-A", "-D")}\nCOMMIT\n`);
    expect(removal([gone("we")], [], from)).toBeUndefined();
  });

  test("without a comment is known by the former file, unless a fragment that is kept declares it", () => {
    const former = `*nat\n${BARE}\nCOMMIT\n`;
    expect(removal([gone("old", former)], [], live(BARE))).toBe(`*nat\n${BARE.replace("-A", "-D")}\nCOMMIT\n`);
    expect(removal([gone("old", former)], [former], live(BARE))).toBeUndefined();
    // A file of the same name may hold anything, rules of another owner's too.
    expect(removal([gone("old", `*nat\n${own("web", 80)}\nCOMMIT\n`)], [], live(own("web", 80)))).toBeUndefined();
  });

  test("is deleted as often as it is there", () => {
    expect(removal([gone("web")], [], live(own("web", 80), own("web", 80)))?.match(/^-D /gm)).toHaveLength(2);
  });
});

test("a snapshot without what is gone is the snapshot, and neither a rule of theirs nor a rule more", () => {
  const rule = fc.tuple(fc.constantFrom("web", "db", "web2"), fc.integer({ min: 1, max: 9 }));
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 12 }), (rules) => {
      const from = live(...rules.map(([name, port]) => own(name, port)));
      const left = withoutLines(from, goneLines([gone("web")], [], from));
      expect(left).toBe(live(...rules.filter(([name]) => name !== "web").map(([name, port]) => own(name, port))).text);
    }),
  );
});
