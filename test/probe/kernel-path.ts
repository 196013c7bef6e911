/** Kernel hosts at both ends of a path of kernel routers, all in namespaces of ours. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { Namespace, vethPair } from '@subflow/link';

let serial = 0;

export class KernelPathWorld {
  readonly client: Namespace;
  readonly routers: readonly Namespace[];
  readonly server: Namespace;
  readonly clientAddress = '192.0.2.1';
  readonly serverAddress: string;
  readonly serverAddress6: string;
  private readonly children = new Set<ChildProcess>();

  constructor(routers: number) {
    const id = serial++;
    this.client = new Namespace(`pc${id}`);
    this.routers = Array.from({ length: routers }, (_, i) => new Namespace(`pr${id}${i}`));
    this.server = new Namespace(`ps${id}`);
    const all = [this.client, ...this.routers, this.server];
    all.slice(0, -1).forEach((left, i) => {
      const right = all[i + 1]!;
      vethPair(left, `r${i}`, `192.0.2.${4 * i + 1}/30`, right, `l${i}`, `192.0.2.${4 * i + 2}/30`);
      left.ip('address', 'add', `2001:db8:${i}::1/64`, 'dev', `r${i}`, 'nodad');
      right.ip('address', 'add', `2001:db8:${i}::2/64`, 'dev', `l${i}`, 'nodad');
    });
    all.forEach((namespace, i) => {
      if (i < all.length - 1) {
        for (let j = i + 1; j < all.length - 1; j++) {
          namespace.ip('route', 'add', `192.0.2.${4 * j}/30`, 'via', `192.0.2.${4 * i + 2}`);
          namespace.ip('-6', 'route', 'add', `2001:db8:${j}::/64`, 'via', `2001:db8:${i}::2`);
        }
      }
      if (i > 0) {
        for (let j = 0; j < i - 1; j++) {
          namespace.ip('route', 'add', `192.0.2.${4 * j}/30`, 'via', `192.0.2.${4 * (i - 1) + 1}`);
          namespace.ip('-6', 'route', 'add', `2001:db8:${j}::/64`, 'via', `2001:db8:${i - 1}::1`);
        }
      }
      namespace.sysctl('net.ipv4.ip_forward', 1);
      namespace.sysctl('net.ipv6.conf.all.forwarding', 1);
      // Routers answer every probe: what limits do is tested in the emulator.
      namespace.sysctl('net.ipv4.icmp_ratelimit', 0);
      namespace.sysctl('net.ipv6.icmp.ratelimit', 0);
    });
    this.server.sysctl('net.ipv4.tcp_congestion_control', 'reno');
    this.server.mptcpLimits(4, 4);
    const last = all.length - 2;
    this.serverAddress = `192.0.2.${4 * last + 2}`;
    this.serverAddress6 = `2001:db8:${last}::2`;
  }

  start(where: Namespace, program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', where.name, program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** Starts a program and waits for its first line. */
  async startAndWait(where: Namespace, program: string, args: readonly string[]): Promise<ChildProcess> {
    const child = this.start(where, program, args);
    let errors = '';
    child.stderr!.on('data', (chunk: Buffer) => (errors += String(chunk)));
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${program} ${args.join(' ')} said nothing: ${errors}`)), 20_000);
      child.stdout!.once('data', () => {
        clearTimeout(timer);
        resolve();
      });
      child.once('exit', (code) => {
        clearTimeout(timer);
        reject(new Error(`${program} ended with ${code}: ${errors}`));
      });
    });
    return child;
  }

  async run(where: Namespace, program: string, args: readonly string[], timeout = 120_000): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = this.start(where, program, args);
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (chunk: Buffer) => (stdout += String(chunk)));
    child.stderr!.on('data', (chunk: Buffer) => (stderr += String(chunk)));
    const timer = setTimeout(() => child.kill('SIGKILL'), timeout);
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    clearTimeout(timer);
    return { code, stdout, stderr };
  }

  remove(): void {
    for (const child of this.children) child.kill('SIGKILL');
    for (const one of [this.client, ...this.routers, this.server]) one.remove();
  }
}
