import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect } from 'vitest';
import { behaviours, counter, errorOf, happens, pause, textOf } from './kit.ts';

export const serving = behaviours({
  'listen on port 0 finds a free port': [
    'listen-exclusive-random-ports',
    async (kit) => {
      const port = await kit.listen(kit.server());
      expect(port).toBeGreaterThan(0);
    },
  ],
  'two servers on port 0 get different ports': [
    'listen-exclusive-random-ports',
    async (kit) => {
      expect(await kit.listen(kit.server())).not.toBe(await kit.listen(kit.server()));
    },
  ],
  'listen takes a port, a host and a listener': [
    'server-listen-options',
    async (kit) => {
      const server = kit.server();
      await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
      expect(server.listening).toBe(true);
    },
  ],
  'listen takes a port, a host, a backlog and a listener': [
    'server-listen-options',
    async (kit) => {
      const server = kit.server();
      await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', 5, resolve));
      expect((server.address() as AddressInfo).address).toBe('127.0.0.1');
    },
  ],
  'listen without arguments finds a port': [
    'listening',
    async (kit) => {
      const server = kit.server();
      server.listen();
      await happens(server, 'listening');
      expect((server.address() as AddressInfo).port).toBeGreaterThan(0);
    },
  ],
  'listen returns the server': [
    'listening',
    async (kit) => {
      const server = kit.server();
      expect(server.listen(0)).toBe(server);
      await happens(server, 'listening');
    },
  ],
  'listening is false before and after': [
    'listening',
    async (kit) => {
      const server = kit.server();
      const before = server.listening;
      await kit.listen(server);
      const during = server.listening;
      server.close();
      expect([before, during, server.listening]).toEqual([false, true, false]);
    },
  ],
  'address tells address, family and port': [
    'server-listen-options',
    async (kit) => {
      const server = kit.server();
      const port = await kit.listen(server);
      expect({ ...(server.address() as AddressInfo) }).toEqual({ address: '127.0.0.1', family: 'IPv4', port });
    },
  ],
  'address is null before listening': [
    'listening',
    (kit) => {
      expect(kit.server().address()).toBeNull();
    },
  ],
  'every address is ::': [
    'listen-ipv6only',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server, { port: 0 });
      expect((server.address() as AddressInfo).address).toBe('::');
    },
  ],
  'a name can be listened on': [
    'server-listen-options',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server, { port: 0, host: 'localhost' });
      expect(['127.0.0.1', '::1']).toContain((server.address() as AddressInfo).address);
    },
  ],
  'a port in use gives EADDRINUSE': [
    'eaddrinuse',
    async (kit) => {
      const port = await kit.listen(kit.server());
      const second = kit.server();
      second.listen(port, '127.0.0.1');
      const error = (await errorOf(second)) as NodeJS.ErrnoException & { port?: number; address?: string };
      expect([error.code, error.syscall, error.port, error.address]).toEqual(['EADDRINUSE', 'listen', port, '127.0.0.1']);
    },
  ],
  'the message of EADDRINUSE names the place': [
    'better-error-messages-listen',
    async (kit) => {
      const port = await kit.listen(kit.server());
      const second = kit.server();
      second.listen(port, '127.0.0.1');
      expect((await errorOf(second)).message).toBe(`listen EADDRINUSE: address already in use 127.0.0.1:${port}`);
    },
  ],
  'after EADDRINUSE another port works': [
    'server-try-ports',
    async (kit) => {
      const port = await kit.listen(kit.server());
      const second = kit.server();
      second.listen(port, '127.0.0.1');
      await errorOf(second);
      expect(await kit.listen(second)).not.toBe(port);
    },
  ],
  'an address of nobody gives EADDRNOTAVAIL': [
    'listen-error',
    async (kit) => {
      const server = kit.server();
      server.listen(0, '203.0.113.77');
      expect((await errorOf(server)).code).toBe('EADDRNOTAVAIL');
    },
  ],
  'listening twice throws ERR_SERVER_ALREADY_LISTEN': [
    'server-call-listen-multiple-times',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server);
      expect(() => server.listen(0)).toThrow(expect.objectContaining({ code: 'ERR_SERVER_ALREADY_LISTEN' }));
    },
  ],
  'a port beyond 65535 throws': [
    'listen-invalid-port',
    (kit) => {
      expect(() => kit.server().listen(65536)).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_BAD_PORT' }));
    },
  ],
  'a port that is an object throws': [
    'server-listen-options',
    (kit) => {
      expect(() => kit.server().listen({ port: true } as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    },
  ],
  'a server listens again after close': [
    'server-listen-remove-callback',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server);
      server.close();
      await happens(server, 'close');
      const port = await kit.listen(server);
      await happens(kit.connect({ port, host: '127.0.0.1' }), 'connect');
    },
  ],
  'a port is free again after close': [
    'bind-twice',
    async (kit) => {
      const server = kit.server();
      const port = await kit.listen(server);
      server.close();
      await happens(server, 'close');
      expect(await kit.listen(kit.server(), { port, host: '127.0.0.1' })).toBe(port);
    },
  ],
  'close before listen gives ERR_SERVER_NOT_RUNNING to the callback': [
    'server-close',
    async (kit) => {
      const server = kit.server();
      const error = await new Promise<Error | undefined>((resolve) => void server.close(resolve));
      expect((error as NodeJS.ErrnoException).code).toBe('ERR_SERVER_NOT_RUNNING');
    },
  ],
  'close waits for open connections': [
    'server-close',
    async (kit) => {
      const { server, client, peer } = await kit.pair();
      peer.resume();
      const closes = counter(server, 'close');
      server.close();
      await pause(30);
      expect(closes.count).toBe(0);
      client.end();
      client.resume();
      await happens(server, 'close');
    },
  ],
  'close refuses new connections': [
    'listen-close-server',
    async (kit) => {
      const { server, port } = await kit.pair();
      server.close();
      expect((await errorOf(kit.connect({ port, host: '127.0.0.1' }))).code).toBe('ECONNREFUSED');
    },
  ],
  'close takes something that is no function': [
    'listen-close-server-callback-is-not-function',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server);
      server.close('x' as never);
      await happens(server, 'close');
    },
  ],
  'the callback of close comes once closed': [
    'server-close',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server);
      await new Promise<void>((resolve) => void server.close(() => resolve()));
      expect(server.listening).toBe(false);
    },
  ],
  'getConnections counts': [
    'server-close',
    async (kit) => {
      const { server, port } = await kit.pair();
      const second = kit.connect({ port, host: '127.0.0.1' });
      await happens(server, 'connection');
      await happens(second, 'connect').catch(() => undefined);
      expect(await new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))).toBe(2);
    },
  ],
  'the connection event carries a Socket': [
    'socket-constructor',
    async (kit) => {
      const { peer } = await kit.pair();
      expect(peer).toBeInstanceOf(kit.net.Socket);
    },
  ],
  'a socket knows its server': [
    'server-close',
    async (kit) => {
      const { server, peer } = await kit.pair();
      expect((peer as unknown as { server: unknown }).server).toBe(server);
    },
  ],
  'accepted sockets know both ends': [
    'remote-address',
    async (kit) => {
      const { client, peer, port } = await kit.pair();
      expect([peer.localPort, peer.remotePort]).toEqual([port, client.localPort]);
      expect([peer.remoteAddress, peer.remoteFamily]).toEqual(['127.0.0.1', 'IPv4']);
    },
  ],
  'address of a socket is its own end': [
    'local-address-port',
    async (kit) => {
      const { client } = await kit.pair();
      expect({ ...(client.address() as AddressInfo) }).toEqual({ address: '127.0.0.1', family: 'IPv4', port: client.localPort });
    },
  ],
  'maxConnections drops what is too much and says so': [
    'server-max-connections',
    async (kit) => {
      const server = kit.server();
      server.maxConnections = 1;
      const port = await kit.listen(server);
      const dropped = once(server, 'drop') as Promise<[{ remotePort: number; localPort: number }]>;
      await happens(kit.connect({ port, host: '127.0.0.1' }), 'connect');
      const second = kit.connect({ port, host: '127.0.0.1' });
      second.resume();
      second.on('error', () => undefined);
      const [facts] = await dropped;
      expect(facts.localPort).toBe(port);
      await happens(second, 'close');
    },
  ],
  'a closed connection makes room': [
    'server-max-connections-close-makes-more-available',
    async (kit) => {
      const server = kit.server({}, (socket) => socket.resume());
      server.maxConnections = 1;
      const port = await kit.listen(server);
      for (let i = 0; i < 3; i++) {
        const client = kit.connect({ port, host: '127.0.0.1' });
        client.resume();
        await happens(server, 'connection');
        client.end();
        await happens(client, 'close');
        await pause(20);
      }
    },
  ],
  'pauseOnConnect hands out paused sockets': [
    'server-pause-on-connect',
    async (kit) => {
      const { client, peer } = await kit.pair({ server: { pauseOnConnect: true } });
      const seen = counter(peer, 'data');
      client.write('wait');
      await pause(40);
      expect(seen.count).toBe(0);
      peer.resume();
      expect(seen.count + (await happens<Buffer>(peer, 'data')).length).toBeGreaterThan(0);
    },
  ],
  'noDelay for all accepted sockets': [
    'server-nodelay',
    async (kit) => {
      const { client, peer } = await kit.pair({ server: { noDelay: true } });
      peer.end('x');
      expect(await textOf(client)).toBe('x');
    },
  ],
  'keepAlive for all accepted sockets': [
    'server-keepalive',
    async (kit) => {
      const { client, peer } = await kit.pair({ server: { keepAlive: true, keepAliveInitialDelay: 2000 } });
      peer.end('x');
      expect(await textOf(client)).toBe('x');
    },
  ],
  'a listening server may be unrefed': [
    'server-unref',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server);
      expect([server.unref(), server.ref()]).toEqual([server, server]);
    },
  ],
  'unref before listen counts': [
    'server-unref-persistent',
    async (kit) => {
      const server = kit.server();
      server.unref();
      await kit.listen(server);
      expect(server.listening).toBe(true);
    },
  ],
  'a signal closes the server': [
    'server-listen-options-signal',
    async (kit) => {
      const server = kit.server();
      const controller = new AbortController();
      await kit.listen(server, { port: 0, host: '127.0.0.1', signal: controller.signal });
      controller.abort();
      await happens(server, 'close');
    },
  ],
  'a signal that was aborted before closes it at once': [
    'server-listen-options-signal',
    async (kit) => {
      const server = kit.server();
      server.listen({ port: 0, signal: AbortSignal.abort() });
      await happens(server, 'close');
    },
  ],
  'createServer without a listener': [
    'server-options',
    async (kit) => {
      const server = kit.net.createServer();
      server.listen(0, '127.0.0.1');
      await happens(server, 'listening');
      server.close();
    },
  ],
  'createServer with a listener only': [
    'server-options',
    async (kit) => {
      const server = kit.net.createServer((socket) => socket.end('hello'));
      const port = await kit.listen(server);
      expect(await textOf(kit.connect({ port, host: '127.0.0.1' }))).toBe('hello');
      server.close();
    },
  ],
  'options that are no object throw': [
    'server-options',
    (kit) => {
      expect(() => kit.net.createServer('path' as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    },
  ],
  'a server may be made with new': [
    'server-options',
    async (kit) => {
      const server = new kit.net.Server((socket) => socket.end('new'));
      const port = await kit.listen(server);
      expect(await textOf(kit.connect({ port, host: '127.0.0.1' }))).toBe('new');
      server.close();
    },
  ],
  'highWaterMark of accepted sockets': [
    'server-options',
    async (kit) => {
      const { peer } = await kit.pair({ server: { highWaterMark: 1000 } as never });
      expect(peer.readableHighWaterMark).toBe(1000);
    },
  ],
  'a server goes on when one connection breaks': [
    'connect-reset',
    async (kit) => {
      const { port } = await kit.echo();
      const bad = kit.connect({ port, host: '127.0.0.1' });
      await happens(bad, 'connect');
      bad.resetAndDestroy();
      const good = kit.connect({ port, host: '127.0.0.1' });
      good.end('still here');
      expect(await textOf(good)).toBe('still here');
    },
  ],
  'an error of the listener’s promise destroys nothing else': [
    'server-capture-rejection',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.destroy(new Error('mine')).on('error', () => undefined);
      client.resume();
      await happens(client, 'close');
    },
  ],
  'asyncDispose closes the server': [
    'server-async-dispose',
    async (kit) => {
      const server = kit.server();
      await kit.listen(server);
      await (server as unknown as Record<symbol, () => Promise<void>>)[Symbol.for('nodejs.asyncDispose')]!();
      expect(server.listening).toBe(false);
    },
  ],
  'IPv6 only is taken as an option': [
    'listen-ipv6only',
    async (kit) => {
      const server = kit.server();
      const port = await kit.listen(server, { port: 0, host: '::', ipv6Only: true });
      await happens(kit.connect({ port, host: '::1' }), 'connect');
    },
  ],
  'a hundred connections one after the other': [
    'server-max-connections',
    async (kit) => {
      const { port } = await kit.echo();
      for (let i = 0; i < 100; i++) {
        const client = kit.connect({ port, host: '127.0.0.1' });
        client.end(`${i}`);
        expect(await textOf(client)).toBe(`${i}`);
      }
    },
  ],
  'a server of its own answers after the client’s end': [
    'server-reset',
    async (kit) => {
      const server = kit.server({ allowHalfOpen: true }, (socket) => {
        socket.resume();
        socket.on('end', () => socket.end('seen'));
      });
      const port = await kit.listen(server);
      const client = kit.connect({ port, host: '127.0.0.1' });
      client.end('anything');
      expect(await textOf(client)).toBe('seen');
    },
  ],
});
