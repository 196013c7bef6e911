import type { Socket } from 'node:net';
import { expect } from 'vitest';
import { behaviours, counter, errorOf, happens, pause } from './kit.ts';

export const connecting = behaviours({
  'connect takes a port and a host': [
    'connect-options-port',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.net.connect(port, '127.0.0.1');
      await happens(client, 'connect');
      expect(client.remotePort).toBe(port);
      client.destroy();
    },
  ],
  'connect takes a port, a host and a listener': [
    'connect-options-port',
    async (kit) => {
      const { port } = await kit.echo();
      await new Promise<void>((resolve) => {
        const client = kit.net.connect(port, '127.0.0.1', () => {
          client.destroy();
          resolve();
        });
      });
    },
  ],
  'connect takes options and a listener': [
    'connect-options-port',
    async (kit) => {
      const { port } = await kit.echo();
      await new Promise<void>((resolve) => void kit.connect({ port, host: '127.0.0.1' }, resolve));
    },
  ],
  'createConnection is connect': [
    'connect-options-port',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.net.createConnection({ port, host: '127.0.0.1' });
      await happens(client, 'connect');
      client.destroy();
    },
  ],
  'a port may be a string of digits': [
    'connect-options-port',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port: String(port) as unknown as number, host: '127.0.0.1' });
      await happens(client, 'connect');
    },
  ],
  'a port beyond 65535 throws ERR_SOCKET_BAD_PORT': [
    'connect-options-port',
    (kit) => {
      expect(() => kit.net.connect({ port: 65536, host: '127.0.0.1' })).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_BAD_PORT' }));
    },
  ],
  'a negative port throws ERR_SOCKET_BAD_PORT': [
    'connect-options-port',
    (kit) => {
      expect(() => kit.net.connect({ port: -1, host: '127.0.0.1' })).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_BAD_PORT' }));
    },
  ],
  'a port that is no number throws': [
    'connect-options-port',
    (kit) => {
      expect(() => kit.net.connect({ port: true as unknown as number, host: '127.0.0.1' })).toThrow(TypeError);
    },
  ],
  'neither port nor path throws ERR_MISSING_ARGS': [
    'connect-no-arg',
    (kit) => {
      expect(() => kit.net.connect({} as never)).toThrow(expect.objectContaining({ code: 'ERR_MISSING_ARGS' }));
    },
  ],
  'a lookup that is no function throws': [
    'options-lookup',
    (kit) => {
      expect(() => kit.net.connect({ port: 1, host: 'name.example', lookup: 'x' as never })).toThrow(TypeError);
    },
  ],
  'a local address that is none throws ERR_INVALID_IP_ADDRESS': [
    'localerror',
    (kit) => {
      expect(() => kit.net.connect({ port: 1, host: '127.0.0.1', localAddress: 'foobar' })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_IP_ADDRESS' }),
      );
    },
  ],
  'a local port that is no number throws': [
    'localerror',
    (kit) => {
      expect(() => kit.net.connect({ port: 1, host: '127.0.0.1', localPort: 'foobar' as never })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
      );
    },
  ],
  'connecting is true until connect': [
    'socket-connecting',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      expect(client.connecting).toBe(true);
      await happens(client, 'connect');
      expect(client.connecting).toBe(false);
    },
  ],
  'pending is true until connect': [
    'socket-connecting',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      expect(client.pending).toBe(true);
      await happens(client, 'connect');
      expect(client.pending).toBe(false);
    },
  ],
  'readyState goes from opening to open': [
    'connect-options-allowhalfopen',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      expect(client.readyState).toBe('opening');
      await happens(client, 'connect');
      expect(client.readyState).toBe('open');
    },
  ],
  'ready follows connect': [
    'socket-ready-without-cb',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      const order: string[] = [];
      client.on('connect', () => order.push('connect')).on('ready', () => order.push('ready'));
      await happens(client, 'ready');
      expect(order).toEqual(['connect', 'ready']);
    },
  ],
  'a socket made first connects later': [
    'socket-connect-without-cb',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.socket();
      client.connect(port, '127.0.0.1');
      await happens(client, 'connect');
    },
  ],
  'connect returns the socket': [
    'socket-connect-without-cb',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.socket();
      expect(client.connect({ port, host: '127.0.0.1' })).toBe(client);
      await happens(client, 'connect');
    },
  ],
  'a name is looked up and the event lookup tells': [
    'dns-lookup',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: 'localhost', family: 4 });
      const seen: unknown[] = [];
      client.on('lookup', (...args) => seen.push(...args));
      await happens(client, 'connect');
      expect(seen).toEqual([null, '127.0.0.1', 4, 'localhost']);
    },
  ],
  'an address is not looked up': [
    'dns-lookup-skip',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      const lookups = counter(client, 'lookup');
      await happens(client, 'connect');
      expect(lookups.count).toBe(0);
    },
  ],
  'a lookup of the application is used': [
    'dns-custom-lookup',
    async (kit) => {
      const { port } = await kit.echo();
      let asked = '';
      const lookup = (host: string, options: { all?: boolean }, done: (error: null, address: unknown, family?: number) => void): void => {
        asked = host;
        if (options.all === true) done(null, [{ address: '127.0.0.1', family: 4 }]);
        else done(null, '127.0.0.1', 4);
      };
      const client = kit.connect({ port, host: 'name.example', lookup: lookup as never });
      await happens(client, 'connect');
      expect([asked, client.remoteAddress]).toEqual(['name.example', '127.0.0.1']);
    },
  ],
  'a name that does not exist gives ENOTFOUND and closes': [
    'dns-error',
    async (kit) => {
      const client = kit.connect({ port: 80, host: 'does-not-exist.invalid' });
      const closed = happens(client, 'close');
      const error = await errorOf(client);
      expect(['ENOTFOUND', 'EAI_AGAIN']).toContain(error.code);
      expect(error.syscall).toBe('getaddrinfo');
      await closed;
    },
  ],
  'an error of the application’s lookup arrives as it is': [
    'dns-custom-lookup',
    async (kit) => {
      const lookup = (_host: string, _options: unknown, done: (error: Error) => void): void =>
        done(Object.assign(new Error('no such thing'), { code: 'EMINE' }));
      const client = kit.connect({ port: 80, host: 'name.example', lookup: lookup as never });
      expect((await errorOf(client)).code).toBe('EMINE');
    },
  ],
  'of several addresses one that works is used': [
    'autoselectfamily',
    async (kit) => {
      const { port } = await kit.echo();
      const dead = '127.0.0.2';
      const lookup = (_host: string, options: { family?: number; all?: boolean }, done: (error: null, addresses: unknown) => void): void => {
        const all = [
          { address: '::2', family: 6 },
          { address: dead, family: 4 },
          { address: '127.0.0.1', family: 4 },
        ];
        done(null, options.family === 4 || options.family === 6 ? all.filter((one) => one.family === options.family) : all);
      };
      const client = kit.connect({ port, host: 'name.example', lookup: lookup as never, autoSelectFamily: true, autoSelectFamilyAttemptTimeout: 200 });
      await happens(client, 'connect');
      expect(client.remoteAddress).toBe('127.0.0.1');
    },
  ],
  'when every address fails the error has them all': [
    'autoselectfamily',
    async (kit) => {
      const port = await kit.freePort();
      const lookup = (_host: string, options: { family?: number }, done: (error: null, addresses: unknown) => void): void => {
        const all = [
          { address: '::1', family: 6 },
          { address: '127.0.0.1', family: 4 },
        ];
        done(null, options.family === 4 || options.family === 6 ? all.filter((one) => one.family === options.family) : all);
      };
      const client = kit.connect({ port, host: 'name.example', lookup: lookup as never, autoSelectFamily: true });
      const error = (await errorOf(client)) as NodeJS.ErrnoException & { errors?: Error[] };
      expect(error.code).toMatch(/ECONNREFUSED|EADDRNOTAVAIL|ENETUNREACH/);
      expect(error.errors?.length).toBe(2);
    },
  ],
  'a refused connection gives ECONNREFUSED with address and port': [
    'connect-immediate-finish',
    async (kit) => {
      const port = await kit.freePort();
      const client = kit.connect({ port, host: '127.0.0.1' });
      const error = (await errorOf(client)) as NodeJS.ErrnoException & { address?: string; port?: number };
      expect([error.code, error.syscall, error.address, error.port]).toEqual(['ECONNREFUSED', 'connect', '127.0.0.1', port]);
    },
  ],
  'the message of a refused connection names the place': [
    'better-error-messages-port-hostname',
    async (kit) => {
      const port = await kit.freePort();
      const client = kit.connect({ port, host: '127.0.0.1' });
      expect((await errorOf(client)).message).toBe(`connect ECONNREFUSED 127.0.0.1:${port}`);
    },
  ],
  'errno is the negative number': [
    'better-error-messages-port-hostname',
    async (kit) => {
      const port = await kit.freePort();
      expect((await errorOf(kit.connect({ port, host: '127.0.0.1' }))).errno).toBeLessThan(0);
    },
  ],
  'after a refusal close tells of the error': [
    'connect-immediate-finish',
    async (kit) => {
      const port = await kit.freePort();
      const client = kit.connect({ port, host: '127.0.0.1' });
      client.on('error', () => undefined);
      const hadError = await happens<boolean>(client, 'close');
      expect(hadError).toBe(true);
    },
  ],
  'a refused socket emits one error': [
    'error-twice',
    async (kit) => {
      const port = await kit.freePort();
      const client = kit.connect({ port, host: '127.0.0.1' });
      const errors = counter(client, 'error');
      await happens(client, 'close');
      expect(errors.count).toBe(1);
    },
  ],
  'a socket connects again after the end': [
    'reconnect',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      for (let i = 0; i < 3; i++) {
        await happens(client, 'connect');
        client.resume();
        client.end('x');
        await happens(client, 'close');
        if (i < 2) client.connect({ port, host: '127.0.0.1' });
      }
      expect(client.destroyed).toBe(true);
    },
  ],
  'a socket connects again after a refusal': [
    'connect-after-destroy',
    async (kit) => {
      const bad = await kit.freePort();
      const { port } = await kit.echo();
      const client = kit.connect({ port: bad, host: '127.0.0.1' });
      client.on('error', () => undefined);
      await happens(client, 'close');
      client.connect({ port, host: '127.0.0.1' });
      await happens(client, 'connect');
    },
  ],
  'destroy before connect prevents it': [
    'connect-immediate-destroy',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      const connects = counter(client, 'connect');
      client.destroy();
      await happens(client, 'close');
      expect(connects.count).toBe(0);
    },
  ],
  'destroy while the name is looked up prevents the connection': [
    'connect-destroy',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: 'localhost' });
      const connects = counter(client, 'connect');
      client.destroy();
      await happens(client, 'close');
      await pause(30);
      expect(connects.count).toBe(0);
    },
  ],
  'a second connect of a connecting socket does not confuse it': [
    'connect-call-socket-connect',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.socket();
      client.connect({ port, host: '127.0.0.1' });
      await happens(client, 'connect');
      expect(client.remotePort).toBe(port);
    },
  ],
  'the local address can be chosen': [
    'local-address-port',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1', localAddress: '127.0.0.1' });
      await happens(client, 'connect');
      expect(client.localAddress).toBe('127.0.0.1');
    },
  ],
  'the local port can be chosen': [
    'local-address-port',
    async (kit) => {
      const { port } = await kit.echo();
      const local = await kit.freePort();
      const client = kit.connect({ port, host: '127.0.0.1', localPort: local });
      await happens(client, 'connect');
      expect(client.localPort).toBe(local);
    },
  ],
  'a local address of nobody gives EADDRNOTAVAIL': [
    'client-bind-twice',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1', localAddress: '203.0.113.77' });
      expect((await errorOf(client)).code).toBe('EADDRNOTAVAIL');
    },
  ],
  'what was written before connect arrives': [
    'write-connect-write',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      client.write('early ');
      client.on('connect', () => client.end('late'));
      let got = '';
      client.on('data', (chunk: Buffer) => (got += String(chunk)));
      await happens(client, 'close');
      expect(got).toBe('early late');
    },
  ],
  'end before connect still connects': [
    'socket-end-before-connect',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      client.resume();
      client.end();
      await happens(client, 'close');
      expect(client.destroyed).toBe(true);
    },
  ],
  'what was written and ended before the name was found arrives, with its end': [
    'large-string',
    async (kit) => {
      const { port } = await kit.echo({ allowHalfOpen: true });
      const client = kit.connect({ port, host: 'localhost' });
      client.end('x'.repeat(100_000));
      let got = 0;
      client.on('data', (chunk: Buffer) => (got += chunk.length));
      await happens(client, 'close');
      expect(got).toBe(100_000);
    },
  ],
  'bytesWritten counts what waits for connect': [
    'bytes-stats',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      client.write('12345');
      expect(client.bytesWritten).toBe(5);
      await happens(client, 'connect');
    },
  ],
  'the callback of a write is told when the socket is destroyed before connect': [
    'write-cb-on-destroy-before-connect',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      const failed = new Promise<Error | null | undefined>((resolve) => void client.write('x', resolve));
      client.destroy();
      expect(((await failed) as NodeJS.ErrnoException).code).toMatch(/ERR_SOCKET_CLOSED_BEFORE_CONNECTION|ERR_STREAM_DESTROYED/);
    },
  ],
  'a signal aborts the connection': [
    'connect-abort-controller',
    async (kit) => {
      const { port } = await kit.echo();
      const controller = new AbortController();
      const client = kit.connect({ port, host: '127.0.0.1', signal: controller.signal } as never);
      controller.abort();
      expect((await errorOf(client)).name).toBe('AbortError');
    },
  ],
  'a signal that was aborted before prevents it': [
    'connect-abort-controller',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1', signal: AbortSignal.abort() } as never);
      expect((await errorOf(client)).name).toBe('AbortError');
    },
  ],
  'a signal ends an open connection': [
    'connect-abort-controller',
    async (kit) => {
      const { port } = await kit.echo();
      const controller = new AbortController();
      const client = kit.connect({ port, host: '127.0.0.1', signal: controller.signal } as never);
      await happens(client, 'connect');
      controller.abort();
      expect((await errorOf(client)).name).toBe('AbortError');
    },
  ],
  'IPv6 works': [
    'connect-options-ipv6',
    async (kit) => {
      const server = kit.server();
      const port = await kit.listen(server, { port: 0, host: '::1' });
      const client = kit.connect({ port, host: '::1' });
      await happens(client, 'connect');
      expect([client.remoteAddress, client.remoteFamily, client.localFamily]).toEqual(['::1', 'IPv6', 'IPv6']);
    },
  ],
  'a server on every address takes IPv6': [
    'connect-options-ipv6',
    async (kit) => {
      const server = kit.server();
      const port = await kit.listen(server, { port: 0 });
      await happens(kit.connect({ port, host: '::1' }), 'connect');
    },
  ],
  'a server on every address takes IPv4': [
    'listen-ipv6only',
    async (kit) => {
      const server = kit.server();
      const port = await kit.listen(server, { port: 0 });
      await happens(kit.connect({ port, host: '127.0.0.1' }), 'connect');
    },
  ],
  'localhost is the default host': [
    'connect-options-port',
    async (kit) => {
      const server = kit.server();
      const port = await kit.listen(server, { port: 0 });
      const client = kit.connect({ port });
      await happens(client, 'connect');
      expect(['127.0.0.1', '::1']).toContain(client.remoteAddress);
    },
  ],
  'many connections at once each get their own': [
    'pingpong',
    async (kit) => {
      const { port } = await kit.echo();
      const answers = await Promise.all(
        Array.from({ length: 50 }, async (_, i) => {
          const client = kit.connect({ port, host: '127.0.0.1' });
          client.end(`number ${i}`);
          let got = '';
          for await (const chunk of client) got += String(chunk);
          return got;
        }),
      );
      expect(answers).toEqual(answers.map((_, i) => `number ${i}`));
    },
  ],
  'an option timeout arms the timeout': [
    'socket-timeout',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1', timeout: 30 });
      expect(client.timeout).toBe(30);
      await happens(client, 'timeout');
    },
  ],
  'Unix sockets still work': [
    'connect-options-path',
    async (kit) => {
      const path = `/tmp/subflow-compliance-${process.pid}-${Math.random().toString(36).slice(2)}`;
      const server = kit.server({}, (socket: Socket) => socket.end('by path'));
      server.listen(path);
      await happens(server, 'listening');
      expect(server.address()).toBe(path);
      const client = kit.connect({ path });
      let got = '';
      for await (const chunk of client) got += String(chunk);
      expect(got).toBe('by path');
    },
  ],
  'a Unix socket that is not there gives ENOENT': [
    'pipe-connect-errors',
    async (kit) => {
      expect((await errorOf(kit.connect({ path: '/tmp/subflow-no-such-socket' }))).code).toBe('ENOENT');
    },
  ],
  'a socket not connected has no addresses': [
    'socket-constructor',
    (kit) => {
      const client = kit.socket();
      expect([client.remoteAddress, client.remotePort, client.localAddress, client.address()]).toEqual([undefined, undefined, undefined, {}]);
    },
  ],
});
