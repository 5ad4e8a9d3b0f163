// The number that the kernel gives each state of its nftables: it grows with every transaction, whoever sends it and whatever it changes, a
// table of iptables-nft's included. While it is the same, what was listed is still there.
//
// Only the native executable can ask for it: netlink is not in Node.js, and nft does not print it. nft itself relies on it to notice
// that a list changed while it was read (nfnetlink.h, NFT_MSG_GETGEN).

import { versions } from "node:process";
import { verbose } from "../system/verbose.ts";

/** What was read of nftables: it is read again once something has changed, or may have. */
export class Kept<Value> {
  #last: { generation: number; value: Value } | undefined;

  /** Throws as `fresh`. */
  async read(fresh: () => Promise<Value>): Promise<Value> {
    const generation = await readGeneration();
    if (generation !== undefined && this.#last?.generation === generation) {
      verbose(() => `nftables: nothing has changed since the last list (generation ${generation})`);
      return this.#last.value;
    }
    const value = await fresh();
    // A list that was read while something changed is nothing to rely on.
    const isSame = generation !== undefined && generation === (await readGeneration());
    this.#last = isSame ? { generation, value } : undefined;
    return value;
  }

  /** As `steps`, a transaction that does not touch what is kept here. Throws as `steps`. */
  async across<T>(steps: () => Promise<T>): Promise<T> {
    const before = await readGeneration();
    const result = await steps();
    const isOnlyOne = before !== undefined && (await readGeneration()) === before + 1;
    if (isOnlyOne && this.#last?.generation === before) this.#last.generation = before + 1;
    return result;
  }
}

/** Undefined where it cannot be asked for. Never throws. */
export async function readGeneration(): Promise<number | undefined> {
  if (!("bun" in versions)) return undefined;
  known ??= openNetlink();
  try {
    return (await known)?.();
  } catch {
    return undefined;
  }
}

let known: Promise<(() => number | undefined) | undefined> | undefined;

/** AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER */
const SOCKET = [16, 3 | 0x80000, 12] as const;
/** MSG_DONTWAIT: the kernel answers before send(2) returns. */
const AT_ONCE = 0x40;
/** The subsystem of nftables, in the upper byte of a message's type (NFNL_SUBSYS_NFTABLES). */
const NFTABLES = 10 << 8;
const GET_GENERATION = NFTABLES | 16;
const NEW_GENERATION = NFTABLES | 15;
/** nlmsghdr(20 bytes with nfgenmsg): length, type, NLM_F_REQUEST, sequence, port; family, version, resource. */
const HEADER = 20;
/** NFTA_GEN_ID, with its own header of four bytes */
const GENERATION = 1;

async function openNetlink(): Promise<(() => number | undefined) | undefined> {
  const { dlopen } = await import("bun:ffi");
  const sized = { args: ["i32", "ptr", "usize", "i32"], returns: "i32" } as const;
  // The library that this process runs with already: nothing is searched for.
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    send: sized,
    recv: sized,
  });
  const socket = symbols.socket(...SOCKET);
  if (socket < 0) return undefined;
  const question = new Uint8Array(HEADER);
  const words = new DataView(question.buffer);
  words.setUint32(0, HEADER, true);
  words.setUint16(4, GET_GENERATION, true);
  words.setUint16(6, 1, true);
  return () => {
    const answer = new Uint8Array(256);
    if (symbols.send(socket, question, HEADER, 0) !== HEADER) return undefined;
    const length = symbols.recv(socket, answer, answer.length, AT_ONCE);
    return generationIn(answer.subarray(0, Math.max(length, 0)));
  };
}

/** The number in the kernel's answer; undefined for any other message. Pure. */
export function generationIn(message: Uint8Array): number | undefined {
  const words = new DataView(message.buffer, message.byteOffset, message.byteLength);
  if (message.length < HEADER + 8 || words.getUint16(4, true) !== NEW_GENERATION) return undefined;
  const [length, type] = [words.getUint16(HEADER, true), words.getUint16(HEADER + 2, true)];
  // The first of its attributes, in the order of the network.
  return type === GENERATION && length === 8 ? words.getUint32(HEADER + 4) : undefined;
}
