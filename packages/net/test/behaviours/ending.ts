import { expect } from 'vitest';
import { behaviours, counter, errorOf, happens, pause, textOf } from './kit.ts';

export const ending = behaviours({
  'end sends what is left and then the end': [
    'socket-end-callback',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.write('almost ');
      client.end('done');
      expect(await textOf(peer)).toBe('almost done');
    },
  ],
  'the callback of end comes after finish': [
    'socket-end-callback',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      await new Promise<void>((resolve) => void client.end('x', resolve));
      expect(client.writableFinished).toBe(true);
    },
  ],
  'end tells the other side end': [
    'end-close',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      client.end();
      await happens(peer, 'end');
    },
  ],
  'without allowHalfOpen the other side ends by itself': [
    'allow-half-open',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      client.resume();
      client.end();
      await Promise.all([happens(peer, 'close'), happens(client, 'close')]);
      expect(peer.writableEnded).toBe(true);
    },
  ],
  'with allowHalfOpen a server answers after the end of the request': [
    'allow-half-open',
    async (kit) => {
      const { client, peer } = await kit.pair({ server: { allowHalfOpen: true } });
      client.end('question');
      let got = '';
      peer.on('data', (chunk: Buffer) => (got += String(chunk)));
      await happens(peer, 'end');
      expect(peer.writable).toBe(true);
      peer.end(`${got} answered`);
      expect(await textOf(client)).toBe('question answered');
    },
  ],
  'with allowHalfOpen a client goes on after the end of the server': [
    'connect-options-allowhalfopen',
    async (kit) => {
      const { client, peer } = await kit.pair({ client: { allowHalfOpen: true } });
      const received = textOf(peer);
      client.resume();
      peer.end();
      await happens(client, 'end');
      expect(client.readyState).toBe('writeOnly');
      client.end('afterwards');
      expect(await received).toBe('afterwards');
    },
  ],
  'after end readyState is readOnly': [
    'socket-no-halfopen-enforcer',
    async (kit) => {
      const { client } = await kit.pair({ server: { allowHalfOpen: true } });
      client.end();
      await happens(client, 'finish');
      expect(client.readyState).toBe('readOnly');
    },
  ],
  'after the end readyState is closed': [
    'connect-options-allowhalfopen',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      client.resume();
      client.end();
      await happens(client, 'close');
      expect(client.readyState).toBe('closed');
    },
  ],
  'end, then close, in that order': [
    'end-close',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const order: string[] = [];
      client.on('end', () => order.push('end')).on('close', () => order.push('close'));
      client.resume();
      peer.end();
      await happens(client, 'close');
      expect(order).toEqual(['end', 'close']);
    },
  ],
  'close without an error says false': [
    'end-close',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.resume();
      peer.end();
      const hadError = await happens<boolean>(client, 'close');
      expect(hadError).toBe(false);
    },
  ],
  'close comes once': [
    'socket-destroy-twice',
    async (kit) => {
      const { client } = await kit.pair();
      const closes = counter(client, 'close');
      client.destroy();
      client.destroy();
      await pause(40);
      expect(closes.count).toBe(1);
    },
  ],
  'destroy ends the other side': [
    'end-destroyed',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      peer.on('error', () => undefined);
      client.destroy();
      await happens(peer, 'close');
    },
  ],
  'destroy with an error emits it': [
    'after-close',
    async (kit) => {
      const { client } = await kit.pair();
      const failed = errorOf(client);
      client.destroy(new Error('mine'));
      expect((await failed).message).toBe('mine');
    },
  ],
  'destroyed is true at once': [
    'during-close',
    async (kit) => {
      const { client } = await kit.pair();
      client.destroy();
      expect(client.destroyed).toBe(true);
    },
  ],
  'after close addresses are gone': [
    'after-close',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      client.destroy();
      await happens(client, 'close');
      client.setNoDelay();
      client.setKeepAlive();
      client.pause();
      client.resume();
      expect(client.address()).toEqual({});
    },
  ],
  'remoteAddress asked for before stays after close': [
    'remote-address-port',
    async (kit) => {
      const { client, peer, port } = await kit.pair();
      peer.resume();
      expect(client.remotePort).toBe(port);
      client.destroy();
      await happens(client, 'close');
      expect(client.remotePort).toBe(port);
    },
  ],
  'write after end gives ERR_STREAM_WRITE_AFTER_END': [
    'write-after-end-nt',
    async (kit) => {
      const { client } = await kit.pair();
      client.end();
      const failed = errorOf(client);
      client.write('too late');
      expect(['ERR_STREAM_WRITE_AFTER_END', 'EPIPE']).toContain((await failed).code);
    },
  ],
  'write after destroy gives an error to the callback': [
    'write-after-close',
    async (kit) => {
      const { client } = await kit.pair();
      client.on('error', () => undefined);
      client.destroy();
      const error = await new Promise<Error | null | undefined>((resolve) => void client.write('x', resolve));
      expect((error as NodeJS.ErrnoException).code).toBe('ERR_STREAM_DESTROYED');
    },
  ],
  'write in close gives an error to the callback': [
    'socket-write-after-close',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.on('error', () => undefined);
      client.resume();
      peer.end();
      await happens(client, 'close');
      const error = await new Promise<Error | null | undefined>((resolve) => void client.write('x', resolve));
      expect(error).toBeInstanceOf(Error);
    },
  ],
  'resetAndDestroy gives the other side ECONNRESET': [
    'server-reset',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      const failed = errorOf(peer);
      client.resetAndDestroy();
      const error = await failed;
      expect([error.code, error.syscall]).toEqual(['ECONNRESET', 'read']);
    },
  ],
  'resetAndDestroy closes without an error here': [
    'connect-reset',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.on('error', () => undefined);
      const errors = counter(client, 'error');
      client.resetAndDestroy();
      await happens(client, 'close');
      expect(errors.count).toBe(0);
    },
  ],
  'resetAndDestroy while connecting resets once connected': [
    'connect-reset-until-connected',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.connect({ port, host: '127.0.0.1' });
      client.resetAndDestroy();
      const connects = counter(client, 'connect');
      await happens(client, 'close');
      expect(connects.count).toBe(1);
    },
  ],
  'resetAndDestroy after destroy does nothing': [
    'connect-reset-after-destroy',
    async (kit) => {
      const { client } = await kit.pair();
      client.destroy();
      const failed = errorOf(client).catch(() => null);
      client.resetAndDestroy();
      await pause(20);
      client.emit('error', new Error('end of test'));
      expect(await failed).toBeInstanceOf(Error);
    },
  ],
  'resetting twice is once': [
    'socket-reset-twice',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.on('error', () => undefined);
      const closes = counter(client, 'close');
      client.resetAndDestroy();
      client.resetAndDestroy();
      await pause(40);
      expect(closes.count).toBe(1);
    },
  ],
  'writing after a reset fails': [
    'socket-reset-send',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.on('error', () => undefined);
      client.on('error', () => undefined);
      client.resetAndDestroy();
      const error = await new Promise<Error | null | undefined>((resolve) => void client.write('x', resolve));
      expect((error as NodeJS.ErrnoException).code).toBe('ERR_STREAM_DESTROYED');
    },
  ],
  'closing with unread data resets the other side': [
    'socket-close-after-end',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.on('error', () => undefined);
      client.pause();
      for (let i = 0; i < 20; i++) peer.write(Buffer.alloc(65536));
      await pause(40);
      client.destroy();
      await happens(peer, 'close');
      expect(peer.destroyed).toBe(true);
    },
  ],
  'destroySoon sends first': [
    'end-destroyed',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const received = textOf(peer);
      client.write('before ');
      client.write('the end');
      (client as unknown as { destroySoon(): void }).destroySoon();
      expect(await received).toBe('before the end');
    },
  ],
  'writableEnded and writableFinished tell': [
    'writable',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      expect(client.writableEnded).toBe(false);
      client.end('x');
      expect(client.writableEnded).toBe(true);
      await happens(client, 'finish');
      expect(client.writableFinished).toBe(true);
    },
  ],
  'readableEnded tells': [
    'writable',
    async (kit) => {
      const { client, peer } = await kit.pair({ client: { allowHalfOpen: true } });
      client.resume();
      peer.end('x');
      await happens(client, 'end');
      expect(client.readableEnded).toBe(true);
    },
  ],
  'end without data is an end': [
    'end-without-connect',
    async (kit) => {
      const { client, peer } = await kit.pair();
      client.end();
      expect(await textOf(peer)).toBe('');
    },
  ],
  'end of a socket that never connected': [
    'end-without-connect',
    async (kit) => {
      const client = kit.socket();
      client.end();
      client.on('error', () => undefined);
      await pause(10);
      expect(client.writableEnded).toBe(true);
    },
  ],
  'a timeout fires when nothing happens': [
    'socket-timeout',
    async (kit) => {
      const { client } = await kit.pair();
      const started = performance.now();
      client.setTimeout(50);
      await happens(client, 'timeout');
      expect(performance.now() - started).toBeGreaterThan(40);
    },
  ],
  'a timeout leaves the socket open': [
    'settimeout',
    async (kit) => {
      const { client } = await kit.pair();
      client.setTimeout(20);
      await happens(client, 'timeout');
      expect([client.destroyed, client.writable]).toEqual([false, true]);
    },
  ],
  'received data starts the timeout anew': [
    'can-reset-timeout',
    async (kit) => {
      const { client, peer } = await kit.pair();
      const timeouts = counter(client, 'timeout');
      client.resume();
      client.setTimeout(120);
      for (let i = 0; i < 5; i++) {
        await pause(50);
        peer.write('x');
      }
      expect(timeouts.count).toBe(0);
    },
  ],
  'sent data starts the timeout anew': [
    'can-reset-timeout',
    async (kit) => {
      const { client, peer } = await kit.pair();
      peer.resume();
      const timeouts = counter(client, 'timeout');
      client.setTimeout(120);
      for (let i = 0; i < 5; i++) {
        await pause(50);
        client.write('x');
      }
      expect(timeouts.count).toBe(0);
    },
  ],
  'setTimeout(0) turns it off': [
    'settimeout',
    async (kit) => {
      const { client } = await kit.pair();
      const timeouts = counter(client, 'timeout');
      client.setTimeout(20);
      client.setTimeout(0);
      await pause(60);
      expect(timeouts.count).toBe(0);
    },
  ],
  'setTimeout takes a listener': [
    'settimeout',
    async (kit) => {
      const { client } = await kit.pair();
      await new Promise<void>((resolve) => void client.setTimeout(10, resolve));
    },
  ],
  'setTimeout refuses what is no number': [
    'socket-timeout',
    (kit) => {
      expect(() => kit.socket().setTimeout('100' as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    },
  ],
  'setTimeout refuses negative numbers': [
    'socket-timeout',
    (kit) => {
      expect(() => kit.socket().setTimeout(-1)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    },
  ],
  'setTimeout refuses a listener that is none': [
    'socket-timeout',
    (kit) => {
      expect(() => kit.socket().setTimeout(1, 'x' as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    },
  ],
  'timeout tells what was set': [
    'settimeout',
    async (kit) => {
      const { client } = await kit.pair();
      client.setTimeout(1234);
      expect(client.timeout).toBe(1234);
    },
  ],
  'a destroyed socket has no timeout': [
    'timeout-no-handle',
    async (kit) => {
      const { client } = await kit.pair();
      const timeouts = counter(client, 'timeout');
      client.setTimeout(30);
      client.destroy();
      await pause(60);
      expect(timeouts.count).toBe(0);
    },
  ],
  'ref and unref return the socket': [
    'persistent-ref-unref',
    async (kit) => {
      const { client } = await kit.pair();
      expect([client.unref(), client.ref()]).toEqual([client, client]);
    },
  ],
  'ref and unref before connect are kept': [
    'persistent-ref-unref',
    async (kit) => {
      const { port } = await kit.echo();
      const client = kit.socket();
      client.unref();
      client.ref();
      client.connect({ port, host: '127.0.0.1' });
      await happens(client, 'connect');
    },
  ],
});
