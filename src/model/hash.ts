// A name that a text gets, and that nobody who chooses another text can get for it. Pure.

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

/** Characters: as many as fit beside a word in the 28 that iptables takes for a chain's name. */
export const HASH_LENGTH = 20;

/** Hexadecimal. */
export function hashOf(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text))).slice(0, HASH_LENGTH);
}
