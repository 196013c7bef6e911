/**
 * The one catalogue of what can happen. Logs, metrics, the dashboard, the trace tool and tests read it; nothing else
 * reports. `time` is in microseconds of the host's clock; positions count bytes of the connection's data stream from 1.
 * docs/events.md lists the fields once more for readers of JSON.
 */
import type { CloseReason } from './tcp/state.ts';

export type FallbackReason =
  | 'peer-not-capable'
  | 'third-ack-without-option'
  | 'no-dss-in-first-data'
  | 'no-data-ack'
  | 'dss-stripped'
  | 'infinite-mapping'
  | 'checksum-failure'
  | 'mp-fail'
  | 'simultaneous-open'
  | 'syn-timeout'
  | 'disabled'
  | 'checksum-refused'
  | 'no-token';

export type StackEvent =
  | { type: 'connection-created'; time: number; connection: number; local: string; remote: string; active: boolean }
  | { type: 'connection-accepted'; time: number; connection: number; listener: number; multipath: boolean }
  | { type: 'connection-established'; time: number; connection: number; multipath: boolean; localToken: number; remoteToken: number; checksum: boolean }
  | { type: 'connection-fallback'; time: number; connection: number; reason: FallbackReason }
  | { type: 'connection-readable'; time: number; connection: number }
  | { type: 'connection-writable'; time: number; connection: number }
  | { type: 'connection-end'; time: number; connection: number }
  | { type: 'connection-closed'; time: number; connection: number; reason: CloseReason }
  | {
      type: 'subflow-created';
      time: number;
      connection: number;
      subflow: number;
      local: string;
      remote: string;
      interface: string;
      active: boolean;
      backup: boolean;
    }
  | { type: 'subflow-established'; time: number; connection: number; subflow: number; localId: number; remoteId: number; rtt: number }
  | { type: 'subflow-stale'; time: number; connection: number; subflow: number; timeouts: number }
  | { type: 'subflow-recovered'; time: number; connection: number; subflow: number }
  | { type: 'subflow-priority'; time: number; connection: number; subflow: number; backup: boolean; byPeer: boolean }
  | { type: 'subflow-closed'; time: number; connection: number; subflow: number; reason: CloseReason; resetReason: number | null; transient: boolean }
  | { type: 'address-announced'; time: number; connection: number; addressId: number; address: string; port: number | null; byPeer: boolean }
  | { type: 'address-echoed'; time: number; connection: number; addressId: number }
  | { type: 'address-removed'; time: number; connection: number; addressId: number; byPeer: boolean }
  | { type: 'data-scheduled'; time: number; connection: number; subflow: number; position: number; length: number }
  | { type: 'data-received'; time: number; connection: number; subflow: number; position: number; length: number }
  | { type: 'data-acknowledged'; time: number; connection: number; position: number }
  | { type: 'reinjection'; time: number; connection: number; from: number; position: number; length: number; cause: 'timeout' | 'closed' | 'data-timeout' }
  | { type: 'checksum-failure'; time: number; connection: number; subflow: number; position: number }
  | {
      type: 'congestion';
      time: number;
      connection: number;
      subflow: number;
      kind: 'fast-recovery' | 'timeout' | 'tail-loss-probe' | 'recovered' | 'ecn';
      cwnd: number;
      ssthresh: number;
    }
  | { type: 'opportunistic-retransmission'; time: number; connection: number; from: number; to: number; position: number; length: number }
  | { type: 'penalisation'; time: number; connection: number; subflow: number; cwnd: number }
  | { type: 'version-retry'; time: number; connection: number; refused: number; next: number }
  | { type: 'listener-created'; time: number; listener: number; address: string | null; port: number }
  | { type: 'listener-closed'; time: number; listener: number; address: string | null; port: number }
  | { type: 'drop'; time: number; interface: string; reason: string };

export type StackEventType = StackEvent['type'];
