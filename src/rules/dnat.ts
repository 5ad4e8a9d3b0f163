// Where a DNAT rule sends packets. Pure.

import ipaddr from "ipaddr.js";

export interface Destination {
  address: string;
  /** The port; undefined: the packet's own. With `base` it is the one for that port of the packet, and the others follow. */
  port: number | undefined;
  base: number | undefined;
}

/**
 * Reads the value of --to-destination: `ADDRESS`, `ADDRESS:port`, `ADDRESS:first-last/base`; an IPv6 address with a port is in
 * brackets (iptables-extensions(8)). Undefined for any other text.
 */
export function readDestination(text: string): Destination | undefined {
  const parts = /^(?:\[([\da-f:]+)\]|([\d.]+))(?::(\d+)(?:-\d+(?:\/(\d+))?)?)?$/i.exec(text);
  // With a port after it, it would cost an exception to be found no IPv6 address.
  if (parts === null)
    return ipaddr.IPv6.isValid(text) ? { address: text, port: undefined, base: undefined } : undefined;
  const address = parts[1] ?? parts[2];
  if (address === undefined || !ipaddr.isValid(address)) return undefined;
  const [port, base] = [parts[3], parts[4]].map((part) => (part === undefined ? undefined : Number(part)));
  return { address, port, base };
}

/** The port to which a packet for `port` goes. */
export function portAt({ port, base }: Destination, asked: number): number {
  if (port === undefined) return asked;
  return base === undefined ? port : port + asked - base;
}
