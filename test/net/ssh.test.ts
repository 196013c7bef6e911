/** ssh survives: OpenSSH's server behind mptcpize, its client through `subflow cat`, first Ethernet and then Wi-Fi cut. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { command } from '@subflow/link';
import { describeSystem } from '../interop/require-system.ts';
import { addressesOfPath, KernelWorld } from './kernel-world.ts';

const SUBFLOW = fileURLToPath(new URL('../../packages/cli/bin/subflow.mjs', import.meta.url));
const SSH_OPTIONS = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR', '-o', 'BatchMode=yes'];

/** Starts sshd under mptcpize; returns the arguments with which ssh reaches it. */
function startSshd(world: KernelWorld, directory: string): string[] {
  command('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, 'host')]);
  command('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, 'user')]);
  const key = command('cat', [join(directory, 'user.pub')]);
  writeFileSync(join(directory, 'authorized'), key, { mode: 0o600 });
  writeFileSync(
    join(directory, 'sshd_config'),
    [
      ...['Port 22', `HostKey ${directory}/host`, `AuthorizedKeysFile ${directory}/authorized`, 'StrictModes no', 'UsePAM no'],
      ...['PermitRootLogin yes', `PidFile ${directory}/pid`, 'PasswordAuthentication no', ''],
    ].join('\n'),
  );
  mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const sshd = world.start('server', 'mptcpize', ['run', '/usr/sbin/sshd', '-D', '-e', '-f', join(directory, 'sshd_config')]);
  sshd.stderr!.resume();
  return ['-i', join(directory, 'user'), ...SSH_OPTIONS];
}

interface MonitorLine {
  time: number;
  connections: { subflows: { facts: { interface: string | null; state: string } }[] }[];
  interfaces: { source: string; name: string; received: number; sent: number }[];
}

describeSystem('ssh through subflow cat', () => {
  it('goes on printing once a second while Ethernet and then Wi-Fi are cut', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'subflow-ssh-'));
    const world = new KernelWorld([
      { name: 'ethernet', link: { rate: 50e6, delay: 2_000 } },
      { name: 'wifi', link: { rate: 20e6, delay: 8_000 } },
      { name: 'cellular', link: { rate: 10e6, delay: 25_000 } },
    ]);
    try {
      const options = startSshd(world, directory);
      await new Promise((resolve) => setTimeout(resolve, 500));
      const monitorLines: MonitorLine[] = [];
      const monitor = world.start('client', process.execPath, [SUBFLOW, 'monitor', '--json', '--interval', '0.5']);
      createInterface({ input: monitor.stdout! }).on('line', (line) => monitorLines.push(JSON.parse(line) as MonitorLine));
      const ssh = world.start('client', 'ssh', [
        ...options,
        ...['-tt', '-o', `ProxyCommand=${process.execPath} ${SUBFLOW} cat %h %p`, `root@${addressesOfPath(0).server}`],
        'i=0; while [ $i -lt 16 ]; do i=$((i+1)); echo "tick $i"; sleep 1; done',
      ]);
      let errors = '';
      ssh.stderr!.on('data', (chunk: Buffer) => (errors += String(chunk)));
      const ticks: { number: number; at: number }[] = [];
      createInterface({ input: ssh.stdout! }).on('line', (line) => {
        const match = /^tick (\d+)/.exec(line);
        if (match === null) return;
        ticks.push({ number: Number(match[1]), at: performance.now() });
        if (match[1] === '4') world.paths[0]!.cut();
        if (match[1] === '9') world.paths[1]!.cut();
      });
      const code = await new Promise<number | null>((resolve) => ssh.once('exit', resolve));
      expect({ code, errors: errors.replace(/Connection to .* closed\.\s*/, '') }).toEqual({ code: 0, errors: '' });
      expect(ticks.map((one) => one.number)).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
      const gaps = ticks.slice(1).map((one, i) => one.at - ticks[i]!.at);
      const longest = Math.max(...gaps);
      process.stdout.write(`ssh: 16 lines, longest gap ${(longest / 1000).toFixed(2)} s; gaps ${gaps.map((gap) => (gap / 1000).toFixed(1)).join(' ')}\n`);
      expect(longest).toBeLessThan(5000);
      // The monitor saw three subflows at first, and traffic on cellular alone at the end.
      const most = Math.max(...monitorLines.flatMap((line) => line.connections.map((one) => one.subflows.length)));
      expect(most).toBe(3);
      const received = (name: string, from: number, to: number): number =>
        monitorLines
          .slice(from, to)
          .flatMap((line) => line.interfaces.filter((one) => one.source === 'kernel' && one.name === name))
          .reduce((sum, one) => sum + one.received, 0);
      expect(received('ethernet', 0, 6)).toBeGreaterThan(0);
      expect(received('cellular', -6, monitorLines.length)).toBeGreaterThan(0);
      expect(received('ethernet', -6, monitorLines.length)).toBe(0);
      expect(received('wifi', -6, monitorLines.length)).toBe(0);
    } finally {
      world.remove();
      rmSync(directory, { recursive: true, force: true });
    }
  }, 60_000);
});
