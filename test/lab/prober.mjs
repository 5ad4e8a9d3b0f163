/*
 * Runs inside one network namespace for as long as the lab does, and tries connections on request: one JSON
 * object a line on standard input (see Probe in probe.ts), one a line back. Ends with its standard input. Time in which this process
 * stands still is nobody's delay: it counts as two ticks at most.
 */

import dgram from "node:dgram";
import net from "node:net";
import { createInterface } from "node:readline";

const whyByCode = {
  ECONNREFUSED: "refused",
  ECONNRESET: "reset",
  EHOSTUNREACH: "unreachable",
  ENETUNREACH: "unreachable",
  EADDRNOTAVAIL: "unreachable",
};

const TICK_MS = 50;
let awakeMs = 0;
let lastTick = performance.now();
/** Those that wait, with the moment of the awake time at which they give up. */
const waiting = new Map();
setInterval(() => {
  const now = performance.now();
  awakeMs += Math.min(now - lastTick, 2 * TICK_MS);
  lastTick = now;
  for (const [giveUp, at] of waiting) if (awakeMs >= at) giveUp();
}, TICK_MS).unref();

createInterface({ input: process.stdin }).on("line", (line) => {
  const probe = JSON.parse(line);
  const attempt = probe.protocol === "udp" ? tryDatagram : tryConnection;
  let answered = false;
  const answer = (result) => {
    if (answered) return;
    answered = true;
    waiting.delete(giveUp);
    end();
    process.stdout.write(`${JSON.stringify({ id: probe.id, ...result })}\n`);
  };
  const fail = (why) => answer({ reached: false, why });
  const giveUp = () => fail("timeout");
  waiting.set(giveUp, awakeMs + probe.timeoutMs);
  const end = attempt(probe, {
    line: (text) => {
      const [peer, , server, port] = text.trim().split(" ");
      answer({ reached: true, peer, server, port: Number(port) });
    },
    error: (error) => fail(whyByCode[error.code] ?? error.code ?? error.message),
    closed: () => fail("closed"),
  });
});

function tryConnection({ address, port, sourcePort, sourceAddress }, on) {
  const socket = net.connect({
    host: address,
    port,
    ...(sourcePort === undefined ? {} : { localPort: sourcePort }),
    ...(sourceAddress === undefined ? {} : { localAddress: sourceAddress }),
  });
  let text = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk) => {
    text += chunk;
    if (text.includes("\n")) on.line(text);
  });
  socket.on("error", on.error);
  socket.on("end", on.closed);
  return () => socket.destroy();
}

function tryDatagram({ address, port, sourcePort, sourceAddress }, on) {
  const socket = dgram.createSocket(net.isIPv6(address) ? "udp6" : "udp4");
  let open = true;
  socket.on("error", on.error);
  socket.on("message", (message) => on.line(message.toString()));
  const send = () => open && socket.send("?\n", (error) => error && on.error(error));
  // A datagram may get lost, on a machine that has much to do, as TCP's first packet may, which is sent again, too.
  let again;
  socket.on("connect", () => {
    send();
    again = setInterval(send, 700);
  });
  socket.bind({ port: sourcePort ?? 0, ...(sourceAddress === undefined ? {} : { address: sourceAddress }) }, () => {
    if (open) socket.connect(port, address, (error) => error && on.error(error));
  });
  return () => {
    clearInterval(again);
    if (open) socket.close();
    open = false;
  };
}
