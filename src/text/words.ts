// Rules in words: some of them, and to whom they seem to belong. Pure.

/** Some of many, in words. */
export function someOf(rules: readonly string[]): string {
  const shown = rules.slice(0, 3).map((rule) => `'${rule}'`);
  return `${shown.join(", ")}${rules.length > 3 ? ` and ${rules.length - 3} more` : ""}`;
}

/** Programs that make their rules again at each start, by the names of their chains. */
const OWNERS: readonly [RegExp, string][] = [
  [/ ufw6?-/, "ufw"],
  [/ f2b-/, "fail2ban"],
  [/ LIBVIRT_/, "libvirt"],
  [/ NETAVARK[-_]/, "podman"],
  [/ KUBE-/, "Kubernetes"],
  [/ (FWDI|FWDO|INPUT_direct|FORWARD_direct)/, "firewalld"],
];

/** The programs to which these rules seem to belong. */
export function ownersOf(rules: readonly string[]): string[] {
  return OWNERS.filter(([pattern]) => rules.some((rule) => pattern.test(rule))).map(([, name]) => name);
}
