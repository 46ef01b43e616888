import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { authorizationFor, hostCredentials, parseNetrc } from '../../../src/host/credentials.ts';

function entry(user: string): string {
  return `machine example.org login ${user} password p\n`;
}

/** User and password that are sent to an address, or undefined. */
function sent(text: string, url: string): string | undefined {
  const value = authorizationFor(parseNetrc(text), new URL(url));
  return value === undefined ? undefined : Buffer.from(value.replace('Basic ', ''), 'base64').toString();
}

describe('an entry', () => {
  test.each([
    ['machine example.org login u password p', 'https://example.org/x', 'u:p'],
    // apt_auth.conf(5): without a scheme it is for https only.
    ['machine example.org login u password p', 'http://example.org/x', undefined],
    ['machine http://example.org login u password p', 'http://example.org/x', 'u:p'],
    ['machine http://example.org login u password p', 'https://example.org/x', undefined],
    ['machine example.org login u password p', 'https://other.example.org/x', undefined],
    ['machine example.org login u password p', 'https://example.org.evil.net/x', undefined],
    ['machine example.org:8443 login u password p', 'https://example.org:8443/x', 'u:p'],
    ['machine example.org:8443 login u password p', 'https://example.org/x', undefined],
    ['machine example.org login u password p', 'https://example.org:8443/x', 'u:p'],
    ['machine example.org/debian login u password p', 'https://example.org/debian/dists', 'u:p'],
    ['machine example.org/debian/ login u password p', 'https://example.org/debian/dists', 'u:p'],
    ['machine example.org/debian login u password p', 'https://example.org/debian-security', undefined],
    ['machine EXAMPLE.org login u password p', 'https://example.org/', 'u:p'],
    ['machine example.org\n  login u\n  password p', 'https://example.org/', 'u:p'],
    [
      '# machine example.org login x password y\nmachine example.org password p login u',
      'https://example.org/',
      'u:p',
    ],
    [
      'machine example.org login first password p machine example.org login second password p',
      'https://example.org/',
      'first:p',
    ],
    ['machine example.org login u', 'https://example.org/', undefined],
  ])('%j sends %s %s', (text, url, expected) => {
    expect(sent(text, url)).toBe(expected);
  });
});

describe("this machine's files", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'relive-test-credentials-'));
    vi.stubEnv('NETRC', join(directory, 'netrc'));
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(directory, { recursive: true, force: true });
  });

  test('are auth.conf, auth.conf.d in order, then netrc', () => {
    mkdirSync(join(directory, 'auth.conf.d'));
    writeFileSync(join(directory, 'netrc'), entry('netrc'));
    writeFileSync(join(directory, 'auth.conf.d/20.conf'), entry('twenty'));
    writeFileSync(join(directory, 'auth.conf.d/10-vendor'), entry('ten'));
    writeFileSync(join(directory, 'auth.conf.d/30.conf.bak'), entry('ignored'));
    writeFileSync(join(directory, 'auth.conf'), entry('conf'));
    chmodSync(join(directory, 'auth.conf'), 0o600);
    expect(hostCredentials(directory).map(({ login }) => login)).toEqual(['conf', 'ten', 'twenty', 'netrc']);
  });

  test('need not be there', () => {
    expect(hostCredentials(directory)).toEqual([]);
  });
});
