/** The store that a configuration names. */
import type { Server } from 'node:net';
import type { LbConfig } from '../config.ts';
import { LogStore } from './log-store.ts';
import { NatsStore } from './nats-store.ts';
import { RemoteStore, serveStore } from './remote-store.ts';
import type { Store } from './store.ts';

export interface OpenStore {
  store: Store;
  close(): Promise<void>;
}

/** Without one a log under /var/lib/subflow. Throws {@link StoreError}. */
export async function openStore(config: LbConfig): Promise<OpenStore> {
  const chosen = config.store ?? { log: `/var/lib/subflow/lb-${config.name}.log` };
  if ('nats' in chosen) {
    const store = await NatsStore.open(chosen);
    return { store, close: () => store.close() };
  }
  if ('remote' in chosen) {
    const [host, port] = endOf(chosen.remote);
    const store = new RemoteStore(host, port, chosen.token ?? null);
    return { store, close: () => store.close() };
  }
  const store = new LogStore(chosen.log);
  let server: Server | null = null;
  if (chosen.listen !== undefined) {
    const [host, port] = endOf(chosen.listen);
    server = await serveStore(store, host, port, chosen.token ?? null);
  }
  return {
    store,
    close: async () => {
      server?.close();
      await store.close();
    },
  };
}

/** ADDRESS:PORT, taken apart; IPv6 in brackets. */
export function endOf(text: string): [string, number] {
  const at = text.lastIndexOf(':');
  return [text.slice(0, at).replace(/^\[(.*)\]$/, '$1'), Number(text.slice(at + 1))];
}
