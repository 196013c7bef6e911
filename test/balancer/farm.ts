/** A world of namespaces with `subflow lb` in it, as a user runs it. */
import { spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BalancerWorld, SERVICE, SERVICE_PORT } from '@subflow/balancer/node';
import type { BenchClient, Report, WorldOptions } from '@subflow/balancer/node';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const CLI = join(ROOT, 'packages/cli/bin/subflow.mjs');

export interface Design {
  dataPlane: 'xdp' | 'nftables' | 'userspace';
  design: string;
  forwarding: 'dsr' | 'nat' | 'encapsulation';
}

export class Farm {
  readonly world: BalancerWorld;
  readonly directory = mkdtempSync(join(tmpdir(), 'subflow-lb-'));
  client!: BenchClient;
  private readonly stores: string;

  constructor(options: WorldOptions) {
    this.world = new BalancerWorld(options);
    this.stores = this.directory;
  }

  async begin(): Promise<void> {
    await this.world.startServers();
    this.client = await this.world.startClient();
  }

  /** What servers announce: as docs/lb.md has it. */
  announce(design: string): void {
    this.world.servers.forEach((_, i) =>
      this.world.announce(i, design === 'beamer' ? 'own-port' : design === 'direct-address' ? 'own-address' : 'nothing', 20_001 + i),
    );
  }

  /** A configuration for some of the servers. */
  config(name: string, design: Design, more: { servers?: number[]; health?: string; store?: string; lines?: string[]; address?: string } = {}): string {
    const servers = more.servers ?? this.world.servers.map((_, i) => i);
    const own = (i: number): string => (design.design === 'beamer' ? `, ownPort: ${20_001 + i}` : '');
    return [
      `name: ${name}`,
      `dataPlane: ${design.dataPlane}`,
      'interface: eth0',
      `store: ${more.store ?? `{ log: ${join(this.stores, `${name}.log`)} }`}`,
      ...(more.lines ?? []),
      'services:',
      '  - name: web',
      `    address: "${more.address ?? SERVICE}"`,
      `    port: ${SERVICE_PORT}`,
      `    design: ${design.design}`,
      `    forwarding: ${design.forwarding}`,
      `    health: ${more.health ?? '{ type: none }'}`,
      '    servers:',
      ...servers.map((i) => `      - { name: s${i + 1}, id: ${i + 1}, address: ${this.world.serverAddress(i)}${own(i)} }`),
      '',
    ].join('\n');
  }

  /** Starts a balancer; resolves when packets are forwarded. */
  async balancer(text: string, at = 0): Promise<RunningBalancer> {
    const file = join(this.directory, `lb-${at}-${Math.random().toString(36).slice(2)}.yaml`);
    writeFileSync(file, text);
    const where = this.world.balancers[at]!;
    const child = await this.world.start(where, CLI, ['lb', '--config', file, '--json']);
    return new RunningBalancer(child, file);
  }

  end(): void {
    this.world.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export class RunningBalancer {
  readonly child: ChildProcess;
  readonly file: string;
  output = '';
  errors = '';

  constructor(child: ChildProcess, file: string) {
    this.child = child;
    this.file = file;
    child.stdout!.on('data', (chunk: Buffer) => (this.output += String(chunk)));
    child.stderr!.on('data', (chunk: Buffer) => (this.errors += String(chunk)));
  }

  /** `subflow lb WORDS`, at this balancer. */
  say(...words: string[]): { status: number | null; stdout: string; stderr: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'lb', words[0]!, '--config', this.file, ...words.slice(1)], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    return { status, stdout, stderr };
  }

  status(): Report {
    const { stdout, stderr } = this.say('status', '--json');
    if (stdout === '') throw new Error(`no status: ${stderr} ${this.child.exitCode ?? ''} ${this.errors}`);
    return JSON.parse(stdout) as Report;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    // The child of nsenter is the program itself: it was exchanged for it.
    this.child.kill(signal);
    await ended;
  }
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
