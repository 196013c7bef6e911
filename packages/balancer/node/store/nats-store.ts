/** NATS JetStream's key-value store, as it is: replicated, with TLS and credentials. One bucket, compare-and-set by revision. */
import { readFileSync } from 'node:fs';
import { Kvm } from '@nats-io/kv';
import type { KV } from '@nats-io/kv';
import { jetstream } from '@nats-io/jetstream';
import { connect, credsAuthenticator } from '@nats-io/transport-node';
import type { ConnectionOptions, NatsConnection, TlsOptions } from '@nats-io/transport-node';
import type { StoreConfig } from '../config.ts';
import { StoreError } from './store.ts';
import type { Entry, Store } from './store.ts';

export type NatsConfig = Extract<StoreConfig, { nats: string[] }>;

/** JetStream's words for a write against the wrong revision. */
const WRONG_LAST_SEQUENCE = 10_071;
const PATIENCE = 2000;
const AGAIN = 300;
const OPEN_TRIES = 5;

export class NatsStore implements Store {
  private readonly connection: NatsConnection;
  private readonly bucket: KV;
  private closed = false;

  private constructor(connection: NatsConnection, bucket: KV) {
    this.connection = connection;
    this.bucket = bucket;
  }

  /** Connects, and makes the bucket when it is missing. Throws {@link StoreError} `UNAVAILABLE`. */
  static async open(config: NatsConfig): Promise<NatsStore> {
    for (let i = 1; ; i++) {
      try {
        return await NatsStore.tryOpen(config);
      } catch (error) {
        // A cluster that has lost its leader has another one in a few seconds.
        if (i === OPEN_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  private static async tryOpen(config: NatsConfig): Promise<NatsStore> {
    const options: ConnectionOptions = {
      servers: config.nats,
      name: 'subflow-lb',
      timeout: PATIENCE,
      reconnect: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: 2000,
      maxPingOut: 2,
      ...(config.user === undefined ? {} : { user: config.user, pass: config.password ?? '' }),
      ...(config.token === undefined ? {} : { token: config.token }),
      ...(config.credentials === undefined ? {} : { authenticator: credsAuthenticator(readFileSync(config.credentials)) }),
      ...(config.tls === undefined ? {} : { tls: tlsOptions(config.tls) }),
    };
    let connection: NatsConnection | null = null;
    try {
      connection = await connect(options);
      const manager = new Kvm(jetstream(connection, { timeout: PATIENCE }));
      // Several balancers may make it at the same time: then it is there.
      const bucket = await manager.create(config.bucket, { replicas: config.replicas, history: 4 }).catch(() => manager.open(config.bucket));
      await bucket.status();
      return new NatsStore(connection, bucket);
    } catch (error) {
      await connection?.close();
      throw new StoreError('UNAVAILABLE', `NATS at ${config.nats.join(', ')}: ${(error as Error).message}`, { cause: error });
    }
  }

  async read(key: string): Promise<Entry | null> {
    try {
      const entry = await this.bucket.get(key);
      return entry === null || entry.operation !== 'PUT' ? null : { value: entry.value, revision: entry.revision };
    } catch (error) {
      throw new StoreError('UNAVAILABLE', `NATS: ${(error as Error).message}`, { cause: error });
    }
  }

  async write(key: string, value: Uint8Array, expected: number): Promise<number> {
    try {
      return await this.bucket.put(key, value, { previousSeq: expected });
    } catch (error) {
      const conflict = (error as { code?: number }).code === WRONG_LAST_SEQUENCE || /wrong last sequence/i.test((error as Error).message);
      throw new StoreError(conflict ? 'CONFLICT' : 'UNAVAILABLE', `NATS: ${(error as Error).message}`, { cause: error });
    }
  }

  watch(key: string, from: number, listener: (entry: Entry) => void): () => void {
    let stopped = false;
    let last = from;
    let stop = (): void => {};
    const follow = async (): Promise<void> => {
      while (!stopped && !this.closed) {
        try {
          const watcher = await this.bucket.watch({ key });
          stop = () => watcher.stop();
          for await (const entry of watcher) {
            if (stopped) return;
            if (entry.operation !== 'PUT' || entry.revision <= last) continue;
            last = entry.revision;
            listener({ value: entry.value, revision: entry.revision });
          }
        } catch {
          // The cluster is away or elects a leader: again in a moment.
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    };
    void follow();
    return () => {
      stopped = true;
      stop();
    };
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.connection.close();
  }
}

/** Servers given by address have no name to look for in their certificates: it is named then. */
function tlsOptions(tls: NonNullable<NatsConfig['tls']>): TlsOptions {
  const options: TlsOptions & { servername?: string } = { caFile: tls.ca };
  if (tls.certificate !== undefined) options.certFile = tls.certificate;
  if (tls.key !== undefined) options.keyFile = tls.key;
  // The transport hands what it does not know to node:tls.
  if (tls.name !== undefined) options.servername = tls.name;
  return options;
}
