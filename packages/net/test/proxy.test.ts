/** The proxy's protocols, limits and faithfulness, over the stack in this process and over the kernel. */
import { once } from 'node:events';
import { createServer as createTcpServer, connect as tcpConnect } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import {
  AccessList,
  connect,
  connectThroughConverter,
  CONVERT_ERROR,
  convertMessage,
  emulatedNetwork,
  isFault,
  kernelBackend,
  messageLength,
  parseTarget,
  parseTlvs,
  proxyHeader,
  ProxyServer,
} from '@subflow/net';
import type { ProxyOptions, ProxyRecord } from '@subflow/net';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

interface Running {
  proxy: ProxyServer;
  port: number;
  records: ProxyRecord[];
}

async function start(options: Partial<ProxyOptions> & { accept: ProxyOptions['accept'] }): Promise<Running> {
  const proxy = new ProxyServer({ to: { service: 'none' }, ...options });
  const records: ProxyRecord[] = [];
  proxy.on('record', (record) => records.push(record));
  await new Promise<void>((resolve) => void proxy.listen({ port: 0, host: '127.0.0.1' }, resolve));
  open.push({ close: () => proxy.close() });
  return { proxy, port: (proxy.address() as AddressInfo).port, records };
}

async function target(onConnection: (socket: Socket) => void): Promise<number> {
  const server: Server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({ close: () => server.close() });
  return (server.address() as AddressInfo).port;
}

const echo = (socket: Socket): void => void socket.pipe(socket);

function client(port: number): Socket {
  const socket = tcpConnect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => undefined);
  open.push({ close: () => socket.destroy() });
  return socket;
}

/** Sends, ends, and gives everything that comes back. */
async function exchange(port: number, ...parts: (string | Uint8Array)[]): Promise<Buffer> {
  const socket = client(port);
  for (const part of parts) socket.write(part);
  socket.end();
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

async function some(socket: Socket, count: number): Promise<Buffer> {
  let got = Buffer.alloc(0);
  while (got.length < count) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) await Promise.race([once(socket, 'readable'), once(socket, 'close').then(() => Promise.reject(new Error('closed')))]);
    else got = Buffer.concat([got, chunk]);
  }
  return got;
}

function socksConnect(host: string, port: number): Buffer {
  const name = Buffer.from(host);
  return Buffer.concat([Buffer.from([5, 1, 0]), Buffer.from([5, 1, 0, 3, name.length]), name, Buffer.from([port >> 8, port & 255])]);
}

async function recordOf(running: Running): Promise<ProxyRecord> {
  if (running.records.length === 0) await once(running.proxy, 'record');
  return running.records[0]!;
}

describe('forward', () => {
  it('passes bytes and half-closes on', async () => {
    const port = await target((socket) => {
      let got = '';
      socket.on('data', (chunk: Buffer) => (got += String(chunk)));
      socket.on('end', () => socket.end(`${got} after the end`));
    });
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port } });
    expect(String(await exchange(proxy.port, 'question'))).toBe('question after the end');
    expect(await recordOf(proxy)).toMatchObject({ end: 'normal', bytesUp: 8, bytesDown: 22, protocol: 'forward' });
  });

  it('passes a reset of the client on to the server', async () => {
    let failed: Promise<unknown> = Promise.resolve();
    const port = await target((socket) => {
      failed = new Promise((resolve) => socket.once('error', resolve));
      socket.resume();
    });
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port } });
    const socket = client(proxy.port);
    socket.write('x');
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.resetAndDestroy();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(((await failed) as NodeJS.ErrnoException).code).toBe('ECONNRESET');
    expect((await recordOf(proxy)).end).toBe('reset');
  });

  it('passes a reset of the server on to the client', async () => {
    const port = await target((socket) => void socket.once('data', () => socket.resetAndDestroy()));
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port } });
    const socket = client(proxy.port);
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve));
    socket.write('x');
    expect((await failed).code).toBe('ECONNRESET');
  });

  it('resets the client when the server refuses', async () => {
    const port = await target(echo);
    for (const one of open.splice(0)) one.close();
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port } });
    const socket = client(proxy.port);
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve));
    expect((await failed).code).toBe('ECONNRESET');
    expect((await recordOf(proxy)).end).toBe('ECONNREFUSED');
  });

  it('ends connections that have been idle for too long', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port }, timeouts: { idle: 80 } });
    const socket = client(proxy.port);
    socket.resume();
    await closed(socket);
    expect((await recordOf(proxy)).end).toBe('idle');
  });

  it('carries Multipath TCP in and TCP out', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port }, from: {}, to: { service: 'none' } });
    const socket = connect({ port: proxy.port, host: '127.0.0.1' });
    socket.end('over');
    let got = '';
    for await (const chunk of socket) got += String(chunk);
    expect(got).toBe('over');
    const record = await recordOf(proxy);
    expect(record.serverMultipath).toBe(false);
    expect(record.clientMultipath).toBe(socket.multipath === null ? null : true);
  });

  it('our stack terminates both versions in front of a TCP server', async () => {
    const port = await target(echo);
    const network = emulatedNetwork([
      { name: 'wifi', link: { delay: 2000 } },
      { name: 'lte', link: { delay: 4000 } },
    ]);
    open.push({ close: () => network.stop() });
    const proxy = new ProxyServer({
      accept: ['forward'],
      target: { host: '127.0.0.1', port },
      from: { backend: network.server },
      to: { backend: kernelBackend, service: 'none' },
      allow: ['192.0.2.0/24'],
    });
    const records: ProxyRecord[] = [];
    proxy.on('record', (record) => records.push(record));
    await new Promise<void>((resolve) => void proxy.listen({ port: 7000 }, resolve));
    for (const version of [1, 0] as const) {
      const socket = connect({ backend: network.client, host: network.addresses[0]!, port: 7000, versions: [version], allowHalfOpen: true });
      socket.end('x'.repeat(200_000));
      let got = 0;
      for await (const chunk of socket) got += (chunk as Buffer).length;
      expect([got, socket.multipath!.info()!.version]).toEqual([200_000, version]);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(records).toMatchObject([
      { clientMultipath: true, serverMultipath: false, end: 'normal' },
      { clientMultipath: true, serverMultipath: false, end: 'normal' },
    ]);
    proxy.close();
  });

  it('sends a PROXY header of version 2 that says who the client is', async () => {
    const seen = new Promise<Buffer>((resolve) => {
      void target((socket) => void socket.once('data', resolve)).then(async (port) => {
        const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port }, sendProxyHeader: true });
        client(proxy.port).write('hello');
      });
    });
    const bytes = await seen;
    expect(bytes.subarray(0, 16).toString('hex')).toBe('0d0a0d0a000d0a515549540a2111000c');
    expect([...bytes.subarray(16, 24)]).toEqual([127, 0, 0, 1, 127, 0, 0, 1]);
  });

  it('takes a PROXY header and passes it on', async () => {
    const header = proxyHeader({ source: '192.0.2.77', sourcePort: 4321, destination: '198.51.100.1', destinationPort: 443 });
    const port = await target(echo);
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port }, expectProxyHeader: true, sendProxyHeader: true });
    const answer = await exchange(proxy.port, header, 'payload');
    expect(answer.equals(Buffer.concat([header, Buffer.from('payload')]))).toBe(true);
  });

  it('refuses what does not begin with a PROXY header where one is expected', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port }, expectProxyHeader: true });
    const socket = client(proxy.port);
    socket.write('GET / HTTP/1.1\r\n\r\n');
    expect((await recordOf(proxy)).end).toBe('BAD_PROXY_HEADER');
  });
});

describe('SOCKS5', () => {
  it('connects to a name and to an address', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['socks'] });
    const byName = await exchange(proxy.port, socksConnect('localhost', port), 'payload');
    expect(byName.subarray(0, 4).toString('hex')).toBe('05000500');
    expect(byName.subarray(-7).toString()).toBe('payload');
    const byAddress = await exchange(proxy.port, Buffer.from([5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 255]), 'other');
    expect(byAddress.subarray(-5).toString()).toBe('other');
  });

  it.each([
    ['a refused connection', 5, Buffer.from([5, 1, 0, 1, 127, 0, 0, 1, 0, 1])],
    ['BIND', 7, Buffer.from([5, 2, 0, 1, 127, 0, 0, 1, 0, 80])],
    ['UDP ASSOCIATE', 7, Buffer.from([5, 3, 0, 1, 127, 0, 0, 1, 0, 80])],
    ['an unknown address type', 8, Buffer.from([5, 1, 0, 9, 127, 0, 0, 1, 0, 80])],
    ['an empty name', 8, Buffer.from([5, 1, 0, 3, 0, 0, 80])],
    ['a name that does not exist', 4, Buffer.concat([Buffer.from([5, 1, 0, 3, 16]), Buffer.from('no-such.invalid.'), Buffer.from([0, 80])])],
  ])('answers %s with reply %i', async (_name, code, request) => {
    const proxy = await start({ accept: ['socks'] });
    const answer = await exchange(proxy.port, Buffer.from([5, 1, 0]), request);
    expect(answer[3]).toBe(code);
  });

  it('asks for user and password', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['socks'], users: { ada: 'secret' } });
    const login = (password: string): Buffer => Buffer.concat([Buffer.from([1, 3]), Buffer.from('ada'), Buffer.from([password.length]), Buffer.from(password)]);
    const request = Buffer.from([5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 255]);
    const good = await exchange(proxy.port, Buffer.from([5, 2, 0, 2]), login('secret'), request, 'in');
    expect(good.subarray(-2).toString()).toBe('in');
    expect((await exchange(proxy.port, Buffer.from([5, 1, 2]), login('wrong'), request)).toString('hex')).toBe('05020101');
    expect((await exchange(proxy.port, Buffer.from([5, 1, 0]), request)).toString('hex')).toBe('05ff');
  });

  it('refuses destinations that are not on the list, by address and by name', async () => {
    const proxy = await start({ accept: ['socks'], destinations: ['192.0.2.0/24'] });
    expect((await exchange(proxy.port, Buffer.from([5, 1, 0]), Buffer.from([5, 1, 0, 1, 127, 0, 0, 1, 0, 80])))[3]).toBe(2);
    expect((await exchange(proxy.port, socksConnect('localhost', 80)))[3]).toBe(2);
  });
});

describe('HTTP CONNECT', () => {
  it('connects, and keeps what came along', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['http'] });
    const answer = String(await exchange(proxy.port, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\nearly bytes`));
    expect(answer).toBe('HTTP/1.1 200 Connection established\r\n\r\nearly bytes');
  });

  it.each([
    ['GET http://x/ HTTP/1.1\r\n\r\n', 405],
    ['CONNECT nowhere HTTP/1.1\r\n\r\n', 400],
    ['CONNECT host:99999 HTTP/1.1\r\n\r\n', 400],
    ['\r\n\r\n\r\n', 400],
    ['CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n', 502],
  ])('answers %j with %i', async (request, status) => {
    const proxy = await start({ accept: ['http'] });
    expect(String(await exchange(proxy.port, request))).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  it('asks for Basic authorization', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['http'], users: { ada: 'secret' } });
    const ask = (field: string): Promise<Buffer> => exchange(proxy.port, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n${field}\r\n`);
    expect(String(await ask(''))).toMatch(/^HTTP\/1.1 407 /);
    expect(String(await ask('Proxy-Authorization: Basic YWRhOndyb25n\r\n'))).toMatch(/^HTTP\/1.1 407 /);
    expect(String(await ask('proxy-authorization: basic YWRhOnNlY3JldA==\r\n'))).toMatch(/^HTTP\/1.1 200 /);
  });

  it('gives up on heads without an end', async () => {
    const proxy = await start({ accept: ['http'] });
    const socket = client(proxy.port);
    socket.write(`CONNECT x:1 HTTP/1.1\r\n${'X-Filler: 0123456789\r\n'.repeat(1000)}`);
    expect((await recordOf(proxy)).end).toBe('HANDSHAKE_TOO_LONG');
  });
});

describe('Convert (RFC 8803)', () => {
  it('encodes the examples of §6: header, Connect, Info', () => {
    expect(Buffer.from(convertMessage([{ type: 'connect', address: '192.0.2.1', port: 443, options: [] }])).toString('hex')).toBe(
      '010622630a0501bb00000000000000000000ffffc0000201',
    );
    expect(Buffer.from(convertMessage([{ type: 'info' }])).toString('hex')).toBe('0102226301010000');
    const asks = convertMessage([{ type: 'connect', address: '2001:db8::1', port: 80, options: [{ kind: 30, value: null }] }]);
    expect([asks.length, messageLength(asks)]).toEqual([28, 28]);
    expect(parseTlvs(asks.subarray(4))).toEqual([{ type: 'connect', address: '2001:db8::1', port: 80, options: [{ kind: 30, value: null }] }]);
  });

  it.each([
    ['a TLV twice', Uint8Array.from([1, 1, 0, 0, 1, 1, 0, 0]), CONVERT_ERROR.malformed],
    ['a TLV of length 0', Uint8Array.from([1, 0, 0, 0]), CONVERT_ERROR.malformed],
    ['a TLV beyond the end', Uint8Array.from([10, 5, 0, 80]), CONVERT_ERROR.malformed],
    ['a Connect that is too short', Uint8Array.from([10, 1, 0, 80]), CONVERT_ERROR.malformed],
    ['type 0', Uint8Array.from([0, 1, 0, 0]), CONVERT_ERROR.unsupportedMessage],
    ['an unknown type', Uint8Array.from([99, 1, 0, 0]), CONVERT_ERROR.unsupportedMessage],
  ])('answers %s with its error', (_name, bytes, error) => {
    const tlvs = parseTlvs(bytes);
    expect(isFault(tlvs) && tlvs.fault).toBe(error);
  });

  it('connects through a converter, with data in the first message', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['convert'] });
    const socket = await connectThroughConverter({
      converter: { host: '127.0.0.1', port: proxy.port },
      address: '127.0.0.1',
      port,
      early: Buffer.from('early '),
    });
    socket.end('late');
    let got = '';
    for await (const chunk of socket) got += String(chunk);
    expect(got).toBe('early late');
  });

  it('gets a cookie first where one is asked for', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['convert'], cookies: true });
    const socket = await connectThroughConverter({ converter: { host: '127.0.0.1', port: proxy.port }, address: '127.0.0.1', port });
    socket.end('with a cookie');
    let got = '';
    for await (const chunk of socket) got += String(chunk);
    expect(got).toBe('with a cookie');
    expect(proxy.records[0]).toMatchObject({ end: 'NOT_AUTHORIZED' });
  });

  it('a wrong cookie is not authorized', async () => {
    const proxy = await start({ accept: ['convert'], cookies: true });
    const answer = await exchange(proxy.port, convertMessage([{ type: 'cookie', cookie: new Uint8Array(16) }, { type: 'info' }]));
    expect(answer[6]).toBe(CONVERT_ERROR.notAuthorized);
  });

  it('tells which extensions it has', async () => {
    const proxy = await start({ accept: ['convert'], to: {} });
    const answer = await exchange(proxy.port, convertMessage([{ type: 'info' }]));
    expect(parseTlvs(new Uint8Array(answer.subarray(4)))).toEqual([{ type: 'supported', kinds: [30] }]);
  });

  it('says which options it cannot ask for', async () => {
    const proxy = await start({ accept: ['convert'] });
    const answer = await exchange(proxy.port, convertMessage([{ type: 'connect', address: '127.0.0.1', port: 80, options: [{ kind: 29, value: null }] }]));
    expect([answer[6], answer[7]]).toEqual([CONVERT_ERROR.unsupportedTcpOption, 29]);
  });

  it('refuses multicast destinations as malformed', async () => {
    const proxy = await start({ accept: ['convert'], allow: ['127.0.0.0/30'] });
    const answer = await exchange(proxy.port, convertMessage([{ type: 'connect', address: '224.0.0.1', port: 80, options: [] }]));
    // Loopback clients may use loopback servers; multicast is nobody's server.
    expect([answer[4], answer[6]]).toEqual([30, CONVERT_ERROR.malformed]);
  });

  it('a refused server is error 96 for the client', async () => {
    const proxy = await start({ accept: ['convert'] });
    await expect(connectThroughConverter({ converter: { host: '127.0.0.1', port: proxy.port }, address: '127.0.0.1', port: 1 })).rejects.toMatchObject({
      code: 'CONNECT_FAILED',
      convertError: CONVERT_ERROR.connectionReset,
    });
  });

  it.each([
    ['a length of 0', Buffer.from('01002263', 'hex')],
    ['another version', Buffer.from('02022263', 'hex')],
    ['another magic number', Buffer.from('01020000', 'hex')],
  ])('answers %s with an error or a reset', async (_name, header) => {
    const proxy = await start({ accept: ['convert'] });
    await exchange(proxy.port, header, Buffer.alloc(4)).catch(() => undefined);
    expect((await recordOf(proxy)).end).toBe('BAD_CONVERT');
  });

  it('a server that is no converter is told apart', async () => {
    const port = await target((socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await expect(connectThroughConverter({ converter: { host: '127.0.0.1', port }, address: '192.0.2.1', port: 80 })).rejects.toMatchObject({
      code: 'BAD_CONVERT',
    });
  });
});

describe('limits', () => {
  it('several protocols on one port are told apart', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['socks', 'http', 'convert'] });
    expect(String(await exchange(proxy.port, socksConnect('127.0.0.1', port), 'a')).slice(-1)).toBe('a');
    expect(String(await exchange(proxy.port, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`, 'b')).slice(-1)).toBe('b');
    expect(String(await exchange(proxy.port, convertMessage([{ type: 'connect', address: '127.0.0.1', port, options: [] }]), 'c')).slice(-1)).toBe('c');
  });

  it('clients that are not on the list are reset', async () => {
    const proxy = await start({ accept: ['socks'], allow: ['192.0.2.0/24'] });
    const socket = client(proxy.port);
    socket.resume();
    await closed(socket);
    expect((await recordOf(proxy)).end).toBe('NOT_ALLOWED');
  });

  it('slow-loris clients get no further than the handshake timeout', async () => {
    const proxy = await start({ accept: ['socks', 'http'], timeouts: { handshake: 150 } });
    const socket = client(proxy.port);
    const drip = setInterval(() => socket.write('C'), 20);
    const started = performance.now();
    socket.resume();
    await closed(socket);
    clearInterval(drip);
    expect(performance.now() - started).toBeLessThan(1500);
    expect((await recordOf(proxy)).end).toBe('HANDSHAKE_TIMEOUT');
  });

  it('connections beyond the limit are reset, those before stay', async () => {
    const port = await target(echo);
    const proxy = await start({ accept: ['forward'], target: { host: '127.0.0.1', port }, limits: { connections: 2 } });
    const [a, b] = [client(proxy.port), client(proxy.port)];
    a.write('a');
    b.write('b');
    await Promise.all([some(a, 1), some(b, 1)]);
    const c = client(proxy.port);
    c.resume();
    await closed(c);
    a.write('z');
    expect(String(await some(a, 1))).toBe('z');
    expect(proxy.proxy.counters.ends.get('TOO_MANY')).toBe(1);
  });

  it('garbage never throws and is always counted', async () => {
    const proxy = await start({ accept: ['socks', 'http', 'convert'], timeouts: { handshake: 100 } });
    let seed = Number(process.env['SEED'] ?? 1);
    const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 16;
    const firsts = [5, 0x43, 1, 0, 0xff];
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const bytes = Buffer.from(Array.from({ length: 1 + (random() % 80) }, () => random() & 255));
        bytes[0] = firsts[i % firsts.length]!;
        await exchange(proxy.port, bytes).catch(() => undefined);
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(proxy.proxy.counters.accepted).toBe(200);
    expect([...proxy.proxy.counters.ends.values()].reduce((a, b) => a + b, 0)).toBe(200);
    expect(proxy.proxy.counters.open).toBe(0);
  });

  it('lists and targets are checked when they are given', () => {
    expect(() => new AccessList(['192.0.2.0/33'])).toThrow(expect.objectContaining({ code: 'BAD_ACCESS_LIST' }));
    expect(() => new AccessList(['everyone'])).toThrow(expect.objectContaining({ code: 'BAD_ACCESS_LIST' }));
    expect(() => new ProxyServer({ accept: ['forward'] })).toThrow(expect.objectContaining({ code: 'BAD_TARGET' }));
    expect(parseTarget('[2001:db8::1]:443')).toEqual({ host: '2001:db8::1', port: 443 });
    expect(parseTarget('host')).toBeNull();
    const list = new AccessList(['loopback', '2001:db8::/32']);
    expect(['127.9.9.9', '::ffff:127.0.0.1', '::1', '2001:db8::5', '192.0.2.1', 'nonsense'].map((one) => list.allows(one))).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
    ]);
  });
});
