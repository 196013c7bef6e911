/** Stores and what is built on them: compare-and-set, watching, leases; a log that survives crashes; garbage on the wire. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Lease, LogStore, RemoteStore, serveStore, StoreError } from '@subflow/balancer/node';
import type { Entry, Store } from '@subflow/balancer/node';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (entry: Entry | null): string | null => (entry === null ? null : new TextDecoder().decode(entry.value));
const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error('not in ten seconds');
    await pause(10);
  }
}

let directory: string;
let file: string;
const open: { close(): unknown }[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'subflow-store-'));
  file = join(directory, 'lb.log');
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  rmSync(directory, { recursive: true, force: true });
});

const keep = <T extends { close(): unknown }>(one: T): T => {
  open.push(one);
  return one;
};

async function served(token: string | null): Promise<{ store: LogStore; server: Server; remote: RemoteStore; port: number }> {
  const store = keep(new LogStore(file));
  const server = keep(await serveStore(store, '127.0.0.1', 0, token));
  const { port } = server.address() as AddressInfo;
  return { store, server, port, remote: keep(new RemoteStore('127.0.0.1', port, token)) };
}

describe.each(['log', 'remote'] as const)('%s', (kind) => {
  const make = async (): Promise<Store> => (kind === 'log' ? keep(new LogStore(file)) : (await served('secret')).remote);

  it('reads what was written, and nothing before', async () => {
    const store = await make();
    expect(await store.read('a')).toBeNull();
    const revision = await store.write('a', bytes('one'), 0);
    expect(text(await store.read('a'))).toBe('one');
    expect(await store.write('a', bytes('two'), revision)).toBeGreaterThan(revision);
  });

  it('lets one of two writers win', async () => {
    const store = await make();
    const revision = await store.write('a', bytes('one'), 0);
    const results = await Promise.allSettled(['x', 'y'].map((one) => store.write('a', bytes(one), revision)));
    expect(results.map((one) => one.status).toSorted()).toEqual(['fulfilled', 'rejected']);
    await expect(store.write('a', bytes('z'), 0)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('tells watchers of the latest, from where they are', async () => {
    const store = await make();
    const first = await store.write('a', bytes('one'), 0);
    const seen: string[] = [];
    const stop = store.watch('a', first, (entry) => seen.push(text(entry)!));
    await pause(50);
    const second = await store.write('a', bytes('two'), first);
    await store.write('b', bytes('other'), 0);
    await pause(50);
    stop();
    await store.write('a', bytes('three'), second);
    await pause(50);
    expect(seen).toEqual(['two']);
  });

  it('gives a lease to one at a time, and to another when it is not renewed', async () => {
    const store = await make();
    const leases = ['x', 'y', 'z'].map((holder) => new Lease(store, 'leader', holder, 1000));
    await until(() => leases.some((one) => one.held));
    expect(leases.filter((one) => one.held)).toHaveLength(1);
    const held = leases.find((one) => one.held)!;
    await held.release();
    await until(() => leases.some((one) => one.held && one !== held));
    expect(leases.filter((one) => one.held)).toHaveLength(1);
    for (const one of leases) await one.release();
  });
});

describe('the log', () => {
  const filled = async (count: number): Promise<void> => {
    const store = new LogStore(file);
    let revision = 0;
    for (let i = 0; i < count; i++) revision = await store.write('a', bytes(`value ${i}`), revision);
    await store.close();
  };

  it('is there again after a crash, whatever the last line looks like', async () => {
    await filled(5);
    const whole = statSync(file).size;
    const last = readFileSync(file, 'utf8').trimEnd().split('\n').at(-1)!.length;
    for (const missing of [1, 2, last - 1]) {
      await filled(0);
      truncateSync(file, whole - missing);
      const store = new LogStore(file);
      expect(text(await store.read('a'))).toBe(missing === 1 ? 'value 4' : 'value 3');
      const entry = await store.read('a');
      // It goes on from there, and what it writes can be read.
      await store.write('a', bytes('value 4'), entry!.revision);
      await store.close();
      expect(text(await new LogStore(file).read('a'))).toBe('value 4');
      rmSync(file);
      await filled(5);
    }
  });

  it('says what is wrong with a line that no crash has broken', async () => {
    await filled(3);
    const lines = readFileSync(file, 'utf8').split('\n');
    lines[1] = lines[1]!.replace('a', 'b');
    writeFileSync(file, lines.join('\n'));
    expect(() => new LogStore(file)).toThrow(
      expect.objectContaining({ code: 'BAD_LOG', message: expect.stringContaining(':2: a broken line') as string }) as Error,
    );
  });

  it('ignores what was appended by nobody', async () => {
    await filled(2);
    appendFileSync(file, 'gar');
    expect(text(await keep(new LogStore(file)).read('a'))).toBe('value 1');
  });

  it('stays where its link leads when it is cut back, and is only ever a file', async () => {
    const far = join(directory, 'far.log');
    writeFileSync(far, '');
    chmodSync(far, 0o640);
    symlinkSync('far.log', file);
    await filled(300);
    expect([readlinkSync(file), statSync(far).mode & 0o777]).toEqual(['far.log', 0o640]);
    expect(readFileSync(far, 'utf8').split('\n').length).toBeLessThan(60);
    expect(readdirSync(directory).sort()).toEqual(['far.log', 'lb.log']);
    execFileSync('mkfifo', [join(directory, 'fifo')]);
    expect(() => new LogStore(join(directory, 'fifo'))).toThrow(expect.objectContaining({ code: 'BAD_LOG' }) as Error);
  });

  it('is cut back to a snapshot, and revisions go on', async () => {
    await filled(600);
    expect(readFileSync(file, 'utf8').split('\n').length).toBeLessThan(300);
    const store = keep(new LogStore(file));
    expect((await store.read('a'))!.revision).toBe(600);
    expect(await store.write('a', bytes('x'), 600)).toBe(601);
  });
});

describe('over TCP', () => {
  it('wants the token first', async () => {
    const { port } = await served('secret');
    const stranger = keep(new RemoteStore('127.0.0.1', port, 'wrong'));
    await expect(stranger.read('a')).rejects.toBeInstanceOf(StoreError);
    const silent = keep(new RemoteStore('127.0.0.1', port, null));
    await expect(silent.read('a')).rejects.toMatchObject({ code: 'REFUSED' });
  });

  it('goes on watching after the server was away, and says that it is away', async () => {
    const { store, server, remote, port } = await served(null);
    const sockets: Socket[] = [];
    server.on('connection', (socket) => sockets.push(socket));
    const seen: string[] = [];
    const first = await remote.write('a', bytes('one'), 0);
    remote.watch('a', first, (entry) => seen.push(text(entry)!));
    await pause(50);
    await new Promise((resolve) => {
      server.close(resolve);
      // Connections end with the process that served them.
      for (const socket of sockets) socket.destroy();
    });
    await pause(50);
    await expect(remote.read('a')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await store.write('a', bytes('two'), first);
    keep(await serveStore(store, '127.0.0.1', port, null));
    await until(() => seen.length > 0);
    expect(seen).toEqual(['two']);
    expect(text(await remote.read('a'))).toBe('two');
  });

  it('takes garbage, endless lines and silence without harm', async () => {
    const { port, remote } = await served('secret');
    const garbage = [
      bytes('not json\n'),
      bytes('{"do":"write"}\n'),
      bytes('null\n'),
      bytes('[]\n'),
      new Uint8Array(6 << 20).fill(120),
      Uint8Array.of(0, 255, 10),
    ];
    for (const one of garbage) {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(one);
      await pause(20);
      socket.destroy();
    }
    expect(await remote.read('a')).toBeNull();
    await remote.write('a', bytes('fine'), 0);
    expect(text(await remote.read('a'))).toBe('fine');
  });
});
