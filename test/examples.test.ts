// examples/ holds what setup writes on a host with Docker's default network alone; `npx vitest run test/examples.test.ts -u`
// writes it anew.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { readNetwork } from "../src/docker/network.ts";
import { confirmedDirectoryOf, nftFileOf } from "../src/fragments/nft-directory.ts";
import { writeFragment } from "../src/iptables/fragment-text.ts";
import { DEFAULT_NFT_DIRECTORY } from "../src/model/directories.ts";
import { FAMILIES } from "../src/model/family.ts";
import { fileOf } from "../src/model/owner.ts";
import { writeNft } from "../src/nft/fragment-text.ts";
import { hostFragments } from "../src/rules/host-fragments.ts";
import { WATCH_UNIT } from "../src/systemd/install.ts";
import { watcherSandbox } from "../src/systemd/sandbox.ts";
import { nftUnitText, retryTimerOf, retryTimerText, unitText, watchUnitText } from "../src/systemd/unit-text.ts";

const EXAMPLES = fileURLToPath(new URL("../examples/", import.meta.url));
const NFT_UNIT = "docker_iptables-nft.service";
const DIRECTORIES = { ipv4: "iptables.d", ipv6: "ip6tables.d" };

const network = readNetwork({
  Name: "bridge",
  Driver: "bridge",
  IPAM: { Config: [{ Subnet: "172.17.0.0/16" }, { Subnet: "2001:db8:2::/64" }] },
});
const base = hostFragments([network], FAMILIES, { chain: "DOCKER_CONTAINERS", guards: true, proxy: true, routes: [] });

test.each(
  FAMILIES.flatMap((family) =>
    base.map((one) => [family, fileOf(one.owner), writeFragment(one).texts[family]] as const),
  ),
)("the %s base: %s", async (family, file, text) => {
  await expect(text).toMatchFileSnapshot(`${EXAMPLES}${DIRECTORIES[family]}/${file}`);
});

test.each([
  ["iptables.service", "ipv4"],
  ["ip6tables.service", "ipv6"],
] as const)("%s", async (unit, family) => {
  const text = unitText(unit, "/usr/local/bin/docker_iptables", [[family, `/etc/${DIRECTORIES[family]}`]]);
  await expect(text).toMatchFileSnapshot(`${EXAMPLES}systemd/${unit}`);
  const timer = retryTimerOf(unit);
  await expect(retryTimerText(timer, unit)).toMatchFileSnapshot(`${EXAMPLES}systemd/${timer}`);
});

test.each(base.map((one) => [nftFileOf(one.owner), one] as const))("the base in nftables: %s", async (file, one) => {
  const { texts } = writeNft(one, confirmedDirectoryOf(DEFAULT_NFT_DIRECTORY));
  await expect(texts.ipv4).toMatchFileSnapshot(`${EXAMPLES}nftables.d/${file}`);
});

test(NFT_UNIT, async () => {
  const directories = FAMILIES.map((family) => [family, DEFAULT_NFT_DIRECTORY] as const);
  const text = nftUnitText(NFT_UNIT, "/usr/local/bin/docker_iptables", directories);
  await expect(text).toMatchFileSnapshot(`${EXAMPLES}systemd/${NFT_UNIT}`);
});

test(WATCH_UNIT, async () => {
  // Such as setup gives it, where the services load the directories.
  const text = watchUnitText(WATCH_UNIT, "/usr/local/bin/docker_iptables", {
    words: ["--reload", "restore"],
    directories: FAMILIES.map((family) => [family, `/etc/${DIRECTORIES[family]}`] as const),
    loaders: ["iptables.service", "ip6tables.service"],
    isDockers: true,
  });
  await expect(text).toMatchFileSnapshot(`${EXAMPLES}systemd/${WATCH_UNIT}`);
});

test("the unit that writes metrics is confined as the watcher is", async () => {
  const lines = (text: string) => text.split("\n").filter((line) => /^\w+=/.test(line));
  const unit = lines(await readFile(`${EXAMPLES}monitoring/docker_iptables-metrics.service`, "utf8"));
  const file =
    unit
      .find((line) => line.startsWith("ExecStart="))
      ?.split(" ")
      .at(-1) ?? "";
  expect(unit).toEqual(expect.arrayContaining(lines(watcherSandbox([file]))));
});
