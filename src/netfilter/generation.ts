// The number that the kernel gives each state of its nftables: it grows with every transaction, whoever sends it and whatever it changes, a
// table of iptables-nft's included. While it is the same, what was listed is still there; but for tables that go with the program that
// owns them, which is no transaction.
//
// Only the native executable can ask for it: netlink is not in Node.js, and nft does not print it. nft itself relies on it to notice
// that a list changed while it was read (nf_tables.h, NFT_MSG_GETGEN).

import { libc } from "../system/libc.ts";
import { verbose } from "../system/verbose.ts";

/** What a generation does not tell. */
interface Conditions<Value> {
  /** Whether what was read may be kept at all. */
  lasts?: (value: Value) => boolean;
  /** Whether what is kept still holds. */
  holds?: (value: Value) => Promise<boolean>;
}

/** What was read of nftables: it is read again once something has changed, or may have. */
export class Kept<Value> {
  readonly #conditions: Conditions<Value>;
  readonly #generation: () => Promise<number | undefined>;
  #last: { generation: number; value: Value } | undefined;

  constructor(conditions: Conditions<Value> = {}, generation = readGeneration) {
    this.#conditions = conditions;
    this.#generation = generation;
  }

  /** Throws as `fresh`. */
  async read(fresh: () => Promise<Value>): Promise<Value> {
    const { lasts, holds } = this.#conditions;
    const generation = await this.#generation();
    if (
      generation !== undefined &&
      this.#last?.generation === generation &&
      (await holds?.(this.#last.value)) !== false
    ) {
      verbose(() => `nftables: nothing has changed since the last list (generation ${generation})`);
      return this.#last.value;
    }
    const value = await fresh();
    // A list that was read while something changed is nothing to rely on.
    const isSame = generation !== undefined && lasts?.(value) !== false && generation === (await this.#generation());
    this.#last = isSame ? { generation, value } : undefined;
    return value;
  }

  /**
   * What is read next is read anew. The kernel counts a transaction before it has done all of it: what was listed then may be older than
   * its number says.
   */
  forget(): void {
    this.#last = undefined;
  }

  /** As `steps`, a transaction that does not touch what is kept here, unless it failed. Throws as `steps`. */
  async across<T>(steps: () => Promise<T>, isDone: (result: T) => boolean): Promise<T> {
    const before = await this.#generation();
    const result = await steps();
    const isOnlyOne = before !== undefined && isDone(result) && (await this.#generation()) === before + 1;
    if (isOnlyOne && this.#last?.generation === before) this.#last.generation = before + 1;
    return result;
  }
}

/** Undefined where it cannot be asked for. Never throws. */
export async function readGeneration(): Promise<number | undefined> {
  const calls = await libc();
  if (calls === undefined) return undefined;
  socket ??= calls.socket(...NETFILTER);
  if (socket < 0) return undefined;
  sequence = (sequence + 1) % 2 ** 31;
  words.setUint32(SEQUENCE, sequence, true);
  if (calls.send(socket, QUESTION, HEADER, 0) !== HEADER) return undefined;
  const answer = new Uint8Array(256);
  // The kernel answers before send(2) returns.
  const length = calls.recv(socket, answer, answer.length, AT_ONCE);
  return generationIn(answer.subarray(0, Math.max(length, 0)), sequence);
}

let socket: number | undefined;
let sequence = 0;

/** AF_NETLINK; SOCK_RAW | SOCK_CLOEXEC, so that what this process starts does not get it; NETLINK_NETFILTER */
const NETFILTER = [16, 3 | 0x80000, 12] as const;
/** MSG_DONTWAIT */
const AT_ONCE = 0x40;
/** The subsystem of nftables, in the upper byte of a message's type (NFNL_SUBSYS_NFTABLES). */
const NFTABLES = 10 << 8;
const GET_GENERATION = NFTABLES | 16;
const NEW_GENERATION = NFTABLES | 15;
/** bytes of nlmsghdr (length, type, flags, sequence, port) with nfgenmsg (family, version, resource) */
const HEADER = 20;
/** where the sequence stands, by which an answer is known */
const SEQUENCE = 8;
/** NFTA_GEN_ID */
const GENERATION = 1;

const QUESTION = new Uint8Array(HEADER);
const words = new DataView(QUESTION.buffer);
words.setUint32(0, HEADER, true);
words.setUint16(4, GET_GENERATION, true);
/** NLM_F_REQUEST */
words.setUint16(6, 1, true);

/** The number in the kernel's answer to the question of that sequence; undefined for any other message. Pure. */
export function generationIn(message: Uint8Array, asked: number): number | undefined {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  if (message.length < HEADER + 8 || view.getUint16(4, true) !== NEW_GENERATION) return undefined;
  if (view.getUint32(SEQUENCE, true) !== asked) return undefined;
  const [length, type] = [view.getUint16(HEADER, true), view.getUint16(HEADER + 2, true)];
  // The first of its attributes, in the order of the network.
  return type === GENERATION && length === 8 ? view.getUint32(HEADER + 4) : undefined;
}
