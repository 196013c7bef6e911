/** A NATS cluster of real servers, with TLS and a password, one in each balancer's namespace. */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BalancerWorld } from '@subflow/balancer/node';
import { pause } from './farm.ts';

export const NATS_USER = 'subflow';
export const NATS_PASSWORD = 'never-in-production';

export interface NatsNode {
  child: ChildProcess;
  monitor: string;
  name: string;
}

export function certificates(directory: string, addresses: readonly string[]): { ca: string; certificate: string; key: string } {
  const path = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: 'ignore' });
  };
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=test authority',
    '-keyout',
    path('ca.key'),
    '-out',
    path('ca.pem'),
  );
  openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=nats', '-keyout', path('nats.key'), '-out', path('nats.csr'));
  writeFileSync(path('nats.ext'), `subjectAltName=${['DNS:nats.test', ...addresses.map((one) => `IP:${one}`)].join(',')}\n`);
  openssl(
    'x509',
    '-req',
    '-in',
    path('nats.csr'),
    '-CA',
    path('ca.pem'),
    '-CAkey',
    path('ca.key'),
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    path('nats.ext'),
    '-out',
    path('nats.pem'),
  );
  return { ca: path('ca.pem'), certificate: path('nats.pem'), key: path('nats.key') };
}

export async function natsCluster(world: BalancerWorld, directory: string): Promise<{ nodes: NatsNode[]; ca: string }> {
  const addresses = world.balancers.map((_, i) => world.balancerAddress(i));
  const { ca, certificate, key } = certificates(directory, addresses);
  const routes = addresses.map((one) => `nats-route://${one}:6222`);
  const nodes = world.balancers.map((where, i): NatsNode => {
    const store = join(directory, `nats${i}`);
    mkdirSync(store);
    const file = join(directory, `nats${i}.conf`);
    writeFileSync(
      file,
      `server_name: n${i}
listen: ${addresses[i]}:4222
http: 127.0.0.1:8222
jetstream { store_dir: "${store}", max_mem: 64M, max_file: 64M }
tls { cert_file: "${certificate}", key_file: "${key}", ca_file: "${ca}" }
authorization { user: ${NATS_USER}, password: "${NATS_PASSWORD}" }
cluster { name: lb, listen: ${addresses[i]}:6222, routes: [ ${routes.join(', ')} ], tls { cert_file: "${certificate}", key_file: "${key}", ca_file: "${ca}" } }
`,
    );
    const child = spawn('ip', ['netns', 'exec', where.name, 'nats-server', '-c', file], { stdio: ['ignore', 'ignore', 'ignore'] });
    return { child, monitor: where.name, name: `n${i}` };
  });
  const began = Date.now();
  while (nodes.some((node) => leaderOf(node) === null)) {
    if (Date.now() - began > 20_000) throw new Error('the NATS cluster did not come up in 20 s');
    await pause(200);
  }
  return { nodes, ca };
}

/** Leader of JetStream's meta group, as a node sees it; null: none. */
export function leaderOf(node: NatsNode): string | null {
  try {
    const text = execFileSync('ip', ['netns', 'exec', node.monitor, 'curl', '-s', '-m', '2', 'http://127.0.0.1:8222/jsz'], { encoding: 'utf8' });
    return (JSON.parse(text) as { meta_cluster?: { leader?: string } }).meta_cluster?.leader ?? null;
  } catch {
    return null;
  }
}

/** Leader of the bucket's stream. */
export function bucketLeader(node: NatsNode, bucket: string): string | null {
  try {
    const text = execFileSync('ip', ['netns', 'exec', node.monitor, 'curl', '-s', '-m', '2', 'http://127.0.0.1:8222/jsz?streams=true'], { encoding: 'utf8' });
    const parsed = JSON.parse(text) as { account_details?: { stream_detail?: { name: string; cluster?: { leader?: string } }[] }[] };
    return parsed.account_details?.flatMap((one) => one.stream_detail ?? []).find((one) => one.name === `KV_${bucket}`)?.cluster?.leader ?? null;
  } catch {
    return null;
  }
}
