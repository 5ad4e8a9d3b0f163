/*
 * Runs inside one network namespace and keeps one flow: `flow.mjs PROTOCOL ADDRESS PORT SOURCE-PORT`, 0 for any. What comes on standard input is sent, line by
 * line; a line is printed for each line that comes back. Ends with its standard input.
 */

import dgram from "node:dgram";
import net from "node:net";
import { createInterface } from "node:readline";

const [, , protocol, address, port, sourcePort] = process.argv;
const heard = (data) => process.stdout.write("heard\n".repeat(data.toString().split("\n").length - 1));
const send = protocol === "udp" ? datagrams() : connection();
createInterface({ input: process.stdin })
  .on("line", send)
  .on("close", () => process.exit());

function connection() {
  const socket = net.connect({ host: address, port: Number(port), localPort: Number(sourcePort), noDelay: true });
  socket.on("data", heard);
  socket.on("error", () => {});
  return (line) => socket.write(`${line}\n`);
}

function datagrams() {
  const socket = dgram.createSocket(net.isIPv6(address) ? "udp6" : "udp4");
  const connected = new Promise((done) =>
    socket.bind(Number(sourcePort), () => socket.connect(Number(port), address, done)),
  );
  socket.on("message", heard);
  socket.on("error", () => {});
  return (line) => connected.then(() => socket.send(`${line}\n`, () => {}));
}
