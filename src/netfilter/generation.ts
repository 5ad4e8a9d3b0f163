// The number that the kernel gives each state of its nftables: it grows with every transaction, whoever sends it and whatever it changes, a
// table of iptables-nft's included. While it is the same, what was listed is still there; but for tables that go with the program that
// owns them, which is no transaction.
//
// Only the native executable can ask for it: netlink is not in Node.js, and nft does not print it. nft itself relies on it to notice
// that a list changed while it was read (nf_tables.h, NFT_MSG_GETGEN).
//
// The kernel counts a transaction before it has done all of it (nf_tables_commit: the number, then each change, the sets of ranges last).
// So an empty transaction is sent after the question: it waits for the one that is under way, is not counted, and changes nothing (tried,
// 6.18: 150 ms beside one of 40,000 elements, 10 microseconds else).

import { libc } from "../system/libc.ts";

/** All that it counts has come to be. Undefined where it cannot be asked for. Never throws. */
export async function readGeneration(): Promise<number | undefined> {
  const netlink = await openNetlink();
  if (netlink === undefined) return undefined;
  sequence = (sequence + 1) % 2 ** 31;
  if (!netlink.ask(message(GET_GENERATION, REQUEST, sequence))) return undefined;
  const generation = generationIn(netlink.answer(), sequence);
  // It is answered only where it is refused.
  return netlink.ask(NOTHING_TO_DO) && netlink.answer().length === 0 ? generation : undefined;
}

/**
 * A name of this network namespace that no other one gets before the machine boots again (SO_NETNS_COOKIE, since Linux 5.14); its inode is
 * given to another once it is gone. Undefined where it cannot be asked for. Never throws.
 */
export async function namespaceCookie(): Promise<string | undefined> {
  return (await openNetlink())?.cookie();
}

interface Netlink {
  /** Whether it was taken. The kernel has done what is asked, and answered, before send(2) returns. */
  ask(message: Uint8Array): boolean;
  /** What is there; no bytes where nothing is. */
  answer(): Uint8Array;
  cookie(): string | undefined;
}

async function openNetlink(): Promise<Netlink | undefined> {
  const calls = await libc();
  if (calls === undefined) return undefined;
  const descriptor = socket ?? calls.socket(...NETFILTER);
  if (descriptor < 0) return undefined;
  socket = descriptor;
  return {
    ask: (message) => calls.send(descriptor, message, message.length, 0) === message.length,
    answer() {
      const answer = new Uint8Array(256);
      const length = calls.recv(descriptor, answer, answer.length, AT_ONCE);
      return answer.subarray(0, Math.max(length, 0));
    },
    cookie() {
      const value = new Uint8Array(8);
      const size = new Uint8Array(new Uint32Array([value.length]).buffer);
      const isTold = calls.getsockopt(descriptor, ...NAMESPACE_COOKIE, value, size) === 0;
      return isTold ? new DataView(value.buffer).getBigUint64(0, true).toString() : undefined;
    },
  };
}

let socket: number | undefined;
let sequence = 0;

/** AF_NETLINK; SOCK_RAW | SOCK_CLOEXEC, so that what this process starts does not get it; NETLINK_NETFILTER */
const NETFILTER = [16, 3 | 0x80000, 12] as const;
/** SOL_SOCKET, SO_NETNS_COOKIE */
const NAMESPACE_COOKIE = [1, 71] as const;
/** MSG_DONTWAIT */
const AT_ONCE = 0x40;
/** The subsystem of nftables (NFNL_SUBSYS_NFTABLES), in the upper byte of a message's type. */
const NFTABLES = 10;
const GET_GENERATION = (NFTABLES << 8) | 16;
const NEW_GENERATION = (NFTABLES << 8) | 15;
/** NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END */
const [BEGIN, END] = [16, 17];
/** NLM_F_REQUEST */
const REQUEST = 1;
/** bytes of nlmsghdr (length, type, flags, sequence, port) with nfgenmsg (family, version, resource) */
const HEADER = 20;
/** where the sequence stands, by which an answer is known */
const SEQUENCE = 8;
/** NFTA_GEN_ID */
const GENERATION = 1;

/** `resource` is the subsystem of a transaction, in the order of the network. */
function message(type: number, flags: number, asked: number, resource = 0): Uint8Array {
  const bytes = new Uint8Array(HEADER);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, HEADER, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(SEQUENCE, asked, true);
  view.setUint16(HEADER - 2, resource);
  return bytes;
}

/** A transaction without a change. */
const NOTHING_TO_DO = new Uint8Array([...message(BEGIN, REQUEST, 0, NFTABLES), ...message(END, REQUEST, 0, NFTABLES)]);

/** The number in the kernel's answer to the question of that sequence; undefined for any other message. Pure. */
export function generationIn(message: Uint8Array, asked: number): number | undefined {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  if (message.length < HEADER + 8 || view.getUint16(4, true) !== NEW_GENERATION) return undefined;
  if (view.getUint32(SEQUENCE, true) !== asked) return undefined;
  const [length, type] = [view.getUint16(HEADER, true), view.getUint16(HEADER + 2, true)];
  // The first of its attributes, in the order of the network.
  return type === GENERATION && length === 8 ? view.getUint32(HEADER + 4) : undefined;
}
