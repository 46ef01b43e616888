import { Duplex } from 'node:stream';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { kvmLimit, probeSector } from '../../../src/vm/accel.ts';
import { firmwaresOf, type Machine, optionText, qemuArguments } from '../../../src/vm/qemu.ts';
import { LineCutter, Qmp } from '../../../src/vm/qmp.ts';
import { errorLike } from '../../fixtures/expecting.ts';

const machine: Machine = {
  architecture: 'amd64',
  firmware: 'bios',
  accelerator: 'tcg',
  memoryMib: 512,
  cpus: 2,
  network: 'none',
  medium: '/srv/a,b.iso',
  disks: [],
  attach: 'disk',
  scratchMedium: false,
  sectorSize: 512,
  endOnRestart: true,
  variables: undefined,
};
const joined = (changes: Partial<Machine>): string => qemuArguments({ ...machine, ...changes }).join(' ');

describe('the arguments of QEMU', () => {
  test('have a comma of a file name written twice', () => {
    expect(joined({})).toContain('file=/srv/a,,b.iso');
    expect(optionText('a,,b')).toBe('a,,,,b');
  });

  test('have no network unless it is asked for, and then no firmware that boots from it', () => {
    expect(joined({})).toContain('-nic none');
    expect(joined({})).not.toContain('netdev');
    expect(joined({ network: 'user' })).toContain('virtio-net-pci,netdev=net,romfile=');
  });

  test('have UEFI with variables of its own, or none', () => {
    expect(joined({})).not.toContain('pflash');
    const uefi = joined({ firmware: 'uefi', variables: '/proc/1/fd/9' });
    expect(uefi).toContain('if=pflash,unit=0,format=raw,readonly=on,');
    expect(uefi).toContain('if=pflash,unit=1,format=raw,file=/proc/1/fd/9');
  });

  test('have UEFI of 32 bits, which wants system management mode, though it checks nothing', () => {
    const uefi = joined({ firmware: 'uefi32', variables: '/proc/1/fd/9' });
    expect(uefi).toContain('-machine q35,smm=on');
    expect(uefi).toContain('readonly=on,file=/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd');
    expect(uefi).toContain('driver=cfi.pflash01,property=secure,value=on');
  });

  test('leave out cmpxchg16b where the processor is emulated', () => {
    expect(joined({})).toContain('-cpu qemu64,-cx16');
    expect(joined({ accelerator: 'kvm' })).toContain('-cpu host');
  });

  test('give ARM a machine without BIOS, whose first serial line its images know', () => {
    const arm64 = joined({ architecture: 'arm64', firmware: 'uefi', variables: '/proc/1/fd/9' });
    expect(arm64).toContain('-machine virt -cpu cortex-a57 -accel tcg');
    expect(arm64).toContain('file=/usr/share/AAVMF/AAVMF_CODE.fd');
    expect(joined({ architecture: 'armhf', firmware: 'uefi' })).toContain('AAVMF32_CODE.fd');
    expect(firmwaresOf('armhf')).toEqual(['uefi']);
  });

  test('have a medium that can be pulled out behind a port of its own', () => {
    expect(joined({ pullable: true })).toMatch(
      /-device pcie-root-port,id=medium-port,\S* -device virtio-blk-pci,drive=medium,bootindex=0,bus=medium-port,id=medium-device /,
    );
    expect(joined({})).not.toContain('pcie-root-port');
  });

  test('never let the guest write its medium', () => {
    for (const attach of ['disk', 'cd'] as const) {
      expect(joined({ attach })).toMatch(/if=none,id=medium,format=raw,readonly=on,/);
    }
    expect(joined({ scratchMedium: true })).toMatch(/if=none,id=medium,format=raw,snapshot=on,/);
  });

  test('have the sectors of the medium', () => {
    expect(joined({})).not.toContain('block_size');
    expect(joined({ sectorSize: 4096 })).toContain(
      'drive=medium,bootindex=0,logical_block_size=4096,physical_block_size=4096',
    );
  });

  test('have further disks behind the medium, which the guest may write', () => {
    const text = joined({ disks: ['/srv/mirror.img', '/srv/b,c.img'] });
    expect(text).toContain(
      'if=none,id=disk0,format=raw,file=/srv/mirror.img -device virtio-blk-pci,drive=disk0',
    );
    expect(text).toContain(
      'if=none,id=disk1,format=raw,file=/srv/b,,c.img -device virtio-blk-pci,drive=disk1',
    );
    expect(text.indexOf('drive=medium')).toBeLessThan(text.indexOf('drive=disk0'));
  });

  test('let it restart only where that is wanted', () => {
    expect(joined({})).toContain('-no-reboot');
    expect(joined({ endOnRestart: false })).not.toContain('-no-reboot');
  });
});

test('the boot sector of the tiny guest is one, and KVM has about as long as emulation', () => {
  const sector = probeSector();
  expect(sector).toHaveLength(512);
  expect([...sector.subarray(510)]).toEqual([0x55, 0xaa]);
  // Measured: 0.2 s emulated, 3.6 s on a host whose KVM is itself emulated.
  expect(kvmLimit(0.2)).toBeLessThan(3.6);
  expect(kvmLimit(0.2)).toBeGreaterThan(0.2);
});

/** The two ends of a socket: what is written to one is read from the other. */
function socketPair(): readonly [Duplex, Duplex] {
  const ends: Duplex[] = [0, 1].map(
    (index) =>
      new Duplex({
        read: () => undefined,
        write: (chunk: Buffer, _encoding, done) => {
          ends[1 - index]?.push(chunk);
          done();
        },
        final: (done) => {
          ends[1 - index]?.push(null);
          done();
        },
      }),
  );
  const [one, other] = ends;
  if (one === undefined || other === undefined) throw new TypeError('unreachable');
  return [one, other];
}

interface Command {
  readonly execute: string;
  readonly id: number;
}

/** A monitor, and what is done with each command that arrives at its other end. */
function monitor(answer: (command: Command, send: (text: string) => void) => void): {
  readonly qmp: Qmp;
  readonly qemu: Duplex;
} {
  const [ours, qemu] = socketPair();
  const cutter = new LineCutter();
  qemu.setEncoding('utf8').on('data', (text: string) => {
    for (const line of cutter.push(text)) answer(JSON.parse(line) as Command, (reply) => qemu.write(reply));
  });
  return { qmp: new Qmp(ours), qemu };
}

describe('the machine protocol', () => {
  test('lines are the same however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[a-z{}" ]{0,9}[a-z}]$/)),
        fc.integer({ min: 1, max: 20 }),
        (lines, size) => {
          const text = lines.map((line) => `${line}\r\n`).join('');
          const cutter = new LineCutter();
          const cut: string[] = [];
          for (let at = 0; at < text.length; at += size) cut.push(...cutter.push(text.slice(at, at + size)));
          expect(cut).toEqual(lines);
        },
      ),
    );
  });

  test('an endless line is refused', () => {
    const cutter = new LineCutter();
    expect(() => {
      for (let times = 0; times < 30; times += 1) cutter.push('x'.repeat(100_000));
    }).toThrow(expect.objectContaining({ code: 'guest-failed' }));
  });

  test('answers find their command among greeting, events and other answers', async () => {
    const waiting: Command[] = [];
    const { qmp, qemu } = monitor((command, send) => {
      waiting.push(command);
      if (waiting.length < 2) return;
      // The other way round, with an event in between, in two pieces.
      const [first, second] = waiting;
      const text = [
        `{"return": "second", "id": ${second?.id}}`,
        '{"event": "RESET", "timestamp": {}}',
        `{"return": "first", "id": ${first?.id}}`,
      ].join('\r\n');
      send(text.slice(0, 50));
      send(`${text.slice(50)}\r\n`);
    });
    const events: string[] = [];
    qmp.on('event', (name) => events.push(name));
    qemu.write('{"QMP": {"version": {}, "capabilities": []}}\r\n');
    const answers = await Promise.all([qmp.execute('query-name'), qmp.execute('query-status')]);
    expect(answers).toEqual(['first', 'second']);
    expect(events).toEqual(['RESET']);
  });

  test('a refusal is an error with the words of QEMU', async () => {
    const { qmp } = monitor(({ id }, send) => {
      send(`{"id": ${id}, "error": {"class": "GenericError", "desc": "no such disk"}}\n`);
    });
    await expect(qmp.screenshot('/x.png')).rejects.toMatchObject(
      errorLike('tool-failed', 'QEMU refused screendump: no such disk'),
    );
  });

  test('QEMU that goes away is an error for whoever waits, and for whoever asks later', async () => {
    const { qmp, qemu } = monitor(() => qemu.end());
    const asked = qmp.powerDown();
    await expect(asked).rejects.toMatchObject({ code: 'guest-failed' });
    await expect(qmp.powerDown()).rejects.toMatchObject({ code: 'guest-failed' });
    await expect(qmp.quit()).resolves.toBeUndefined();
  });

  test('what is no JSON breaks the connection', async () => {
    const { qmp } = monitor((_command, send) => send('<html>\n'));
    await expect(qmp.powerDown()).rejects.toMatchObject({ code: 'guest-failed' });
  });
});
