/** A kernel Multipath TCP client that downloads and notes its progress; runs inside a namespace. */
import { createHash } from 'node:crypto';
import { parseAddress } from '@subflow/wire';
import { kernelConnect, mptcpInfo } from '@subflow/link';

const [address, port] = process.argv.slice(2);
const start = performance.now();
const socket = kernelConnect(parseAddress(address!), Number(port), { congestion: 'reno' });
const hash = createHash('sha256');
let head = '';
let expected = -1;
let received = 0;
let last = 0;
let gap = 0;
let gapAt = 0;
socket.write('GET /payload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
socket.on('data', (chunk: Buffer) => {
  let body = chunk;
  if (expected < 0) {
    head += chunk.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    expected = Number(/content-length: (\d+)/i.exec(head)![1]);
    body = Buffer.from(head.slice(end + 4), 'latin1');
  }
  const now = (performance.now() - start) / 1000;
  if (received > 0 && now - last > gap) {
    gap = now - last;
    gapAt = last;
  }
  last = now;
  received += body.length;
  hash.update(body);
  if (received < expected) return;
  const info = mptcpInfo(socket);
  process.stdout.write(
    `${JSON.stringify({ seconds: now, received, longestGapSeconds: gap, longestGapAt: gapAt, sha256: hash.digest('hex'), subflows: info?.subflows ?? -1, fallback: info?.fallback ?? true, claimed: /x-sha256: (\w+)/i.exec(head)![1] })}\n`,
  );
  process.exit(0);
});
socket.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
