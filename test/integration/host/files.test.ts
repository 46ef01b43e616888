import { expect, test } from 'vitest';
import { repository, startProgram, temporaryDirectory } from '../../support.ts';

/** Runs a shell script in a mount namespace of its own, with a tmpfs of 64 kB at $1. */
async function onTinyDisk(script: string) {
  const directory = temporaryDirectory();
  const mount = 'mount -t tmpfs -o size=64k tmpfs "$1" && cd "$1" && ';
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', mount + script, 'sh', directory];
  return await startProgram('unshare', args).ended;
}

const write = (path: string, bytes: number): string => `'${process.execPath}' --input-type=module --eval '
  import { writeFileAtomic } from "${repository}/build/modules/host/files.js";
  try {
    await writeFileAtomic("${path}", "B".repeat(${bytes}));
    console.log("written");
  } catch (error) {
    console.log(error.code, error.message);
  }'`;

test('a full disk is told, the old file is there, nothing is left', async () => {
  const script = `printf AAAA > file && ${write('file', 1_000_000)}; cat file; echo; ls -A`;
  const { stdout, stderr } = await onTinyDisk(script);
  expect({ stdout, stderr }).toEqual({
    stdout: 'disk-full no space left while writing file\nAAAA\nfile\n',
    stderr: '',
  });
});

test('a disk without room for a directory is full, too', async () => {
  const { stdout } = await onTinyDisk(
    `dd if=/dev/zero of=fill bs=1k 2>/dev/null; for n in $(seq 100); do mkdir d$n 2>/dev/null; done; ${write('new/file', 10)}`,
  );
  expect(stdout).toContain('disk-full no space left while writing new/file');
});

test('a program that fills the disk fails with disk-full', async () => {
  const { stdout } = await onTinyDisk(`'${process.execPath}' --input-type=module --eval '
    import { run } from "${repository}/build/modules/host/process.js";
    try {
      await run("dd", ["if=/dev/zero", "of=fill"], { signal: new AbortController().signal });
    } catch (error) {
      console.log(error.code, error.message.split("\\n")[0]);
    }'`);
  expect(stdout).toBe('disk-full dd ended with status 1\n');
});
