import { story } from "./story.ts";

story("scratch", async ({ lab }) => {
  const host = await lab.host({ name: "bare" });
  const client = await lab.client("laptop");
  const sh = async (script: string) => {
    const r = await host.run("sh", ["-c", script], { check: false });
    console.log(script, "\n", r.stdout, r.stderr, r.exitCode);
  };
  await sh("docker_iptables setup");
  await sh(
    "systemd-run --unit=w --property=Type=notify --property=NotifyAccess=all --property=WatchdogSec=10 docker_iptables watch --reload restore",
  );
  await host.docker.run("web", { publish: ["8080:80"] });
  const start = Date.now();
  while (!((await client.connect(host.address, 8080, { timeoutMs: 100 })) as any).peer?.startsWith("198"));
  console.log("reachable after", Date.now() - start);
  for (let i = 0; i < 5; i++) {
    const t = Date.now();
    await host.run("docker", ["run", "-d", "--name", `c${i}`, "-p", `900${i}:80`, "lab/server", "80"]);
    const t2 = Date.now();
    while (!((await client.connect(host.address, 9000 + i, { timeoutMs: 100 })) as any).peer?.startsWith("198"))
      await new Promise((r) => setTimeout(r, 5));
    console.log("docker run", t2 - t, "reachable after", Date.now() - t2);
  }
  await host.docker.cli("rm", "-f", "c0");
  await host.docker.cli("network", "create", "app");
  await new Promise((r) => setTimeout(r, 1500));
  await sh("journalctl -u w -o cat; ls /etc/iptables.d; systemctl status w | head; ps -o rss,cmd -C node");
  await sh("journalctl -t docker_iptables -o verbose | tail -40");
  await sh("systemctl stop w; journalctl -u w -o cat | tail -5; systemctl show w -p Result,ExecMainStatus");
});
