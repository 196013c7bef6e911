import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import type { Socket } from 'node:net';
import { expect } from 'vitest';
import { behaviours, counter, happens, pause, textOf } from './kit.ts';

export const data = behaviours({
  'bytes come back as they were sent': [
    'binary',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      const body = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
      client.end(body);
      const chunks: Buffer[] = [];
      for await (const chunk of client) chunks.push(chunk as Buffer);
      expect(Buffer.concat(chunks).equals(body)).toBe(true);
    },
  ],
  'data is a Buffer without an encoding': [
    'bytes-read',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.write('x');
      expect(Buffer.isBuffer(await happens(client, 'data'))).toBe(true);
    },
  ],
  'setEncoding gives strings': [
    'bytes-stats',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.setEncoding('utf8');
      peer.write('größer');
      expect(await happens(client, 'data')).toBe('größer');
    },
  ],
  'every encoding of write arrives': [
    'write-fully-async-hex-string',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.write('68656c6c6f', 'hex');
      client.write('IHdvcmxk', 'base64');
      client.write('\u00e9', 'latin1');
      client.write('ab', 'utf16le');
      client.end('é', 'utf8');
      expect(Buffer.from(await textOf(peer), 'latin1').toString('hex')).toBe('68656c6c6f20776f726c64e961006200c3a9');
    },
  ],
  'Uint8Arrays can be written': [
    'socket-write-error',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.end(new Uint8Array([104, 105]));
      expect(await textOf(peer)).toBe('hi');
    },
  ],
  'an argument of another type throws ERR_INVALID_ARG_TYPE': [
    'write-arguments',
    async (kit) => {
      const { client } = await kit.pair();
      expect(() => client.write({} as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    },
  ],
  'null cannot be written': [
    'write-arguments',
    async (kit) => {
      const { client } = await kit.pair();
      expect(() => client.write(null as never)).toThrow(expect.objectContaining({ code: 'ERR_STREAM_NULL_VALUES' }));
    },
  ],
  'writing nothing is fine': [
    'write-slow',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.write('');
      client.end('end');
      expect(await textOf(peer)).toBe('end');
    },
  ],
  'callbacks of write come in order': [
    'write-connect-write',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      const order: number[] = [];
      await new Promise<void>((resolve) => {
        for (let i = 0; i < 5; i++) client.write(`${i}`, () => order.push(i));
        client.write('last', () => resolve());
      });
      expect(order).toEqual([0, 1, 2, 3, 4]);
    },
  ],
  'a buffer may be changed once its write is done': [
    'write-fully-async-buffer',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const buffer = Buffer.alloc(65536, 'a');
      const received = textOf(peer);
      for (const letter of 'abcd') {
        buffer.fill(letter);
        await new Promise((resolve) => void client.write(buffer, resolve));
      }
      client.end();
      expect(await received).toBe([...'abcd'].map((letter) => letter.repeat(65536)).join(''));
    },
  ],
  'a large string arrives whole': [
    'large-string',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.end('x'.repeat(1_000_000));
      expect((await textOf(peer)).length).toBe(1_000_000);
    },
  ],
  'megabytes arrive unchanged in both directions at once': [
    'pingpong',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const [a, b] = [randomBytes(3_000_000), randomBytes(2_000_000)];
      client.end(a);
      peer.end(b);
      const hash = async (socket: Socket): Promise<string> => {
        const sum = createHash('sha1');
        for await (const chunk of socket) sum.update(chunk as Buffer);
        return sum.digest('hex');
      };
      const [atPeer, atClient] = await Promise.all([hash(peer), hash(client)]);
      expect([atPeer, atClient]).toEqual([a, b].map((body) => createHash('sha1').update(body).digest('hex')));
    },
  ],
  'messages go back and forth': [
    'pingpong',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.on('data', (chunk: Buffer) => peer.write(chunk));
      for (let i = 0; i < 100; i++) {
        client.write(`${i}`);
        expect(String(await happens(client, 'data'))).toBe(`${i}`);
      }
    },
  ],
  'write returns false when the reader is slow': [
    'throttle',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.pause();
      const piece = Buffer.alloc(65536);
      let calls = 0;
      while (client.write(piece) && calls < 1000) calls++;
      expect(client.writableNeedDrain).toBe(true);
      expect(calls).toBeLessThan(1000);
    },
  ],
  'drain comes when the reader reads on': [
    'throttle',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.pause();
      const piece = Buffer.alloc(65536);
      for (let i = 0; i < 800; i++) client.write(piece);
      const drained = once(client, 'drain');
      peer.resume();
      await drained;
      expect(client.writableLength).toBe(0);
    },
  ],
  'a paused socket does not read': [
    'pause-resume-connecting',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.pause();
      const seen = counter(client, 'data');
      peer.write('later');
      await pause(40);
      expect(seen.count).toBe(0);
      client.resume();
      await happens(client, 'data');
    },
  ],
  'a socket paused while connecting stays paused': [
    'pause-resume-connecting',
    async (kit) => {
      const server = kit.server({}, (socket) => socket.end('hello'));
      const port = await kit.listen(server);
      const client = kit.connect({ port, host: '127.0.0.1' });
      client.pause();
      const seen = counter(client, 'data');
      await happens(client, 'connect');
      await pause(40);
      expect(seen.count).toBe(0);
      client.resume();
      await happens(client, 'data');
    },
  ],
  'memory stays bounded while the reader sleeps': [
    'throttle',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.pause();
      const piece = Buffer.alloc(65536);
      for (let i = 0; i < 1000; i++) client.write(piece);
      await pause(50);
      expect(peer.readableLength).toBeLessThanOrEqual(2 * 65536);
      expect(client.writableLength).toBeGreaterThan(30_000_000);
    },
  ],
  'pipe copies a stream': [
    'stream',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const received = textOf(peer);
      await pipeline(Readable.from(['one ', 'two ', 'three']), client);
      expect(await received).toBe('one two three');
    },
  ],
  'bytesRead counts': [
    'bytes-read',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.resume();
      peer.end(Buffer.alloc(12345));
      await happens(client, 'close');
      expect(client.bytesRead).toBe(12345);
    },
  ],
  'bytesWritten counts bytes, not letters': [
    'socket-byteswritten',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      client.write('é');
      client.write(Buffer.alloc(10));
      client.end('abc', 'latin1');
      await happens(client, 'finish');
      expect(client.bytesWritten).toBe(15);
    },
  ],
  'bytesWritten counts what waits': [
    'bytes-written-large',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.pause();
      for (let i = 0; i < 100; i++) client.write(Buffer.alloc(100_000));
      expect(client.bytesWritten).toBe(10_000_000);
    },
  ],
  'bytesRead and bytesWritten stay after the end': [
    'access-byteswritten',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.on('data', (chunk: Buffer) => peer.end(chunk));
      client.resume();
      client.end('12345');
      await happens(client, 'close');
      expect([client.bytesRead, client.bytesWritten]).toEqual([5, 5]);
    },
  ],
  'cork sends in one piece': [
    'sync-cork',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const first = happens<Buffer>(peer, 'data');
      client.cork();
      for (let i = 0; i < 10; i++) client.write('abcdefghij');
      client.uncork();
      expect((await first).length).toBe(100);
    },
  ],
  'cork takes strings and buffers together': [
    'sync-cork',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.cork();
      client.write('a');
      client.write(Buffer.from('b'));
      client.write('63', 'hex');
      client.end();
      expect(await textOf(peer)).toBe('abc');
    },
  ],
  'async iteration reads to the end': [
    'stream',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.end('iterated');
      expect(await textOf(client)).toBe('iterated');
    },
  ],
  'a static buffer receives data by onread': [
    'onread-static-buffer',
    async (kit) => {
      const server = kit.server({}, (socket) => socket.end('static'));
      const port = await kit.listen(server);
      const buffer = Buffer.alloc(1024);
      let got = '';
      const client = kit.connect({
        port,
        host: '127.0.0.1',
        onread: {
          buffer,
          callback: (size: number, used: Uint8Array) => {
            got += Buffer.from(used.subarray(0, size)).toString();
            return true;
          },
        },
      });
      await happens(client, 'end');
      expect([got, buffer.subarray(0, 6).toString()]).toEqual(['static', 'static']);
    },
  ],
  'onread that returns false pauses': [
    'onread-static-buffer',
    async (kit) => {
      const server = kit.server({}, (socket) => socket.end(Buffer.alloc(5000, 'z')));
      const port = await kit.listen(server);
      let calls = 0;
      let total = 0;
      const client = kit.connect({
        port,
        host: '127.0.0.1',
        onread: {
          buffer: Buffer.alloc(1000),
          callback: (size: number) => {
            calls++;
            total += size;
            return calls !== 1;
          },
        },
      });
      await happens(client, 'connect');
      await pause(40);
      const before = calls;
      client.resume();
      await happens(client, 'end');
      expect(before).toBeLessThanOrEqual(5);
      expect(total).toBe(5000);
    },
  ],
  'highWaterMark is respected': [
    'buffersize',
    async (kit) => {
      const { client } = await kit.pair({ client: { highWaterMark: 10 } as never });
      expect(client.writableHighWaterMark).toBe(10);
    },
  ],
  'bufferSize is what waits to be written': [
    'buffersize',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.pause();
      for (let i = 0; i < 500; i++) client.write(Buffer.alloc(65536));
      expect(client.bufferSize).toBe(client.writableLength);
      expect(client.bufferSize).toBeGreaterThan(0);
    },
  ],
  'setNoDelay can be switched at any time': [
    'socket-setnodelay',
    async (kit) => {
      const { client, peer } = await kit.pair();
      expect(client.setNoDelay()).toBe(client);
      client.setNoDelay(false);
      client.setNoDelay(true);
      client.end('sent');
      expect(await textOf(peer)).toBe('sent');
    },
  ],
  'setNoDelay before connect counts': [
    'connect-nodelay',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.socket();
      client.setNoDelay(true);
      client.connect({ port, host: '127.0.0.1' });
      client.end('x');
      expect(await textOf(client)).toBe('x');
    },
  ],
  'the options noDelay and keepAlive are taken': [
    'connect-keepalive',
    async (kit) => {
      const { client, peer } = await kit.pair({ client: { noDelay: true, keepAlive: true, keepAliveInitialDelay: 1000 } as never });
      client.end('options');
      expect(await textOf(peer)).toBe('options');
    },
  ],
  'setKeepAlive returns the socket': [
    'keepalive',
    async (kit) => {
      const { client } = await kit.pair();
      expect(client.setKeepAlive(true, 50)).toBe(client);
      expect(client.setKeepAlive(false)).toBe(client);
    },
  ],
  'setKeepAlive before connect counts': [
    'persistent-keepalive',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.socket();
      client.setKeepAlive(true, 1000);
      client.connect({ port, host: '127.0.0.1' });
      await happens(client, 'connect');
    },
  ],
  'small writes one after the other arrive in order': [
    'write-slow',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const received = textOf(peer);
      for (let i = 0; i < 1000; i++) client.write(String.fromCharCode(97 + (i % 26)));
      client.end();
      expect((await received).slice(0, 30)).toBe('abcdefghijklmnopqrstuvwxyzabcd');
    },
  ],
  'data waits for a reader': [
    'connect-buffer',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.end('patience');
      await pause(40);
      expect(await textOf(client)).toBe('patience');
    },
  ],
  'unshift puts bytes back': [
    'stream',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.end('world');
      await happens(client, 'readable');
      client.unshift('hello ');
      expect(await textOf(client)).toBe('hello world');
    },
  ],
  'read in paused mode gives pieces of the wanted size': [
    'stream',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.end('abcdef');
      await happens(client, 'readable');
      while (client.readableLength < 6) await happens(client, 'readable');
      expect([String(client.read(2)), String(client.read(4))]).toEqual(['ab', 'cdef']);
    },
  ],
});
