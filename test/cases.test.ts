// Golden cases: cases/NAME.json is what a client printed and the arguments; cases/NAME.txt is the outcome, cases/NAME.nft the fragment of nftables. A new case is a new
// .json file; `npx vitest run test/cases.test.ts -u` writes its .txt; review it.
//
// Those called recorded-* are what a daemon printed, word for word (`npm run record`). Each of the others was made after
// the shape that its `about` names, with what matters kept and the rest shortened. Their fragments were once loaded with iptables-restore 1.8.9 (nft) and listed again by iptables-save.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Failure } from "../src/model/errors.ts";
import { readNft, writeNft } from "../src/nft/fragment-text.ts";
import { type Given, outcomeOf } from "./rules/pipeline.ts";

const CASES = fileURLToPath(new URL("cases/", import.meta.url));
const files = readdirSync(CASES);
const names = files.filter((file) => file.endsWith(".json")).map((file) => file.replace(/\.json$/, ""));

test.each(names)("%s", async (name) => {
  const given: Given & { about: string } = JSON.parse(readFileSync(`${CASES}${name}.json`, "utf8"));
  expect(given.about).toMatch(/\w/);
  await expect(outcome(given)).toMatchFileSnapshot(`${CASES}${name}.txt`);
  const text = nftOf(given);
  if (text !== undefined) await expect(text).toMatchFileSnapshot(`${CASES}${name}.nft`);
});

test("every expectation belongs to a case", () => {
  const orphans = files.filter((file) => !names.includes(file.replace(/\.(json|txt|nft)$/, "")));
  expect(orphans).toEqual([]);
});

/** The same fragment for nftables, which is read back as it was written; undefined where there is none. */
function nftOf(given: Given): string | undefined {
  try {
    const { wanted } = outcomeOf(given);
    const text = writeNft(wanted, "/run/confirmed").texts.ipv4;
    if (text === undefined) return undefined;
    const { strange, words } = readNft(text, wanted.owner);
    expect(strange).toEqual([]);
    expect(words.fragments).toEqual(writeNft(wanted, "/run/confirmed").fragments);
    return text;
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

/** The whole outcome as text: a failure's code and sentence; else why it is not published, warnings, and both fragments. */
function outcome(given: Given): string {
  try {
    const { notPublished, warnings, fragments } = outcomeOf(given);
    return [
      ...(notPublished === undefined ? [] : [`not published: ${notPublished}\n`]),
      ...warnings.map((warning) => `warning: ${warning}\n`),
      `== IPv4\n${fragments.ipv4 ?? "no file\n"}`,
      `== IPv6\n${fragments.ipv6 ?? "no file\n"}`,
    ].join("");
  } catch (error) {
    if (error instanceof Failure) return `fails: ${error.code}: ${error.message}\n`;
    throw error;
  }
}
