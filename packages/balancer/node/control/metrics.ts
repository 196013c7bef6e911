/** A report for Prometheus. */
import { Gauge, Registry } from 'prom-client';
import type { Report } from './controller.ts';

export async function metricsText(report: Report): Promise<{ type: string; text: string }> {
  const registry = new Registry();
  const gauge = <T extends string>(name: string, help: string, labelNames: readonly T[]): Gauge<T> =>
    new Gauge({ name: `subflow_lb_${name}`, help, labelNames: [...labelNames], registers: [registry] });
  const packets = gauge('packets_total', 'Packets of a service by what became of them', ['service', 'outcome']);
  const perServer = gauge('server_packets_total', 'Packets forwarded to a server', ['service', 'server']);
  const healthy = gauge('server_healthy', 'Whether health checks find the server well', ['service', 'server']);
  const weight = gauge('server_weight', 'Weight of the server; 0 while it drains', ['service', 'server']);
  gauge('generation', 'Generation of the list of servers', []).set(report.generation);
  gauge('leading', 'Whether this balancer checks the servers', []).set(report.leading ? 1 : 0);
  gauge('store_away', 'Whether the store does not answer', []).set(report.storeAway ? 1 : 0);
  for (const service of report.services) {
    for (const [outcome, count] of Object.entries(service.packets)) packets.set({ service: service.name, outcome }, count);
    for (const server of service.servers) {
      const labels = { service: service.name, server: server.name };
      perServer.set(labels, server.packets);
      healthy.set(labels, server.healthy ? 1 : 0);
      weight.set(labels, server.wanted === 'active' ? server.weight : 0);
    }
  }
  return { type: registry.contentType, text: await registry.metrics() };
}
