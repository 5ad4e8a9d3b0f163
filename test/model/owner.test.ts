// Whose a fragment is: by its file, and by the comment of its rules.

import { expect, test } from "vitest";
import {
  containerOf,
  containerOwner,
  fileOf,
  HOST_FILES,
  hostOwner,
  isHostFile,
  ownerOfFile,
  readOwner,
  spellOwner,
} from "../../src/model/owner.ts";

test.each([containerOwner("web"), containerOwner("10_docker"), ...HOST_FILES.map(hostOwner)])(
  "an owner is told by its file and by its word: %o",
  (owner) => {
    expect(ownerOfFile(`/etc/iptables.d/${fileOf(owner)}`)).toEqual(owner);
    expect(readOwner(spellOwner(owner))).toEqual(owner);
  },
);

test("no container is called as the host's own rules are", () => {
  expect(spellOwner(hostOwner("10_docker"))).toBe("(10_docker)");
  expect(spellOwner(containerOwner("10_docker"))).toBe("10_docker");
});

test("a foreign file has no owner", () => {
  for (const path of ["/x/50_mine", "/x/11-docker-container", "/11-docker-container_web/50_mine", "/x/10_docker.bak"]) {
    expect(ownerOfFile(path)).toBeUndefined();
    expect(containerOf(path)).toBeUndefined();
    expect(isHostFile({ path })).toBe(false);
  }
});
