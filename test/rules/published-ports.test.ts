import fc from "fast-check";
import { expect, test } from "vitest";
import { containerFragment } from "../../src/rules/desired-fragment.ts";
import type { ContainerRule } from "../../src/rules/model.ts";
import { publishedPorts } from "../../src/rules/published-ports.ts";

const ADDRESS = "172.20.0.2";
const range = fc
  .tuple(fc.integer({ min: 1, max: 60 }), fc.nat(8))
  .map(([first, more]) => ({ first, last: first + more }));
const protocol = fc.constantFrom("tcp", "udp");

test("what is accepted and no DNAT leads to is published at the container's own address, each port once for each accept", () => {
  const accepts = fc.array(fc.record({ protocol, ports: range }), { maxLength: 6 });
  // To ports that move as well as to ports that stay.
  const dnats = fc.array(fc.record({ protocol, ports: range, shift: fc.constantFrom(0, 0, 1000) }), { maxLength: 8 });
  fc.assert(
    fc.property(accepts, dnats, (open, translated) => {
      const rules: ContainerRule[] = [
        ...translated.map(({ protocol, ports: { first, last }, shift }): ContainerRule => {
          const ports = { protocol, first: first + shift, last: last + shift };
          const to = shift === 0 ? { port: undefined, base: undefined } : { port: first, base: ports.first };
          return {
            kind: "dnat",
            hostAddress: undefined,
            ports,
            to: { address: ADDRESS, ...to },
            exceptFrom: undefined,
          };
        }),
        ...open.map(
          ({ protocol, ports }): ContainerRule => ({
            ...{ kind: "accept", address: ADDRESS, bridge: "br-app" },
            ports: { protocol, ...ports },
          }),
        ),
      ];
      const isTranslated = (one: string, port: number) =>
        translated.some(({ protocol, ports }) => protocol === one && ports.first <= port && port <= ports.last);
      const expected = open.flatMap(({ protocol, ports: { first, last } }) =>
        Array.from({ length: last - first + 1 }, (_, at) => first + at)
          .filter((port) => !isTranslated(protocol, port))
          .map((port) => `${protocol} ${port}`),
      );
      const fragment = containerFragment("web", { meaning: { ipv4: rules, ipv6: [] }, chain: "X" });
      const direct = publishedPorts(fragment).flatMap(({ publish }) => {
        const [, first = "", last = first, one] =
          new RegExp(`^${ADDRESS}:(\\d+)(?:-(\\d+))?/(\\w+)$`).exec(publish) ?? [];
        if (one === undefined) return [];
        return Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => `${one} ${Number(first) + at}`);
      });
      expect(direct.sort()).toEqual(expected.sort());
    }),
  );
});
