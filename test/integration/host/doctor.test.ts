import { describe, expect, test } from 'vitest';
import { throughNobody } from '../../fixtures/nobody.ts';
import { cli, startProgram } from '../../support.ts';

interface Check {
  readonly name: string;
  readonly state: string;
  readonly needed: boolean;
}

/** `relive doctor --json` where `hidden` are not what they are: nothing of the host itself is changed. */
async function doctorWithout(hidden: readonly string[], prefix: readonly string[] = []) {
  const script = `for path in ${hidden.join(' ')}; do mount --bind /dev/null "$path" || exit 99; done; exec "$@"`;
  const command = [...prefix, process.execPath, cli, 'doctor', '--json'];
  const { status, stdout } = await startProgram('unshare', [
    ...['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'],
    ...command,
  ]).ended;
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const result = lines.at(-1) as { readonly ok: boolean; readonly install: string; readonly checks: Check[] };
  return {
    status,
    result,
    findings: lines.filter(({ event }) => event === 'finding'),
    check: (name: string) => result.checks.find((check) => check.name === name),
  };
}

test('a host on which these tests can run has all that is needed', async () => {
  const { status, result, findings, check } = await doctorWithout([]);
  expect({ findings, status }).toEqual({ findings: [], status: 0 });
  expect(result).toMatchObject({ ok: true, install: null });
  for (const name of ['namespaces', 'overlayfs', 'squashfs', 'debian-archive-keyring'])
    expect(check(name)).toMatchObject({ state: 'good', needed: true });
});

describe('what is missing', () => {
  test('of the needed is found, and one command installs it all', async () => {
    const { status, result, findings } = await doctorWithout(['/usr/bin/mksquashfs', '/usr/bin/xorriso']);
    expect(status).toBe(1);
    expect(findings).toContainEqual({
      event: 'finding',
      kind: 'missing',
      path: 'squashfs-tools',
      detail: 'without mksquashfs',
      hint: 'apt-get install squashfs-tools',
    });
    expect(findings.map(({ path }) => path)).toContain('xorriso');
    expect(result).toMatchObject({
      ok: false,
      install: 'apt-get install --no-install-recommends squashfs-tools xorriso',
    });
  });

  test('of the optional is listed only', async () => {
    const { status, findings, check } = await doctorWithout(['/usr/sbin/debootstrap']);
    expect({ status, findings }).toEqual({ status: 0, findings: [] });
    expect(check('debootstrap')).toMatchObject({ state: 'missing', needed: false });
  });

  test('a keyring without the keys of Debian 13 does not suit', async () => {
    const { status, findings } = await doctorWithout(['/usr/share/keyrings/debian-archive-keyring.gpg']);
    expect(status).toBe(1);
    expect(findings).toMatchObject([{ kind: 'unsuitable', path: 'debian-archive-keyring' }]);
  });
});

test('a host that gives no namespaces does not suit', async () => {
  // What a container lacks: without CAP_SYS_ADMIN nothing can be mounted.
  const { status, check } = await doctorWithout([], ['setpriv', '--bounding-set', '-sys_admin']);
  expect(status).toBe(1);
  for (const name of ['namespaces', 'overlayfs', 'squashfs']) expect(check(name)?.state).toBe('unsuitable');
});

test('an ordinary user is told to be root, and nothing is tried', async () => {
  const { status, check } = await doctorWithout([], throughNobody);
  expect(status).toBe(1);
  expect(check('root')).toMatchObject({ state: 'unsuitable' });
  expect(check('namespaces')).toBeUndefined();
  expect(check('overlayfs')).toMatchObject({ state: 'good', detail: 'in the kernel, not tried' });
});
