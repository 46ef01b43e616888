/** What a command line may be long (execve(2) takes 128 KiB of one argument, and far more in all). */
const longestCommand = 100_000;

/** A program to run, with its arguments, and what it is to read. */
interface Call {
  readonly program: string;
  readonly args: readonly string[];
  readonly input?: Buffer;
}

/**
 * How a program is run for these paths, which are bytes: by itself where they are few and text, else by xargs(1), in as few
 * calls as may be; xargs has status 123 where the program has another than 0.
 * @param args its arguments, before the paths
 */
export function callWithPaths(program: string, args: readonly string[], paths: readonly Buffer[]): Call {
  const input = Buffer.concat(paths.flatMap((path) => [path, Buffer.of(0)]));
  if (input.length < longestCommand && input.every((byte) => byte < 0x80)) {
    return { program, args: [...args, '--', ...paths.map(String)] };
  }
  const how = ['--null', '--no-run-if-empty', '--max-chars', '1000000'];
  return { program: 'xargs', args: [...how, program, ...args, '--'], input };
}
