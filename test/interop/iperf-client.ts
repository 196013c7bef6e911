/** Enough of iperf3's protocol (esnet/iperf, api_iperf.h) to upload to, or download from, the real `iperf3 -s` with our stack. */
import { randomBytes } from 'node:crypto';
import type { Connection } from '@subflow/stack';
import { now } from '@subflow/link';
import type { Runner } from './stack-peer.ts';

const STATE = { paramExchange: 9, createStreams: 10, testStart: 1, testRunning: 2, testEnd: 4, exchangeResults: 13, displayResults: 14, done: 16 } as const;

export interface IperfResult {
  /** What the server says it received, or sent. */
  serverBytes: number;
  received: number;
  /** From the first byte to the last acknowledgement or arrival. */
  seconds: number;
  modes: string[];
}

/** Moves `size` bytes on one stream; `reverse`: from the server to us. */
export async function iperfClient(runner: Runner, address: Uint8Array, port: number, size: number, reverse = false): Promise<IperfResult> {
  const { host } = runner;
  const control = host.connect({ remote: address, port }, now());
  control.noDelay = true;
  // 36 characters and a NUL name the test on both connections.
  const cookie = new Uint8Array([...Buffer.from(randomBytes(27).toString('base64').replace(/[+/=]/g, 'a').slice(0, 36)), 0]);
  let data: Connection | null = null;
  let inbox = Buffer.alloc(0);
  let sent = 0;
  let received = 0;
  let startedAt = 0;
  let finishedAt = 0;
  let expectLength = false;
  const chunk = new Uint8Array(65536).fill(0x61);
  control.write(cookie, now());
  runner.pump();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`iperf3 did not finish: ${sent} bytes sent`)), 20_000);
    const send = (): void => {
      while (data !== null && !reverse && running && sent < size) {
        const piece = chunk.subarray(0, Math.min(chunk.length, size - sent));
        if (!data.write(piece, now())) return;
        sent += piece.length;
      }
    };
    const json = (value: object): void => {
      const text = Buffer.from(JSON.stringify(value));
      const length = Buffer.alloc(4);
      length.writeUInt32BE(text.length);
      control.write(Buffer.concat([length, text]), now());
    };
    const state = (value: number): void => void control.write(new Uint8Array([value]), now());
    const step = (value: number): void => {
      switch (value) {
        case STATE.paramExchange:
          json({
            tcp: true,
            omit: 0,
            time: 0,
            num: size,
            blockcount: 0,
            parallel: 1,
            len: 131072,
            congestion: 'reno',
            ...(reverse ? { reverse: true } : {}),
            client_version: '3.12',
          });
          break;
        case STATE.createStreams:
          data = host.connect({ remote: address, port }, now());
          data.write(cookie, now());
          break;
        case STATE.testRunning:
          running = true;
          if (!reverse) startedAt = now();
          send();
          finish();
          break;
        case STATE.exchangeResults:
          json({
            cpu_util_total: 0,
            cpu_util_user: 0,
            cpu_util_system: 0,
            sender_has_retransmits: 0,
            streams: [{ id: 1, bytes: reverse ? received : size, retransmits: 0, jitter: 0, errors: 0, packets: 0, start_time: 0, end_time: 1 }],
          });
          expectLength = true;
          break;
        default:
          break;
      }
    };
    let ended = false;
    let running = false;
    const finish = (): void => {
      // The server stops counting at TEST_END: say it when everything is acknowledged.
      if (ended || data === null || !running) return;
      if (reverse ? received < size : sent < size || data.dataUna < data.sendBuffer.end) return;
      ended = true;
      finishedAt = now();
      state(STATE.testEnd);
    };
    runner.onEvent = (_event, time) => {
      for (let bytes = control.peek(); bytes !== null; bytes = control.peek()) {
        inbox = Buffer.concat([inbox, bytes]);
        control.consume(bytes.length, time);
      }
      if (reverse && data !== null) {
        for (let bytes = data.peek(); bytes !== null; bytes = data.peek()) {
          // The server may start before its TEST_RUNNING reaches us.
          if (startedAt === 0) startedAt = now();
          received += bytes.length;
          data.consume(bytes.length, time);
        }
      }
      send();
      finish();
      while (inbox.length > 0) {
        if (expectLength) {
          if (inbox.length < 4 || inbox.length < 4 + inbox.readUInt32BE(0)) break;
          const length = inbox.readUInt32BE(0);
          const results = JSON.parse(inbox.subarray(4, 4 + length).toString()) as { streams: { bytes: number }[] };
          inbox = inbox.subarray(4 + length);
          expectLength = false;
          state(STATE.done);
          clearTimeout(timer);
          resolve({ serverBytes: results.streams[0]!.bytes, received, seconds: (finishedAt - startedAt) / 1e6, modes: [control.mode, data!.mode] });
          data!.shutdown(time);
          control.shutdown(time);
          continue;
        }
        const value = inbox.readInt8(0);
        inbox = inbox.subarray(1);
        step(value);
      }
      runner.pump();
    };
    const poll = setInterval(() => {
      finish();
      runner.pump();
      if (ended) clearInterval(poll);
    }, 5);
  });
}
