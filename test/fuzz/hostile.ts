// Hostile values: what an attacker, a broken disk or another program's bug puts where a name, an address or a number should be.

import fc from "fast-check";

/** Texts that mean something to a shell, a terminal, a file system, iptables, systemd, HTTP or JavaScript. */
export const TEXTS = [
  ...[
    "",
    " ",
    "-",
    "--",
    "-j",
    "-j ACCEPT",
    "!",
    "+",
    "eth+",
    "*",
    "?",
    "%s",
    "%n",
    "$(reboot)",
    "`id`",
    "$HOME",
    ";id",
  ],
  ...[
    "../../etc/passwd",
    "/",
    ".",
    "..",
    "a/b",
    "~root",
    "C:\\x",
    "con",
    "\\",
    '"',
    "'",
    '\\"',
    "#",
    "\n",
    "\r\n",
    "\t",
    "\0",
  ],
  ...[
    "web\n-A INPUT -j ACCEPT",
    "COMMIT",
    "*filter",
    ":INPUT ACCEPT",
    "\u001b[2J\u001b]0;x\u0007",
    "\u009b31m",
    "\u202etxt",
  ],
  ...["a1 HTTP/1.1\r\nHost: x\r\n\r\nDELETE /", "?force=1", "%2e%2e%2f", "\ufeff", "\ud800", "é", "\u2028", "０", "٣"],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "null",
    "undefined",
    "NaN",
    "true",
    "0x50",
    "1e3",
    "-1",
    "007",
  ],
  ...[
    "0.0.0.0/0",
    "::/0",
    "127.0.0.1",
    "fe80::1%lo",
    "1.2.3",
    "1.2.3.4.5",
    "[::1]",
    "::ffff:1.2.3.4",
    "999.1.1.1",
    "65536",
  ],
  "a".repeat(16),
  "a".repeat(236),
  "9".repeat(400),
];

/** A hostile value of any type. */
export const value: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...TEXTS) },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
  { weight: 1, arbitrary: fc.constantFrom(null, true, false, 0, -1, 65536, 1.5, Number.MAX_SAFE_INTEGER) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
);

export const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...TEXTS) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
);

/** Some of these JSON values with up to three of their parts, keys included, replaced by hostile ones. */
export function mutated(originals: readonly unknown[]): fc.Arbitrary<unknown> {
  const change = fc.record({ at: fc.nat(), value, key: fc.option(text, { freq: 4 }) });
  return fc
    .tuple(fc.constantFrom(...originals), fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([original, changes]) => {
      const copy = { root: structuredClone(original) };
      for (const { at, value: hostile, key } of changes) {
        const places = placesIn(copy);
        const place = places[at % places.length];
        if (place === undefined) continue;
        if (key === null || Array.isArray(place.holder)) set(place.holder, place.key, hostile);
        else set(place.holder, key, place.holder[place.key]);
      }
      return copy.root;
    });
}

type Holder = Record<string, unknown>;

/** Own properties only, as JSON.parse makes them: `__proto__` is a name like others. */
function set(holder: Holder, key: string, given: unknown): void {
  Object.defineProperty(holder, key, { value: given, enumerable: true, configurable: true, writable: true });
}

function placesIn(holder: Holder): { holder: Holder; key: string }[] {
  return Object.keys(holder).flatMap((key) => {
    const inner = holder[key];
    const below = typeof inner === "object" && inner !== null ? placesIn(inner as Holder) : [];
    return [{ holder, key }, ...below];
  });
}
