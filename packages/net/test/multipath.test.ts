/** Facts, events and controls on the stack backend; Happy Eyeballs; both families together. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect as tlsConnect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { AllAttemptsFailed, connect, createServer, emulatedNetwork, NetError, openStack, race, Socket } from '@subflow/net';
import type { Candidate, EmulatedNetwork, RaceOptions, Server } from '@subflow/net';

const networks: { stop(): void }[] = [];
afterEach(() => {
  for (const one of networks.splice(0)) one.stop();
});

function twoPaths(families: readonly (4 | 6)[] = [4, 4], options: Parameters<typeof emulatedNetwork>[1] = {}): EmulatedNetwork {
  const network = emulatedNetwork(
    families.map((family, i) => ({ name: i === 0 ? 'wifi' : 'lte', family, link: { rate: 50e6, delay: 2000 * (i + 1) } })),
    options,
  );
  networks.push(network);
  return network;
}

async function echo(network: EmulatedNetwork): Promise<Server> {
  const server = createServer({ backend: network.server }, (socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  server.listen(7000);
  await once(server, 'listening');
  return server;
}

async function connected(network: EmulatedNetwork, options: object = {}): Promise<Socket> {
  const socket = connect({ host: network.addresses[0]!, port: 7000, backend: network.client, ...options });
  await once(socket, 'connect');
  socket.write('hello');
  await once(socket, 'data');
  return socket;
}

const until = async (condition: () => boolean): Promise<void> => {
  for (let i = 0; i < 500 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(condition()).toBe(true);
};

describe('facts on the stack backend', () => {
  it('version, tokens and subflows with their numbers', async () => {
    const network = twoPaths();
    await echo(network);
    const socket = await connected(network);
    await until(() => socket.multipath!.info()!.subflows.filter((one) => one.state === 'ESTABLISHED').length === 2);
    const info = socket.multipath!.info()!;
    expect(info).toMatchObject({ backend: 'stack', multipath: true, version: 1, fallback: null, scheduler: 'lowest-rtt', checksum: false });
    const theirs = [...network.server.host.connections.values()][0]!;
    expect(info.localToken).toBe(theirs.remote!.token >>> 0);
    expect(info.remoteToken).toBe(theirs.local!.token >>> 0);
    expect(info.subflows.map((one) => [one.interface, one.localAddress, one.remotePort])).toEqual([
      ['wifi', '192.0.2.1', 7000],
      ['lte', '192.0.2.5', 7000],
    ]);
    expect(info.subflows[0]).toMatchObject({ backup: false, bytesSent: 5, bytesReceived: 5, retransmissions: 0, congestion: 'cubic' });
    expect(info.subflows[0]!.srtt).toBeGreaterThan(3500);
    socket.destroy();
    expect(socket.multipath!.info()).not.toBeNull();
  });

  it('version 0, and plain TCP with its reason', async () => {
    const network = twoPaths();
    await echo(network);
    expect((await connected(network, { versions: [0] })).multipath!.info()).toMatchObject({ version: 0, multipath: true });
    expect((await connected(network, { service: 'none' })).multipath!.info()).toMatchObject({ version: null, multipath: false, fallback: 'disabled' });
    const plain = twoPaths([4, 4], { serverMptcp: { enabled: false } });
    await echo(plain);
    expect((await connected(plain)).multipath!.info()).toMatchObject({ multipath: false, fallback: 'peer-not-capable' });
  });

  it('events when subflows come and go, on both ends', async () => {
    const network = twoPaths();
    const server = await echo(network);
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const socket = connect({ host: network.addresses[0]!, port: 7000, backend: network.client });
    const seen: string[] = [];
    socket.multipath!.on('established', ({ multipath }) => seen.push(`established ${multipath}`));
    socket.multipath!.on('subflow-established', ({ local }) => seen.push(`up ${local.replace(/:\d+$/, '')}`));
    socket.multipath!.on('subflow-closed', ({ id }) => seen.push(`down ${id}`));
    const [peer] = await accepted;
    const theirs: string[] = [];
    peer.multipath!.on('subflow-established', () => theirs.push('up'));
    socket.write('x');
    await until(() => seen.includes('up 192.0.2.5'));
    socket.multipath!.removeAddress('192.0.2.5');
    await until(() => seen.includes('down 1'));
    expect(seen).toEqual(['established true', 'up 192.0.2.1', 'up 192.0.2.5', 'down 1']);
    expect(theirs).toContain('up');
    socket.destroy();
  });

  it('controls: backup, addresses, scheduler, controller, service type', async () => {
    const network = twoPaths();
    const server = await echo(network);
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const socket = await connected(network, { scheduler: 'round-robin', congestion: 'newreno' });
    const [peer] = await accepted;
    const facts = (): NonNullable<ReturnType<NonNullable<Socket['multipath']>['info']>> => socket.multipath!.info()!;
    expect([facts().scheduler, facts().subflows[0]!.congestion]).toEqual(['round-robin', 'newreno']);
    await until(() => facts().subflows.length === 2 && facts().subflows[1]!.state === 'ESTABLISHED');
    const told = once(peer.multipath!, 'subflow-priority');
    socket.multipath!.setBackup('192.0.2.5', true);
    expect(facts().subflows[1]!.backup).toBe(true);
    expect((await told)[0]).toMatchObject({ backup: true, byPeer: true });
    socket.multipath!.setScheduler('redundant');
    socket.multipath!.setService('interactive');
    expect(facts()).toMatchObject({ scheduler: 'interactive', service: 'interactive' });
    socket.multipath!.removeAddress('192.0.2.5');
    await until(() => facts().subflows.length === 1);
    socket.multipath!.addAddress('192.0.2.5', { backup: true });
    await until(() => facts().subflows.length === 2);
    expect(facts().subflows[1]).toMatchObject({ localAddress: '192.0.2.5', backup: true });
    socket.destroy();
  });

  it.each([
    [{ service: 'fastest' }, 'UNKNOWN_SERVICE_TYPE', /fastest.*handover, interactive, aggregate/],
    [{ scheduler: 'best' }, 'UNKNOWN_SCHEDULER', /best.*lowest-rtt/],
    [{ congestion: 'vegas' }, 'UNKNOWN_CONGESTION', /vegas.*cubic/],
    [{ coupled: 'x' }, 'UNKNOWN_CONGESTION', /x.*lia/],
  ])('%j is refused with its value and what was expected', (settings, code, message) => {
    const network = twoPaths();
    const act = (): unknown => connect({ host: '192.0.2.2', port: 1, backend: network.client, ...(settings as object) });
    expect(act).toThrow(expect.objectContaining({ code }));
    expect(act).toThrow(message);
  });

  it('controls of what is not there say so', async () => {
    const network = twoPaths();
    await echo(network);
    const socket = await connected(network);
    const multipath = socket.multipath!;
    expect(() => multipath.setBackup(99, true)).toThrow(expect.objectContaining({ code: 'NO_SUCH_SUBFLOW' }));
    expect(() => multipath.setBackup('not an address', true)).toThrow(expect.objectContaining({ code: 'BAD_ADDRESS' }));
    expect(() => multipath.removeAddress('203.0.113.9')).toThrow(expect.objectContaining({ code: 'NO_SUCH_ADDRESS' }));
    expect(() => multipath.addAddress('203.0.113.9')).toThrow(expect.objectContaining({ code: 'BAD_ADDRESS' }));
    expect(() => multipath.setService('none' as never)).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED' }));
    socket.destroy();
    await once(socket, 'close');
    await until(() => {
      try {
        multipath.setScheduler('redundant');
        return false;
      } catch (error) {
        return error instanceof NetError && error.code === 'NOT_CONNECTED';
      }
    });
  });

  it('a connection goes on when its first path is cut', async () => {
    const network = twoPaths();
    await echo(network);
    const socket = await connected(network);
    await until(() => socket.multipath!.info()!.subflows.filter((one) => one.state === 'ESTABLISHED').length === 2);
    network.paths[0]!.cut();
    const answer = once(socket, 'data');
    socket.write('still there?');
    expect(String((await answer)[0])).toBe('still there?');
    socket.destroy();
  });

  it('memory of what was written is not used anew too early: lossy paths with checksums, one cut and restored', async () => {
    const network = emulatedNetwork(
      [
        { name: 'wifi', link: { rate: 80e6, delay: 3000, loss: 0.01, queueTime: 50_000 } },
        { name: 'lte', link: { rate: 60e6, delay: 9000, loss: 0.01, queueTime: 50_000 } },
      ],
      { mptcp: { checksum: true }, tcp: { congestion: 'bbr' } },
    );
    networks.push(network);
    const size = 16_000_000;
    const received = createHash('sha256');
    const server = createServer({ backend: network.server }, (socket) => {
      let count = 0;
      socket.on('data', (chunk: Buffer) => {
        received.update(chunk);
        count += chunk.length;
        if (count > 4_000_000 && count < 5_000_000) network.paths[0]!.cut();
        if (count > 8_000_000) network.paths[0]!.restore();
      });
      socket.on('end', () => socket.end('done'));
    });
    server.listen(7000);
    const socket = connect({ host: network.addresses[0]!, port: 7000, backend: network.client });
    const sent = createHash('sha256');
    const buffer = Buffer.alloc(100_000);
    for (let i = 0; i < size / buffer.length; i++) {
      // The application's buffer changes as soon as a write is done.
      buffer.fill(i & 255);
      buffer.writeUInt32LE(i);
      sent.update(buffer);
      await new Promise((resolve) => void socket.write(buffer, resolve));
    }
    socket.end();
    const answer = await once(socket, 'data');
    expect(String(answer[0])).toBe('done');
    expect(received.digest('hex')).toBe(sent.digest('hex'));
    for (const counters of [network.client.host.mptcpCounters, network.server.host.mptcpCounters])
      expect([counters.DataCsumErr, counters.MPFailTx]).toEqual([0, 0]);
    expect(socket.multipath!.info()!.subflows.length).toBeGreaterThan(0);
  }, 60_000);

  it('TLS breaks with an error, not with a crash, when the transport is reset', async () => {
    const network = twoPaths();
    const server = createServer({ backend: network.server }, (socket) => void setTimeout(() => socket.resetAndDestroy(), 50));
    server.listen(7000);
    const transport = connect({ host: network.addresses[0]!, port: 7000, backend: network.client });
    const secure = tlsConnect({ socket: transport, rejectUnauthorized: false });
    const error = await new Promise<NodeJS.ErrnoException>((resolve) => secure.once('error', resolve));
    expect(error.code).toBe('ECONNRESET');
  });
});

describe('Happy Eyeballs (RFC 8305)', () => {
  interface Attempted {
    address: string;
    at: number;
  }

  /** Runs a race where answers and connections take the milliseconds given; -1 fails at once. */
  function play(answers: { v6: number | null; v4: number | null }, connects: Record<string, number>, options: Partial<RaceOptions> = {}) {
    const attempted: Attempted[] = [];
    const cancelled: string[] = [];
    const started = performance.now();
    const wait = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));
    const addresses = Object.keys(connects).map((address): Candidate => ({ address, family: address.includes(':') ? 6 : 4 }));
    const running = race({
      resolve: async (family) => {
        const delay = family === 6 ? answers.v6 : answers.v4;
        await wait(Math.max(0, delay ?? 0));
        if (delay === null) throw Object.assign(new Error(`no ${family}`), { code: 'ENOTFOUND' });
        return addresses.filter((one) => one.family === family);
      },
      attempt: ({ address }, done) => {
        attempted.push({ address, at: performance.now() - started });
        const time = connects[address]!;
        const timer = setTimeout(() => done(time < 0 ? Object.assign(new Error(`refused ${address}`), { code: 'ECONNREFUSED' }) : null), Math.abs(time));
        return {
          cancel: () => {
            clearTimeout(timer);
            cancelled.push(address);
          },
        };
      },
      ...options,
    });
    return { running, attempted, cancelled };
  }

  it.each([4, 6] as const)('tells what is wrong with a name, not that IPv%i has no address, whichever answer comes first', async (missing) => {
    for (const slow of [4, 6] as const) {
      const running = race({
        resolve: async (family) => {
          await new Promise((resolve) => setTimeout(resolve, family === slow ? 15 : 0));
          throw Object.assign(new Error(`family ${family}`), { code: family === missing ? 'ENOTFOUND' : 'NOT_ALLOWED' });
        },
        attempt: () => ({ cancel: () => undefined }),
      });
      await expect(running.result).rejects.toMatchObject({ code: 'NOT_ALLOWED' });
    }
  });

  it('IPv6 goes first, and wins when it answers', async () => {
    const { running, attempted } = play({ v6: 0, v4: 0 }, { '2001:db8::1': 20, '192.0.2.1': 20 });
    const { winner, others } = await running.result;
    expect([winner.address, others.map((one) => one.address), attempted.length]).toEqual(['2001:db8::1', ['192.0.2.1'], 1]);
  });

  it('after the delay IPv4 is tried beside it, and the slower one is cancelled', async () => {
    const { running, attempted, cancelled } = play({ v6: 0, v4: 0 }, { '2001:db8::1': 5000, '192.0.2.1': 10 }, { attemptDelay: 60 });
    expect((await running.result).winner.address).toBe('192.0.2.1');
    expect(attempted[1]!.at - attempted[0]!.at).toBeGreaterThan(50);
    expect(cancelled).toEqual(['2001:db8::1']);
  });

  it('a failure starts the next attempt at once', async () => {
    const { running, attempted } = play({ v6: 0, v4: 0 }, { '2001:db8::1': -1, '192.0.2.1': 10 }, { attemptDelay: 2000 });
    await running.result;
    expect(attempted[1]!.at - attempted[0]!.at).toBeLessThan(200);
  });

  it('families alternate', async () => {
    const { running, attempted } = play({ v6: 0, v4: 0 }, { '2001:db8::1': -1, '2001:db8::2': -1, '192.0.2.1': -1, '192.0.2.2': 1 });
    await running.result;
    expect(attempted.map((one) => one.address)).toEqual(['2001:db8::1', '192.0.2.1', '2001:db8::2', '192.0.2.2']);
  });

  it('IPv4’s answer waits 50 ms for IPv6’s, not longer', async () => {
    const early = play({ v6: 20, v4: 0 }, { '2001:db8::1': 5, '192.0.2.1': 5 });
    expect((await early.running.result).winner.family).toBe(6);
    const late = play({ v6: 1000, v4: 0 }, { '2001:db8::1': 5, '192.0.2.1': 5 });
    expect((await late.running.result).winner.family).toBe(4);
    expect(late.attempted[0]!.at).toBeLessThan(500);
  });

  it('one family without an answer is no obstacle', async () => {
    expect((await play({ v6: null, v4: 0 }, { '192.0.2.1': 1 }).running.result).winner.address).toBe('192.0.2.1');
  });

  it('nothing found is the resolver’s error, nothing reached is all of theirs', async () => {
    await expect(play({ v6: null, v4: null }, {}).running.result).rejects.toMatchObject({ code: 'ENOTFOUND' });
    const failed = play({ v6: 0, v4: 0 }, { '2001:db8::1': -1, '192.0.2.1': -1 }).running.result;
    await expect(failed).rejects.toBeInstanceOf(AllAttemptsFailed);
    await expect(failed).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('the loser’s address carries a further subflow: IPv4 and IPv6 together', async () => {
    const network = twoPaths([6, 4]);
    await echo(network);
    const lookup = (_name: string, options: { family?: number }, callback: (error: null, addresses: { address: string; family: number }[]) => void): void => {
      callback(null, options.family === 6 ? [{ address: network.addresses[0]!, family: 6 }] : [{ address: network.addresses[1]!, family: 4 }]);
    };
    // The server announces nothing: what is joined is known by name alone.
    for (const endpoint of [...network.server.host.endpoints]) network.server.host.removeEndpoint(endpoint.id, network.server.now());
    const socket = connect({ host: 'server.example', port: 7000, backend: network.client, lookup: lookup as never });
    // Asked for before there was anything to tell: it speaks of the winner later.
    const joined: string[] = [];
    socket.multipath!.on('subflow-established', ({ remote }) => joined.push(remote));
    await once(socket, 'connect');
    socket.write('hello');
    await once(socket, 'data');
    expect(socket.remoteFamily).toBe('IPv6');
    await until(() => socket.multipath!.info()!.subflows.filter((one) => one.state === 'ESTABLISHED').length === 2);
    expect(socket.multipath!.info()!.subflows.map((one) => one.remoteAddress)).toEqual(network.addresses);
    await until(() => joined.includes('192.0.2.6:7000'));
    socket.destroy();
  });
});

it('a connection that ends before it has said anything ends on both sides', async () => {
  const stack = openStack({ tcp: { timeWait: 100_000 } });
  networks.push(stack);
  const server = createServer({ backend: stack }, (socket) => void socket.resume());
  server.listen(0);
  await once(server, 'listening');
  const socket = connect({ port: (server.address() as { port: number }).port, host: '127.0.0.1', backend: stack });
  socket.resume();
  const started = performance.now();
  socket.end();
  await once(socket, 'close');
  expect(performance.now() - started).toBeLessThan(150);
});
