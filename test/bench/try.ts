import { startLab } from "../lab/lab.ts";
import { BARE, NATIVE, PACKAGES, startPlace } from "./place.ts";
import { measure } from "./measure.ts";
process.env["DOCKER_IPTABLES"] = NATIVE;
await using lab = await startLab({ packages: PACKAGES });
const { host, native } = await startPlace(lab);
await host.run("sh", ["-c", BARE]);
await host.run("docker_iptables", ["create", "web"]);
const c = (name: string, text: string) => ({ name, argv: ["sh", "-c", text], rounds: 40 });
const s = await measure(host, [
  c("floor", "docker inspect web > /dev/null; iptables-save > /dev/null"),
  c("side", "docker inspect web > /dev/null & iptables-save > /dev/null; wait"),
  c("inspect", "docker inspect web > /dev/null"),
  c("save", "iptables-save >/dev/null"),
  { name: "native", argv: ["docker_iptables", "create", "web"], rounds: 40, env: native.env },
  { name: "version", argv: ["docker_iptables", "--version"], rounds: 40, env: native.env },
]);
for (const [k, v] of s) console.log(k, (v.seconds * 1000).toFixed(1), v);
