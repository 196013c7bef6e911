/** The monitor's numbers for Prometheus. */
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { Gauge, Registry } from 'prom-client';
import type { View } from '@subflow/net';

const SUBFLOW_LABELS = ['source', 'connection', 'interface', 'local', 'remote'] as const;

/** Serves `/metrics`; `view` gives the latest numbers. */
export function serveMetrics(port: number, address: string, view: () => Promise<View>, ready: () => void): Server {
  const registry = new Registry();
  const gauge = <T extends string>(name: string, help: string, labelNames: readonly T[]): Gauge<T> =>
    new Gauge({ name: `subflow_${name}`, help, labelNames: [...labelNames], registers: [registry] });
  const connections = gauge('connections', 'Multipath TCP connections, by source and whether they fell back', ['source', 'fallback']);
  const received = gauge('subflow_received_bytes', 'Payload bytes received on a subflow', SUBFLOW_LABELS);
  const sent = gauge('subflow_sent_bytes', 'Payload bytes sent on a subflow, retransmissions included', SUBFLOW_LABELS);
  const rtt = gauge('subflow_srtt_seconds', 'Smoothed round-trip time of a subflow', SUBFLOW_LABELS);
  const cwnd = gauge('subflow_cwnd_bytes', 'Congestion window of a subflow', SUBFLOW_LABELS);
  const retransmissions = gauge('subflow_retransmissions', 'Segments sent again on a subflow', SUBFLOW_LABELS);
  const counters = gauge('mptcp_counter', 'Linux’s MPTcpExt table', ['source', 'name']);
  const all = [connections, received, sent, rtt, cwnd, retransmissions, counters];
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('expected /metrics\n');
      return;
    }
    view()
      .then(async (now) => {
        for (const one of all) one.reset();
        for (const row of now.connections) {
          connections.inc({ source: row.source, fallback: String(row.status.version === null) });
          for (const { facts } of row.subflows) {
            const labels = {
              source: row.source,
              connection: row.status.key,
              interface: facts.interface ?? '',
              local: `${facts.localAddress}:${facts.localPort}`,
              remote: `${facts.remoteAddress}:${facts.remotePort}`,
            };
            received.set(labels, facts.bytesReceived);
            sent.set(labels, facts.bytesSent);
            rtt.set(labels, facts.srtt / 1e6);
            cwnd.set(labels, facts.cwnd);
            retransmissions.set(labels, facts.retransmissions);
          }
        }
        for (const [source, table] of Object.entries(now.counters)) for (const [name, value] of Object.entries(table)) counters.set({ source, name }, value);
        response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics());
      })
      .catch((error: Error) => response.writeHead(500, { 'content-type': 'text/plain' }).end(`${error.message}\n`));
  });
  server.listen(port, address, ready);
  return server;
}
