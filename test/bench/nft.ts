// nftables as the backend: ports of one container from nothing to live, against one `nft -f` of the same table, and beside another's rules.

import type { Lab } from "../lab/lab.ts";
import { compare, type Figure, ours } from "./benchmarks.ts";
import { type Command, measure } from "./measure.ts";
import { apart, FAKE_CLIENT, type Place, pretend, startPlace } from "./place.ts";
import { BARE_NFT, canUseNft, rivalsFor } from "./rivals.ts";

const BASE = "/root/base.nft";
const CHANGED = '"changed":true';
/** Shell: no container is published. */
const BARE = `${BARE_NFT}; rm -f /etc/nftables.d/11-*; nft -f ${BASE}`;
const OTHERS = "delete table inet others";

/** 9 */
export async function nftables(lab: Lab, counts: readonly number[], foreign: number): Promise<Figure[]> {
  const place = await startPlace(lab, "nft");
  const { host } = place;
  // A text that replaces our table by what it is now.
  const list =
    "echo 'add table inet docker_iptables'; echo 'delete table inet docker_iptables'; nft list table inet docker_iptables";
  await host.run("sh", ["-c", `(${list}) > ${BASE}`]);
  const hasRivals = await canUseNft(host);
  const figures: Figure[] = [];
  for (const count of counts) {
    const mine = await publishing(place, count);
    const all = `/root/all-${count}.nft`;
    await host.run("sh", ["-c", `${BARE}; docker_iptables < ${mine.stdin} && (${list}) > ${all}`]);
    const once = { name: "nft -f", argv: ["nft", "-f", all], before: BARE, rounds: mine.rounds };
    const rivals = hasRivals && count <= 1000 ? await rivalsFor(host, apart(count), mine.rounds, "nft") : [];
    const samples = await measure(host, [once, mine, ...rivals]);
    const what = `nftables: ${count} ${count === 1 ? "port" : "ports"}, native`;
    figures.push(compare(what, samples, ["native", "nft -f"], count === 1000 ? { most: 3 } : undefined));
    for (const { name } of rivals) figures.push(compare(what, samples, ["native", name], { most: 1 }));
  }
  const alone = { ...(await publishing(place, 1)), name: "alone", rounds: 7 };
  const rules = Array.from(
    { length: foreign },
    (_, at) => `ip saddr 10.${at >> 16}.${(at >> 8) & 255}.${at & 255} counter drop`,
  );
  await host.write(
    "/root/others.nft",
    `table inet others {\n chain input {\n  type filter hook input priority 0;\n  ${rules.join("\n  ")}\n }\n}\n`,
  );
  // The kernel frees so many rules in its own time, and whoever changes something next waits for that.
  const anew = `${BARE}; nft ${OTHERS} 2> /dev/null; sleep 3`;
  const beside = { ...alone, name: "beside", before: `${anew}; nft -f /root/others.nft` };
  const without = { ...alone, before: anew };
  const samples = await measure(host, [without, beside]);
  const what = `nftables: one port beside ${foreign} rules of another's, native`;
  figures.push(compare(what, samples, ["beside", "alone"], { most: 1.2 }));
  return figures;
}

async function publishing(place: Place, count: number): Promise<Command> {
  await pretend(place, "web", apart(count));
  const given = { container: "web", reload: "restore", client: FAKE_CLIENT };
  return ours(place.host, place.native, given, { before: BARE, expect: CHANGED, rounds: count < 10_000 ? 9 : 3 });
}
