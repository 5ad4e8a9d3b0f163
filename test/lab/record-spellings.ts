/*
 * `npm run record:spellings`: prints anew what Debian's iptables of both backends print for each rule that is written in
 * test/spellings/table.json. A new rule needs only `table` and `written`.
 */

import { writeFileSync } from "node:fs";
import type { Family } from "../../src/model/family.ts";
import { startLab } from "./lab.ts";
import { type Backend, printSpellings, readSpellings, type Spelling, TABLE } from "./spellings.ts";

const spellings = readSpellings();
await using lab = await startLab({ packages: ["ipset"] });
const host = await lab.host({ name: "web1", docker: { atBoot: false } });
const print = (family: Family, backend: Backend) => printSpellings(host, family, backend, spellings);

async function record(family: Family): Promise<Spelling["ipv4"][]> {
  const nft = await print(family, "nft");
  const legacy = await print(family, "legacy");
  return spellings.map((_, at) => {
    const printed = { nft: nft[at] ?? "refused", legacy: legacy[at] ?? "refused" };
    return JSON.stringify(printed.nft) === JSON.stringify(printed.legacy) ? printed.nft : printed;
  });
}

const [ipv4, ipv6] = [await record("ipv4"), await record("ipv6")];
const recorded = spellings.map(({ table, written }, at) => ({ table, written, ipv4: ipv4[at], ipv6: ipv6[at] }));
writeFileSync(TABLE, `${JSON.stringify(recorded, null, 2)}\n`);
