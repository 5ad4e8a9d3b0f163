/*
 * A host's podman: the real command inside the host, with names for what stories do with it. It needs no daemon; what a story
 * does with its service it starts as a unit.
 */

import { archiveInHost } from "./disk.ts";
import { type ContainerOptions, runWords } from "./docker.ts";
import { until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { serverImage } from "./image.ts";
import type { RunResult } from "./run.ts";
import { storyWith } from "./story.ts";
import { chosenSuite } from "./suites.ts";

/** What a host of podman's needs: podman recommends some of it only. catatonit is for pods. */
export const PODMAN_PACKAGES = ["podman", "netavark", "aardvark-dns", "catatonit", "crun", "nftables"] as const;

/** What a host of Debian 12 has not got, where the machine's own files are taken for one; Debian 13 has netavark 1.14. */
const LACKING = ["bookworm", undefined].includes(chosenSuite())
  ? "netavark 1.4 of Debian 12 cannot do without its firewall (tried)"
  : undefined;

export const canSwitchOff = LACKING === undefined;
export const podmanStory = storyWith({ packages: PODMAN_PACKAGES }, LACKING);

/** Where podman's settings are, which its package leaves to the administrator. */
export const CONTAINERS_CONF = "/etc/containers/containers.conf";

/**
 * Its settings: `driver` is netavark's firewall, and without one netavark chooses. The lab's cgroups have no controller for the
 * number of processes, and systemd's own way to make cgroups needs a message bus.
 */
export function containersConf(driver?: "none" | "nftables" | "iptables"): string {
  const network = driver === undefined ? "" : `[network]\nfirewall_driver = "${driver}"\n`;
  return `[containers]\npids_limit = 0\n[engine]\ncgroup_manager = "cgroupfs"\n${network}`;
}

export class Podman {
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  /** The podman command with these arguments. */
  cli(...args: string[]): Promise<RunResult> {
    return this.#host.run("podman", args);
  }

  /** Starts a container named `name` from the lab's image, in the background, and waits until it listens. */
  async run(name: string, options: Omit<ContainerOptions, "ports"> = {}): Promise<void> {
    await this.loadImage();
    await this.cli(...runWords(name, options));
    await this.#listening(name);
  }

  async restart(name: string): Promise<void> {
    await this.cli("restart", "--time=0", name);
    await this.#listening(name);
  }

  /** Waits until a container's server has its socket for port 80. */
  async #listening(name: string): Promise<void> {
    const { stdout } = await this.cli("inspect", "--format={{.State.Pid}}", name);
    const table = `/proc/${stdout.trim()}/net/tcp6`;
    await until(async () => (await this.#host.read(table)).includes(":0050 "));
  }

  /** A container's addresses, of both families where it has them. */
  async addresses(name: string): Promise<string[]> {
    const format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{end}}";
    return (await this.cli("inspect", `--format=${format}`, name)).stdout.trim().split(/\s+/);
  }

  /** Brings the lab's image into podman's store. */
  async loadImage(): Promise<void> {
    const { exitCode } = await this.#host.run("podman", ["image", "exists", serverImage], { check: false });
    if (exitCode === 0) return;
    await this.cli("import", '--change=ENTRYPOINT ["/server"]', '--change=CMD ["80"]', archiveInHost, serverImage);
  }
}
