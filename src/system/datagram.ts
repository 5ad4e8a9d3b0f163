// Datagrams to a socket in the file system (unix(7)), which Node.js does not send; the native executable does.

import { libc } from "./libc.ts";

/** AF_UNIX; SOCK_DGRAM | SOCK_CLOEXEC */
const [UNIX, DATAGRAM] = [1, 2 | 0x80000];
/** MSG_DONTWAIT | MSG_NOSIGNAL */
const AT_ONCE = 0x40 | 0x4000;

/**
 * Whether whoever listens there has got it: it does not wait for one that is busy, and nothing longer than the socket's buffer (some 200
 * kB) is sent. Never throws.
 */
export async function sendDatagram(path: string, text: string): Promise<boolean> {
  const calls = await libc();
  const socket = calls?.socket(UNIX, DATAGRAM, 0) ?? -1;
  if (calls === undefined || socket < 0) return false;
  // sockaddr_un: the family, the path, a NUL
  const address = Buffer.concat([Uint8Array.of(UNIX, 0), Buffer.from(`${path}\0`)]);
  const bytes = Buffer.from(text);
  const isSent =
    calls.connect(socket, address, address.length) === 0 &&
    calls.send(socket, bytes, bytes.length, AT_ONCE) === bytes.length;
  calls.close(socket);
  return isSent;
}
