import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parseAddress } from '@subflow/wire';
import type { Connection } from '@subflow/stack';
import { addressesOf, Bench } from './bench.ts';
import { describeSystem } from './require-system.ts';
import { ourHttpServer } from './our-http-server.ts';
import { tsharkOpinion } from './tshark.ts';

const SIZE = 8_000_000;
const body = Buffer.alloc(SIZE);
for (let i = 0; i < SIZE; i += 4) body.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);
const digest = createHash('sha256').update(body).digest('hex');

function collect(child: ReturnType<Bench['namespace']['start']>): Promise<{ out: Buffer; err: string; code: number | null }> {
  const out: Buffer[] = [];
  let err = '';
  child.stdout!.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr!.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return new Promise((resolve) => child.once('close', (code) => resolve({ out: Buffer.concat(out), err, code })));
}

async function withBench(body: (bench: Bench, capture: string) => Promise<void>, subflows = 2): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'subflow-programs-'));
  const capture = join(directory, 'programs.pcapng');
  const bench = new Bench({ label: 'prog', paths: Array.from({ length: subflows }, () => ({ family: 4 as const })), capture });
  bench.namespace.mptcpLimits(8, 8);
  try {
    await body(bench, capture);
  } finally {
    bench.remove();
    rmSync(directory, { recursive: true, force: true });
  }
}

describeSystem('programs we did not write', () => {
  it('curl under mptcpize downloads from our server, through a joined subflow', () =>
    withBench(async (bench, capture) => {
      bench.namespace.mptcpEndpoint(addressesOf(4, 1).kernel, bench.tuns[1]!.name, 'subflow');
      const server = ourHttpServer(bench.runner, 8080, body, 2);
      const result = await collect(bench.namespace.start('mptcpize', ['run', 'curl', '-sS', '--max-time', '30', `http://${addressesOf(4, 0).ours}:8080/`]));
      expect(result.err).toBe('');
      expect(createHash('sha256').update(result.out).digest('hex')).toBe(digest);
      expect(server.connections.map((one) => [one.mode, one.subflowsSeen])).toEqual([['mptcp', 2]]);
      expect(bench.namespace.counters().get('MPTcpExtMPCapableSYNACKRX')).toBe(1);
      bench.remove();
      expect(tsharkOpinion(capture)).toEqual({ bad: [], connections: 1, subflows: 2 });
    }));

  it('our client downloads from nginx under mptcpize, over two subflows', () =>
    withBench(async (bench, capture) => {
      const directory = mkdtempSync(join(tmpdir(), 'subflow-nginx-'));
      writeFileSync(join(directory, 'file'), body);
      writeFileSync(
        join(directory, 'nginx.conf'),
        `daemon off; master_process off; user root; pid ${directory}/pid; error_log stderr; events {} http { access_log off; client_body_temp_path ${directory}; proxy_temp_path ${directory}; fastcgi_temp_path ${directory}; uwsgi_temp_path ${directory}; scgi_temp_path ${directory}; server { listen ${addressesOf(4, 0).kernel}:8080; root ${directory}; } }`,
      );
      bench.namespace.start('mptcpize', ['run', 'nginx', '-c', join(directory, 'nginx.conf')]);
      await new Promise((resolve) => setTimeout(resolve, 700));
      bench.host.addEndpoint({ address: parseAddress(addressesOf(4, 1).ours), subflow: true });
      const got = await httpGet(bench, parseAddress(addressesOf(4, 0).kernel), 8080, '/file');
      expect(got.digest).toBe(digest);
      expect(got.connection.mode).toBe('mptcp');
      expect(got.subflows).toBe(2);
      expect(bench.namespace.counters().get('MPTcpExtMPJoinAckRx')).toBe(1);
      bench.remove();
      expect(tsharkOpinion(capture)).toEqual({ bad: [], connections: 1, subflows: 2 });
      rmSync(directory, { recursive: true, force: true });
    }));

  it('iperf3 -s under mptcpize counts every byte that our iperf client uploads', () =>
    withBench(async (bench) => {
      bench.namespace.start('mptcpize', ['run', 'iperf3', '-s', '-B', addressesOf(4, 0).kernel, '-p', '5201', '-1']);
      await new Promise((resolve) => setTimeout(resolve, 500));
      bench.host.addEndpoint({ address: parseAddress(addressesOf(4, 1).ours), subflow: true });
      const { iperfClient } = await import('./iperf-client.ts');
      const result = await iperfClient(bench.runner, parseAddress(addressesOf(4, 0).kernel), 5201, SIZE);
      expect(result.serverBytes).toBe(SIZE);
      expect(result.modes).toEqual(['mptcp', 'mptcp']);
      const counters = bench.namespace.counters();
      expect(counters.get('MPTcpExtMPCapableACKRX')).toBe(2);
      expect(counters.get('MPTcpExtMPJoinAckRx')).toBeGreaterThanOrEqual(1);
    }));
});

async function httpGet(bench: Bench, address: Uint8Array, port: number, path: string): Promise<{ digest: string; connection: Connection; subflows: number }> {
  const hash = createHash('sha256');
  const { runner } = bench;
  const connection = runner.host.connect({ remote: address, port }, bench.now());
  connection.write(new TextEncoder().encode(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`), bench.now());
  let head = '';
  let inBody = false;
  let subflows = 0;
  return new Promise((resolve) => {
    runner.onEvent = (event, now) => {
      if (!('connection' in event) || event.connection !== connection.id) return;
      if (event.type === 'subflow-established') subflows++;
      for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
        let used = chunk.length;
        if (inBody) {
          hash.update(chunk);
        } else {
          const before = head.length;
          head += Buffer.from(chunk).toString('latin1');
          const end = head.indexOf('\r\n\r\n');
          if (end >= 0) {
            used = end + 4 - before;
            inBody = true;
          }
        }
        connection.consume(used, now);
      }
      if (event.type === 'connection-end') connection.shutdown(now);
      if (event.type === 'connection-closed') resolve({ digest: hash.digest('hex'), connection, subflows });
      runner.pump();
    };
    runner.pump();
  });
}
