// Loaded into the executable by NODE_OPTIONS: the host has Docker's default bridge, docker0 with 172.17.0.1/16, whatever the
// machine has.

const files = require("node:fs/promises");
const os = require("node:os");

const LOOPBACK = { address: "127.0.0.1", cidr: "127.0.0.1/8", family: "IPv4" };
const BRIDGE = { address: "172.17.0.1", cidr: "172.17.0.1/16", family: "IPv4" };
const TEXTS = {
  "/proc/net/dev": "\n\n    lo: 0 0\ndocker0: 0 0\n",
  "/proc/net/route": `Iface Destination Gateway Flags RefCnt Use Metric Mask
docker0 ${os.endianness() === "LE" ? "000011AC" : "AC110000"} 00000000 0001 0 0 0 ${os.endianness() === "LE" ? "0000FFFF" : "FFFF0000"}
`,
  "/proc/net/ipv6_route": "",
};

os.networkInterfaces = () => ({ lo: [LOOPBACK], docker0: [BRIDGE] });
const { readFile } = files;
files.readFile = async (path, ...rest) => TEXTS[path] ?? readFile(path, ...rest);
