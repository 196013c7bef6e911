/** The test bench for the kernel: network namespaces with TUN or veth links, cleaned up whatever happens. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LinkError } from './errors.ts';
import { inNetworkNamespace } from './system.ts';

/** Every namespace we make carries this prefix and the maker's process id: a later start finds what a killed one left. */
const PREFIX = 'subflow-';
const STATE_DIRECTORY = '/run/subflow';

const live = new Set<Namespace>();
let hooked = false;

/** Runs a program and returns its output. Throws {@link LinkError} `COMMAND_FAILED` or `PROGRAM_MISSING`. */
export function command(program: string, args: readonly string[], input?: string): string {
  const result = spawnSync(program, args, { encoding: 'utf8', input, timeout: 20_000 });
  if (result.error !== undefined) {
    const missing = (result.error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new LinkError(missing ? 'PROGRAM_MISSING' : 'COMMAND_FAILED', `${program}: ${result.error.message}`, { cause: result.error });
  }
  if (result.status !== 0) throw new LinkError('COMMAND_FAILED', `${program} ${args.join(' ')}: ${result.stderr.trim() || `exit code ${result.status}`}`);
  return result.stdout;
}

/** A network namespace of ours. */
export class Namespace {
  readonly name: string;
  private readonly children = new Set<ChildProcess>();

  constructor(label: string) {
    hookCleanup();
    this.name = `${PREFIX}${process.pid}-${label}`;
    mkdirSync(STATE_DIRECTORY, { recursive: true });
    writeFileSync(join(STATE_DIRECTORY, this.name), startTime(process.pid) ?? '');
    command('ip', ['netns', 'add', this.name]);
    live.add(this);
    this.ip('link', 'set', 'lo', 'up');
  }

  /** `ip -n NAME …`. */
  ip(...args: string[]): string {
    return command('ip', ['-n', this.name, ...args]);
  }

  /** Runs a program inside, to its end. */
  run(program: string, ...args: string[]): string {
    return command('ip', ['netns', 'exec', this.name, program, ...args]);
  }

  /** Starts a program inside; it is killed with the namespace. */
  start(program: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.name, program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** Runs what is synchronous with this thread inside: sockets and links that it opens belong here. */
  inside<T>(work: () => T): T {
    return inNetworkNamespace(`/run/netns/${this.name}`, work);
  }

  sysctl(key: string, value: string | number): void {
    this.run('sysctl', '-q', '-w', `${key}=${value}`);
  }

  /** Takes a device (a TUN of ours) in, with an address such as `192.0.2.2/24`, and sets it up. */
  adopt(device: string, ...addresses: string[]): void {
    command('ip', ['link', 'set', device, 'netns', this.name]);
    for (const address of addresses) this.ip('address', 'add', address, 'dev', device, ...(address.includes(':') ? ['nodad'] : []));
    this.ip('link', 'set', device, 'up');
  }

  /** Sets how many subflows and announced addresses the kernel allows per connection. */
  mptcpLimits(subflows: number, accepted: number): void {
    this.run('ip', 'mptcp', 'limits', 'set', 'subflows', String(subflows), 'add_addr_accepted', String(accepted));
  }

  /** Adds a path-manager endpoint: `subflow`, `signal`, `backup`, `fullmesh`. */
  mptcpEndpoint(address: string, device: string | null, ...flags: string[]): void {
    this.run('ip', 'mptcp', 'endpoint', 'add', address, ...(device === null ? [] : ['dev', device]), ...flags);
  }

  /** A counter of `nstat`, for example `MPTcpExtMPJoinSynRx`. */
  counters(): Map<string, number> {
    const out = new Map<string, number>();
    for (const line of this.run('nstat', '-a', '-s', '-z').split('\n')) {
      const [name, value] = line.trim().split(/\s+/);
      if (name !== undefined && value !== undefined && !name.startsWith('#')) out.set(name, Number(value));
    }
    return out;
  }

  /** Kills what runs inside and removes the namespace. */
  remove(): void {
    for (const child of this.children) child.kill('SIGKILL');
    removeNamespace(this.name);
    live.delete(this);
  }
}

/** A veth pair between two namespaces. */
export function vethPair(a: Namespace, deviceA: string, addressA: string, b: Namespace, deviceB: string, addressB: string): void {
  command('ip', ['link', 'add', deviceA, 'netns', a.name, 'type', 'veth', 'peer', 'name', deviceB, 'netns', b.name]);
  a.ip('address', 'add', addressA, 'dev', deviceA);
  b.ip('address', 'add', addressB, 'dev', deviceB);
  a.ip('link', 'set', deviceA, 'up');
  b.ip('link', 'set', deviceB, 'up');
}

/** Removes everything we made in this process. */
export function cleanUp(): void {
  for (const namespace of [...live]) namespace.remove();
}

/** Removes what killed processes left behind. Returns the names. */
export function removeLeftovers(): string[] {
  if (!existsSync(STATE_DIRECTORY)) return [];
  const removed: string[] = [];
  for (const name of readdirSync(STATE_DIRECTORY)) {
    const match = /^subflow-(\d+)-/.exec(name);
    if (match === null) continue;
    const pid = Number(match[1]);
    // The same number may belong to another process by now: the start time tells.
    if (pid === process.pid || (startTime(pid) !== null && startTime(pid) === readFileSync(join(STATE_DIRECTORY, name), 'utf8'))) continue;
    removeNamespace(name);
    removed.push(name);
  }
  return removed;
}

function removeNamespace(name: string): void {
  const pids = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
  for (const pid of (pids.stdout ?? '').split('\n').map(Number)) {
    if (pid > 1 && pid !== process.pid) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
  }
  spawnSync('ip', ['netns', 'delete', name]);
  rmSync(join(STATE_DIRECTORY, name), { force: true });
}

/** Start time of a process in clock ticks (field 22 of /proc/PID/stat); null when there is none. */
function startTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

function hookCleanup(): void {
  if (hooked) return;
  hooked = true;
  process.once('exit', cleanUp);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      cleanUp();
      process.exit(128 + (signal === 'SIGINT' ? 2 : signal === 'SIGTERM' ? 15 : 1));
    });
  }
}
