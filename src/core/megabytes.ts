/** Bytes as whole megabytes (10^6) for a message, rounded up as what is needed must be: `12 MB`. */
export function megabytes(bytes: number): string {
  return `${Math.max(0, Math.ceil(bytes / 1e6))} MB`;
}
