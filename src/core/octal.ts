/**
 * Text whose spaces, backslashes and control characters stand as three octal digits behind a backslash, as
 * /proc/self/mounts (proc_pid_mounts(5)) and getfattr(1) write them.
 */
export function unescapeOctal(text: string): string {
  return text.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
