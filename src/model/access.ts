// Who besides root may change a fragment, in a sentence. Pure.

/** Whose a fragment or a directory is, and who may write it. */
export interface Access {
  path: string;
  uid: number;
  /** The permission bits. With an ACL the group's are its mask, the most that it grants anybody by name (acl(5)). */
  mode: number;
  /** What the path leads to, where it is a symbolic link; `uid` and `mode` are that file's, or those of its directory. */
  target?: string;
}

/** In a sentence, with what to do. */
export function warnOfAccess(access: Access): string {
  return `${describeAccess(access)}, and with it this host's rules: ${closingOf(access)}`;
}

/** Who may change it, in a clause. */
export function describeAccess({ path, uid, mode, target }: Access): string {
  const whose = `uid ${uid}, mode ${mode.toString(8).padStart(4, "0")}`;
  if (target === undefined) return `users other than root can change ${path} (${whose})`;
  return `users other than root can change or replace ${target} (${whose}), to which ${path} leads`;
}

/** The command after which only root may. */
export function closingOf({ path, target }: Access): string {
  const word = shellWord(path);
  if (target === undefined) return `'chown root:root ${word}; chmod go-w ${word}' fixes it`;
  return `'cp --remove-destination ${shellWord(target)} ${word}' fixes it`;
}

/** A path as a shell reads it: whoever may write the directory chooses the names in it. */
function shellWord(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
