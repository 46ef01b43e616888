import type { RefreshReport } from '../../../src/refresh/report.ts';

/** A report with everything in it. */
export const exampleReport: RefreshReport = {
  ...{ schema: 1, relive: '0.1.0', site: '/srv/lab', started: '2026-11-22T03:11:05.123Z', seconds: 83 },
  outcome: 'failed',
  mirrors: [
    {
      ...{ repository: 'debian', published: ['trixie'], files: 3, bytes: 1_500_000, removed: 1 },
      verified: { files: 812, findings: 0 },
    },
    {
      ...{ repository: 'local', published: undefined, files: 0, bytes: 0, removed: 0 },
      verified: { files: 2, findings: 1 },
    },
  ],
  profiles: [
    {
      ...{ profile: 'kiosk', outcome: 'failed', image: 'kiosk-20261101.01', since: 'kiosk-20261101.01' },
      ...{ gained: undefined, tests: [], seconds: 2 },
    },
    {
      ...{ profile: 'server', outcome: 'new', image: 'server-20261122.01', since: 'server-20261121.01' },
      gained: {
        ...{
          kind: 'incremental',
          bytes: 240e6,
          newBytes: 2.5e6,
          packages: 212,
          kernel: '6.12.57+deb13-amd64',
        },
        changes: [
          {
            name: 'openssl',
            architecture: 'amd64',
            kind: 'upgraded',
            from: '3.5.1-1',
            to: '3.5.1-1+deb13u1',
          },
          { name: 'less', architecture: 'amd64', kind: 'removed', from: '668-1', to: undefined },
          { name: 'most', architecture: 'amd64', kind: 'added', from: undefined, to: '5.2.0-1' },
        ],
      },
      tests: [
        { firmware: 'bios', seconds: 12 },
        { firmware: 'uefi', seconds: 14.2 },
      ],
      seconds: 61,
    },
    {
      ...{ profile: 'box', outcome: 'unchanged', image: 'box-20261120.01', since: 'box-20261120.01' },
      ...{ gained: undefined, tests: [], seconds: 1 },
    },
  ],
  media: [
    {
      ...{ medium: 'LAB', outcome: 'synced', target: '/dev/sdb', added: ['server-20261122.01'] },
      ...{ removed: [], copied: 2.5e6, free: 3e9 },
    },
    {
      ...{ medium: 'UUID=1111-2222', outcome: 'absent', target: undefined, added: [] },
      ...{ removed: [], copied: 0, free: undefined },
    },
  ],
  pruned: { images: ['server-20261001.01'], layers: 1, bytes: 9e6 },
  failures: [
    { what: 'mirror local', code: 'no-network', message: 'no route to it', hint: undefined },
    { what: 'profile kiosk', code: 'unsolvable', message: 'apt says:\nno', hint: 'look at it' },
  ],
};
