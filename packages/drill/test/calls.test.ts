/** System calls: those that wait, and what they leave to be seen. */
import { describe, expect, it } from 'vitest';
import { runDrill } from '@subflow/drill';
import { ACCEPTED, NEXT } from './scripts.ts';

const CLIENT = `0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0...0.3 connect(3, ..., ...) = 0
+0 > S 0:0(0) <...>
`;
const ANSWERED = `+0.2 < S. 0:0(0) ack 1 win 65535 <mss 1460>
+0 > . 1:1(0) ack 1
`;
const outcome = (source: string): unknown => runDrill('inline', source).failure;

describe('a call with a range', () => {
  it('blocks while other events go on, and returns within it', () => {
    expect(outcome(`${CLIENT}${ANSWERED}`)).toBeNull();
    expect(outcome(`${CLIENT}${ANSWERED}+0...2 read(3, ..., 100) = 50\n+1 < P. 1:51(50) ack 1 win 9\n+0 > . 1:1(0) ack 51`)).toBeNull();
  });

  it('that does not return in time fails, with its own line', () => {
    expect(outcome(CLIENT)).toMatchObject({ code: 'DRILL_TIMEOUT', line: 2, message: expect.stringContaining('connect would still block') as string });
    expect(outcome(`${CLIENT}${ANSWERED.replace('0.2', '0.4')}`)).toMatchObject({ code: 'DRILL_TIMEOUT', line: 2 });
    expect(outcome(`${ACCEPTED}+0...0.5 read(4, ..., 10) = 10`)).toMatchObject({ code: 'DRILL_TIMEOUT', line: NEXT });
  });

  it('that returns something else fails, with its own line', () => {
    const source = `${ACCEPTED}+0...1 read(4, ..., 10) = 10\n+0.1 < P. 1:6(5) ack 1 win 9\n+0 > . 1:1(0) ack 6`;
    expect(outcome(source)).toMatchObject({ code: 'DRILL_MISMATCH', line: NEXT, message: expect.stringContaining('read returned 5, expected 10') as string });
  });

  it('may return at once', () => {
    expect(outcome(ACCEPTED.replace('+0 accept', '+0...0.2 accept'))).toBeNull();
    expect(outcome(ACCEPTED.replace('+0 accept', '+.1...0.2 accept'))).toBeNull();
  });

  it('without a range it may not block', () => {
    expect(outcome(`${ACCEPTED}+0 read(4, ..., 10) = 10\n+0.1 < P. 1:11(10) ack 1 win 9`)).toMatchObject({ code: 'DRILL_TIMEOUT', line: NEXT });
  });
});

describe('results', () => {
  it.each([
    [
      'a socket that does not block says so',
      `${ACCEPTED}+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n+0 read(4, ..., 10) = -1 EAGAIN (Resource temporarily unavailable)`,
    ],
    ['EWOULDBLOCK is the same', `${ACCEPTED}+0 fcntl(4, F_SETFL, O_NONBLOCK) = 0\n+0 read(4, ..., 10) = -1 EWOULDBLOCK`],
    ['a socket made so', '0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, IPPROTO_TCP) = 3\n+0 connect(3, ..., ...) = -1 EINPROGRESS'],
    ['flags are told in any notation', `${ACCEPTED}+0 fcntl(4, F_GETFL) = 0x2 (flags O_RDWR)`],
    ['any result', `${ACCEPTED}+0 write(4, ..., 10) = ...`],
    ['any error', `${ACCEPTED}+0 listen(4, 1) = -1`],
    ['a port twice', `${ACCEPTED}+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 5\n+0 bind(5, ..., ...) = 0\n+0 listen(5, 1) = -1 EADDRINUSE`],
    ['a listener without a port', '0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 listen(3, 1) = -1 EINVAL'],
    [
      'an error is told once',
      `${ACCEPTED}+0 < R. 1:1(0) ack 1\n+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [ECONNRESET], [4]) = 0\n+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [0], [4]) = 0`,
    ],
  ])('%s', (_what, source) => expect(outcome(source)).toBeNull());
});

describe('closing', () => {
  const LINGER = (onoff: number): string => `+0 setsockopt(4, SOL_SOCKET, SO_LINGER, {onoff=${onoff}, linger=0}, 8) = 0\n`;

  it('resets with SO_LINGER and no time (RFC 9293 §3.10.5), ends with a FIN without', () => {
    expect(outcome(`${ACCEPTED}${LINGER(1)}+0 close(4) = 0\n+0 > R. 1:1(0) ack 1`)).toBeNull();
    expect(outcome(`${ACCEPTED}${LINGER(1)}${LINGER(0)}+0 close(4) = 0\n+0 > F. 1:1(0) ack 1`)).toBeNull();
  });

  it('an accepted socket has the option of its listener', () => {
    expect(outcome(`${ACCEPTED.replace('+0 listen', `${LINGER(1).replace('(4', '(3')}+0 listen`)}+0 close(4) = 0\n+0 > R. 1:1(0) ack 1`)).toBeNull();
  });
});

describe('times of commands', () => {
  it('count for what comes after them, as a sleep does', () => {
    const source = (command: string, time: string): string => `${ACCEPTED}${command}\n+0 write(4, ..., 10) = 10\n${time} > P. 1:11(10) ack 1`;
    expect(outcome(source('+1 `true`', '1.01'))).toBeNull();
    expect(outcome(source('+0 `sleep 2.5`', '2.51'))).toBeNull();
    expect(outcome(source('+0 `sleep 2.5`', '2.6'))).toMatchObject({ code: 'DRILL_TIMEOUT' });
  });
});

describe('sequence numbers of SACK', () => {
  const SACK = ACCEPTED.replace('<mss 1460>', '<mss 1000, sackOK>').replace('<mss 1460>', '<...>');

  it('count from the SYN of whose data they name, in both directions', () => {
    expect(outcome(`${SACK}+0 < P. 101:201(100) ack 1 win 257\n+0 > . 1:1(0) ack 1 <sack 101:201>`)).toBeNull();
    expect(outcome(`${SACK}+0 < P. 101:201(100) ack 1 win 257\n+0 > . 1:1(0) ack 1 <sack 102:201>`)).toMatchObject({
      message: expect.stringContaining('sack: blocks is 101:201, expected 102:201') as string,
    });
  });
});
